//! Tests of a comparison's content.

use super::*;
use crate::{
    Event, Events, FallbackLayer, HedgeLayer,
    chat::{Message, Part, Role, ToolCall},
    prices::{Price, PriceTable, Usd},
    providers::Canned,
};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn both_sides_are_told_when_both_have_ended() {
    let (layer, told, handle) = mirror(streams(SECOND * 2, SECOND, hello()));
    let tiers = FallbackLayer::new("sonnet").layer(streams(SECOND, SECOND, hello()));
    let response = layer.layer(tiers).oneshot(prompt()).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
    assert!(told.all().is_empty(), "the candidate has not ended");
    let Comparison { feature, session, primary, candidate, .. } = told.one(&handle).await;
    assert_eq!((feature.as_deref(), session.as_deref()), (Some("chat"), Some("s")));
    assert_eq!((primary.tier.as_deref(), candidate.tier.as_deref()), (Some("sonnet"), None));
    assert_eq!((primary.first_token, primary.took), (Some(SECOND), SECOND * 4));
    assert_eq!((candidate.first_token, candidate.took), (Some(SECOND * 2), SECOND * 5));
    for side in [&primary, &candidate] {
        assert_eq!((side.outcome, side.stream, side.attempts), (RequestOutcome::Answered, true, 1));
        assert_eq!((side.provider.as_deref(), side.model.as_deref()), (Some("anthropic"), Some("claude-sonnet-4-5")));
        assert_eq!((side.usage, side.cost), (Some(Usage::new(1_000_000, 100_000)), Usd::from_dollars(4.5)));
        assert_eq!((side.finish.clone(), side.characters, side.tool_calls), (Some(FinishReason::Stop), 5, 0));
    }
    let one = told.all().remove(0);
    assert_eq!((one.similarity, one.same_tools, one.agrees, one.texts), (Some(1.0), Some(true), Some(true), None));
    assert_eq!((handle.stats().mirrored, handle.stats().compared), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn whole_answers_are_compared_by_their_words_tools_and_cost() {
    let says = |text: &str, tool: &str| {
        let call = Part::ToolCall(ToolCall::new("id", tool, "{}"));
        let mut message = Message::new(Role::Assistant, vec![Part::Text(text.to_owned()), call]);
        message.usage = Some(Usage::new(1000, 0));
        message.finish = Some(FinishReason::ToolUse);
        LlmResponse::from_message(message)
    };
    let answers = |text: &'static str, tool: &'static str, model: &'static str| {
        provider_fn(move |_| {
            let response = says(text, tool).with_model("own", model);
            async move { Ok::<_, LlmError>(response) }
        })
    };
    let prices = PriceTable::empty().with("dear", Price::dollars(10.0, 0.0).unwrap());
    let run = async |words: (&'static str, &'static str), tool: &'static str| {
        let (layer, told, handle) = mirror(answers(words.1, tool, "dear"));
        let llm = layer.prices(prices.clone()).layer(answers(words.0, "look_up", "unknown"));
        llm.oneshot(prompt()).await.unwrap();
        told.one(&handle).await
    };
    let same = run(("The sky is blue.", "the sky is blue"), "look_up").await;
    assert_eq!((same.same_tools, same.agrees), (Some(true), Some(true)));
    assert_eq!((same.primary.cost, same.candidate.cost), (None, Usd::from_dollars(0.01)));
    assert_eq!((same.candidate.tool_calls, same.candidate.characters), (1, 15));
    let other_tool = run(("The sky is blue.", "The sky is blue."), "send").await;
    assert_eq!((other_tool.similarity, other_tool.agrees), (Some(1.0), Some(false)));
    let other_words = run(("The sky is blue.", "It rains."), "look_up").await;
    assert_eq!((other_words.similarity, other_words.agrees), (Some(0.0), Some(false)));
}

#[tokio::test(start_paused = true)]
async fn the_measure_and_its_threshold_can_be_set() {
    for (from, agrees) in [(0.4, true), (0.6, false)] {
        let (layer, told, handle) = mirror(Canned::text("candidate"));
        let measure = |primary: &Message, candidate: &Message| {
            assert_eq!((primary.text().as_str(), candidate.text().as_str()), ("primary", "candidate"));
            0.5
        };
        let llm = layer.measure(measure).agrees_from(from).layer(Canned::text("primary"));
        llm.oneshot(prompt()).await.unwrap();
        let one = told.one(&handle).await;
        assert_eq!((one.similarity, one.agrees), (Some(0.5), Some(agrees)));
    }
}

#[tokio::test(start_paused = true)]
async fn texts_are_kept_only_if_asked_for_and_never_shown_or_sent_as_an_event() {
    for keep in [false, true] {
        let events = Events::new();
        let mut heard = events.subscribe();
        let (layer, told, handle) = mirror(Canned::text("secret candidate"));
        let llm = layer.keep_texts(keep).events(events).layer(Canned::text("secret primary"));
        llm.oneshot(LlmRequest::prompt("secret question").with_session("secret session")).await.unwrap();
        let one = told.one(&handle).await;
        let texts = one.texts.as_ref().map(|kept| {
            let said = [&kept.primary, &kept.candidate].map(|message| message.as_ref().unwrap().text());
            (kept.chat.as_ref().unwrap().messages[0].text(), said)
        });
        let all = ("secret question".to_owned(), ["secret primary", "secret candidate"].map(str::to_owned));
        assert_eq!(texts, keep.then_some(all));
        assert_eq!(one.session.as_deref(), Some("secret session"));
        assert!(!format!("{:?}", one.texts).contains("secret"));
        let Ok(Event::Mirrored(event)) = heard.try_recv() else { panic!("an event for each comparison") };
        assert_eq!((event.session.clone(), event.texts.clone()), (None, None));
        assert_eq!((&event.primary, &event.candidate, event.agrees), (&one.primary, &one.candidate, one.agrees));
        assert!(!format!("{event:?}").contains("secret"));
        assert!(heard.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_cancelled_for_another_is_an_attempt_of_a_request_that_failed_too() {
    let wrong = Strict::new().takes(SECOND * 3).fails(1, LlmError::new(ErrorKind::InvalidRequest, "wrong"));
    let second = Strict::new().takes(SECOND * 60);
    let hedge = HedgeLayer::new("sonnet").tier("gpt", second.clone()).sessions(true).after(SECOND).extra(1.0);
    let (layer, told, handle) = mirror(Canned::text("hello"));
    layer.layer(hedge.layer(wrong)).oneshot(prompt()).await.unwrap_err();
    assert_eq!((second.calls(), told.one(&handle).await.primary.attempts), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_fails_or_breaks_is_told_as_such() {
    let down = || LlmError::new(ErrorKind::Overloaded, "down").with_model("openai", "gpt-4o");
    let failing = FallbackLayer::new("gpt").layer(Strict::new().fails(1, down()));
    let (layer, told, handle) = mirror(Canned::text("hello"));
    let error = layer.layer(failing).oneshot(prompt()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (ErrorKind::Overloaded, 1));
    let one = told.one(&handle).await;
    assert_eq!(one.primary.outcome, RequestOutcome::Failed(ErrorKind::Overloaded));
    assert_eq!((one.primary.first_token, one.primary.attempts, one.similarity), (None, 1, None));
    assert_eq!((one.primary.tier.as_deref(), one.primary.model.as_deref()), (Some("gpt"), Some("gpt-4o")));
    assert_eq!(one.candidate.outcome, RequestOutcome::Answered);

    let (layer, told, handle) = mirror(Canned::text("hello"));
    let breaks = streams(SECOND, SECOND, vec![Ok(Frame::text("hel")), Err(down())]);
    let mut response = layer.layer(breaks).oneshot(prompt()).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap_err().kind(), ErrorKind::Overloaded);
    assert!(response.body_mut().frame().await.is_none());
    let one = told.one(&handle).await;
    assert_eq!((one.primary.outcome, one.primary.characters), (RequestOutcome::Broken(ErrorKind::Overloaded), 3));
    assert_eq!((one.similarity, one.same_tools, one.agrees), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_began_anew_counts_all_its_tokens_and_its_last_words() {
    let frames = vec![
        Ok(Frame::events_of(vec![
            StreamEvent::Text { index: 0, text: "wrong".into() },
            StreamEvent::Usage(Usage::new(10, 20)),
        ])),
        Ok(Frame::event(StreamEvent::Restarted { reason: ErrorKind::StreamBroken })),
        Ok(Frame::events_of(vec![
            StreamEvent::Text { index: 0, text: "right".into() },
            StreamEvent::Usage(Usage::new(1, 2)),
            StreamEvent::End,
        ])),
    ];
    let (layer, told, handle) = mirror(Canned::text("right"));
    layer.layer(streams(SECOND, SECOND, frames)).oneshot(prompt()).await.unwrap().text().await.unwrap();
    let one = told.one(&handle).await;
    assert_eq!((one.primary.usage, one.primary.characters), (Some(Usage::new(11, 22)), 5));
    assert_eq!(one.agrees, Some(true));
}

#[tokio::test(start_paused = true)]
async fn without_a_sink_or_listener_it_counts_all_the_same() {
    let layer = MirrorLayer::new(Canned::text("hello")).share(1.0);
    let handle = layer.handle();
    layer.layer(Canned::text("hello")).oneshot(prompt()).await.unwrap();
    ended(&handle).await;
    assert_eq!(handle.stats().compared, 1);
}
