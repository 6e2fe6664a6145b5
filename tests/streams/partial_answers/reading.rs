//! A reader's part of an answer that is cut, begins again, or is whole.

use futures_util::{StreamExt as _, stream};
use steadfast::{
    ErrorKind, Event, Events, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, ObserveLayer,
    StreamEvent,
    body::{Accumulator, Delivery},
    chat::{FinishReason, Message, Usage},
    events::{RequestEnded, RequestOutcome},
    layers::fallback::{FeaturePolicy, StreamBreak},
    provider_fn,
};
use steadfast_agent::{Actions, AnswerEvent, AnswerReader};
use tokio::time::{sleep, timeout};
use tower::{ServiceBuilder, ServiceExt};

use crate::partial_answers::{SECOND, Tool};

fn text(text: &str) -> StreamEvent {
    StreamEvent::Text { index: 0, text: text.into() }
}

fn begins(index: u32, id: &str, name: &str) -> StreamEvent {
    StreamEvent::ToolCall { index, id: id.into(), name: name.into(), opaque: None }
}

fn arguments(index: u32, json: &str) -> StreamEvent {
    StreamEvent::Arguments { index, json: json.into() }
}

/// A whole answer: a thought, text and two tool calls, in pieces.
fn whole() -> Vec<StreamEvent> {
    vec![
        StreamEvent::Start { id: Some("msg_1".into()), model: Some("sonnet".into()) },
        StreamEvent::Usage(Usage::new(20, 1)),
        StreamEvent::Reasoning { index: 0, text: "They want a seat.".into() },
        StreamEvent::KeepAlive,
        text("I book "),
        text("it für you."),
        begins(1, "call_1", "book"),
        arguments(1, r#"{"row":"#),
        arguments(1, "12}"),
        begins(2, "call_2", "mail"),
        arguments(2, r#"{"to":"me"}"#),
        StreamEvent::Usage(Usage::new(20, 40)),
        StreamEvent::Finish(FinishReason::ToolUse),
        StreamEvent::End,
    ]
}

fn body(events: Vec<StreamEvent>) -> LlmBody {
    LlmBody::from_frames(stream::iter(events.into_iter().map(|event| Ok(Frame::event(event)))))
}

/// Returns the report of a request that was answered with these events.
async fn told(events: Vec<StreamEvent>, reads: usize) -> RequestEnded {
    let channel = Events::new();
    let mut heard = channel.subscribe();
    let leaf = provider_fn(move |_| {
        let answer = LlmResponse::new(body(events.clone()));
        async { Ok::<_, LlmError>(answer) }
    })
    .inner_commits();
    let llm = ServiceBuilder::new().layer(ObserveLayer::new(channel)).service(leaf);
    let mut body = llm.oneshot(LlmRequest::prompt("x").with_stream(true)).await.unwrap().into_body();
    for _ in 0..reads {
        if body.frame().await.is_none() {
            break;
        }
    }
    drop(body);
    match heard.try_recv().unwrap() {
        Event::RequestEnded(ended) => ended,
        other => panic!("{other:?}"),
    }
}

/// The bytes of the model's own words: no ids and no signatures.
fn of_the_model(event: &StreamEvent) -> usize {
    match event {
        StreamEvent::Text { text, .. } | StreamEvent::Reasoning { text, .. } => text.len(),
        StreamEvent::ToolCall { name, .. } => name.len(),
        StreamEvent::Arguments { json, .. } => json.len(),
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_at_any_frame_is_an_error_with_all_that_was_delivered_and_never_complete() {
    let events = whole();
    for cut_at in 0..events.len() {
        let before = events[..cut_at].to_vec();
        let mut expected = Accumulator::default();
        before.iter().for_each(|event| expected.push(event));

        let mut reader = AnswerReader::new(body(before.clone()));
        let mut shown = String::new();
        let cut = loop {
            match reader.next().await.expect("the error comes before the end") {
                Ok(AnswerEvent::Text(text)) => shown.push_str(&text),
                Ok(AnswerEvent::Completed(_)) => panic!("cut at {cut_at}, it is not complete"),
                Ok(_) => {}
                Err(cut) => break cut,
            }
        };
        assert!(reader.next().await.is_none());
        assert_eq!(cut.kind(), ErrorKind::StreamBroken);
        let partial = cut.partial();
        assert_eq!(*partial.message(), expected.finish(), "cut at {cut_at}");
        assert_eq!(partial.text(), shown);
        // A call is whole when the next part has begun, or the model said why it stops.
        let (complete, incomplete) = (partial.tool_calls().count(), partial.incomplete_tool_calls().count());
        let calls = match cut_at {
            0..7 => (0, 0),
            7..10 => (0, 1),
            10..13 => (1, 1),
            _ => (2, 0),
        };
        assert_eq!((complete, incomplete), calls, "cut at {cut_at}");
        assert_eq!(
            partial.usage().map(|usage| usage.output),
            [None, Some(1), Some(40)][usize::from(cut_at > 1) + usize::from(cut_at > 11)]
        );

        // The same is told, and no word of it.
        let ended = told(before.clone(), usize::MAX).await;
        assert_eq!(ended.outcome, RequestOutcome::Broken(ErrorKind::StreamBroken));
        assert_eq!(ended.delivered.as_deref(), Some(&partial.delivered()), "cut at {cut_at}");
        // The provider's count, and at least a token for four bytes of the model's words that came.
        let words: usize = before.iter().map(of_the_model).sum();
        let mut counted = partial.usage().unwrap_or_default();
        counted.output = counted.output.max((words as u64).div_ceil(4));
        assert_eq!(ended.usage, (counted != Usage::default()).then_some(counted), "cut at {cut_at}");
        for said in [format!("{ended:?}"), format!("{cut:?} {cut}"), format!("{partial:?}")] {
            assert!(!["book ", "für", "row", "want a seat"].iter().any(|word| said.contains(word)), "{said}");
        }
        assert_eq!(LlmError::from(cut).kind(), ErrorKind::StreamBroken);
    }
    let completed = AnswerReader::new(body(whole())).complete().await.unwrap();
    assert_eq!(completed.tool_calls().count(), 2);
    assert!(told(whole(), usize::MAX).await.delivered.is_none(), "it was whole");
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_a_cut_is_frames_characters_bytes_and_calls() {
    let Delivery { frames, characters, bytes, tool_calls, restarts, .. } =
        *told(whole()[..9].into(), 99).await.delivered.unwrap();
    assert_eq!((frames, characters, tool_calls, restarts), (6, 18, 1, 0));
    assert_eq!(bytes, ("They want a seat.I book it für you.call_1book".len() + r#"{"row":12}"#.len()) as u64);

    // One who leaves knows what it has read, and to tell of it would cost an allocation.
    let left = told(whole(), 5).await;
    assert_eq!(left.outcome, RequestOutcome::Abandoned);
    assert!(left.delivered.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_one_signal_and_what_came_before_is_neither_kept_nor_done() {
    let events = whole();
    for cut_at in 3..events.len() {
        let first = events[..cut_at].to_vec();
        let primary = provider_fn(move |_| {
            let answer = LlmResponse::new(body(first.clone()));
            async { Ok::<_, LlmError>(answer) }
        });
        let backup = provider_fn(|_| async {
            let events = vec![
                text("Again."),
                begins(0, "call_9", "pay"),
                arguments(0, r#"{"amount":1}"#),
                StreamEvent::Finish(FinishReason::ToolUse),
                StreamEvent::End,
            ];
            Ok::<_, LlmError>(LlmResponse::new(body(events)))
        });
        let llm = ServiceBuilder::new()
            .layer(
                FallbackLayer::new("primary")
                    .tier("backup", backup)
                    .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart)),
            )
            .service(primary);
        let response = llm.oneshot(LlmRequest::prompt("x").with_stream(true)).await.unwrap();
        let (mut shown, mut discards) = (String::new(), 0);
        let mut reader = AnswerReader::from(response);
        let answer = loop {
            match reader.next().await.unwrap().unwrap() {
                AnswerEvent::Text(text) => shown.push_str(&text),
                AnswerEvent::Discard { reason } => {
                    assert_eq!(reason, ErrorKind::StreamBroken);
                    (shown, discards) = (String::new(), discards + 1);
                }
                AnswerEvent::Completed(answer) => break *answer,
                _ => {}
            }
        };
        assert_eq!((shown.as_str(), discards), ("Again.", 1), "cut at {cut_at}");
        assert_eq!((answer.text().as_str(), reader.delivered().restarts), ("Again.", 1));
        let tool = Tool::default();
        let acted = Actions::new().act(&"turn".into(), &answer, tool.uses()).await.unwrap();
        assert_eq!(acted.iter().map(|acted| acted.call.name.as_str()).collect::<Vec<_>>(), ["pay"]);
        assert_eq!(tool.counts(), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn several_restarts_at_once_are_one_signal_and_none_where_nothing_was_shown() {
    let restarted = || StreamEvent::Restarted { reason: ErrorKind::Timeout };
    let all = Frame::events_of(vec![restarted(), text("a"), restarted(), text("b"), StreamEvent::End]);
    let pieces: Vec<_> = AnswerReader::new(LlmBody::from_frames(stream::iter([Ok(all)]))).collect().await;
    let names: Vec<_> = pieces.iter().map(|piece| format!("{:?}", piece.as_ref().unwrap())).collect();
    assert_eq!(names[0], "Text(1 bytes)");
    assert!(names[1].starts_with("Completed") && names.len() == 2, "{names:?}");

    let body = body(vec![text("a"), restarted(), restarted(), text("b"), restarted(), StreamEvent::End]);
    let pieces: Vec<_> = AnswerReader::new(body).map(|piece| format!("{:?}", piece.unwrap())).collect().await;
    let discards = pieces.iter().filter(|piece| piece.starts_with("Discard")).count();
    assert_eq!((discards, pieces.len()), (2, 5), "{pieces:?}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_read_like_a_streamed_one() {
    let message = Message::assistant("Hello.");
    let answer = AnswerReader::from(LlmResponse::from_message(message)).complete().await.unwrap();
    assert_eq!(answer.text(), "Hello.");
}

#[tokio::test(start_paused = true)]
async fn a_reader_dropped_and_asked_again_at_every_poll_loses_no_piece() {
    let slow = stream::iter(whole()).then(|event| async {
        sleep(SECOND).await;
        Ok(Frame::event(event))
    });
    let mut reader = AnswerReader::new(LlmBody::from_frames(slow));
    let mut pieces = 0;
    let answer = loop {
        // Gives up ten times for each piece.
        match timeout(SECOND / 10, reader.next()).await {
            Err(_) => {}
            Ok(Some(Ok(AnswerEvent::Completed(answer)))) => break *answer,
            Ok(Some(Ok(_))) => pieces += 1,
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(pieces, 5);
    assert_eq!(answer, AnswerReader::new(body(whole())).complete().await.unwrap());
    // And one who reads no further has what it had.
    let mut reader = AnswerReader::new(body(whole()));
    while !matches!(reader.next().await, Some(Ok(AnswerEvent::ToolCall { .. }))) {}
    assert_eq!(reader.into_partial().text(), "I book it für you.");
}
