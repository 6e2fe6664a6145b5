use std::{
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Layer, Service as _, ServiceExt};

use super::{RouteLayer, Rule};
use crate::{
    ErrorKind, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, TimeoutLayer, Wire,
    chat::{Message, Usage},
    layers::testing::Strict,
    ledger::{Next, Stop},
    prices::{Price, PriceTable, Usd},
    provider_fn,
};

fn summary() -> LlmRequest {
    LlmRequest::prompt("hello").with_feature("summary")
}

fn to(cheap: Strict) -> RouteLayer {
    RouteLayer::new().rule(Rule::new("short").feature("summary"), cheap)
}

fn failing(kind: ErrorKind) -> Strict {
    Strict::new().fails(100, LlmError::new(kind, "scripted"))
}

#[tokio::test(start_paused = true)]
async fn the_first_rule_that_fits_takes_the_request() {
    let [dear, one, two] = [Strict::new(), Strict::new(), Strict::new()];
    let llm =
        to(one.clone()).rule(Rule::new("any").when(|request| !request.is_stream()), two.clone()).layer(dear.clone());
    for (request, route) in [
        (summary(), Some("short")),
        (summary().with_feature("chat"), Some("any")),
        (summary().with_feature("chat").with_stream(true), None),
        // It is for the model of its conversation.
        (LlmRequest::from(Wire::compaction(r#"{"model":"m"}"#).unwrap()).with_feature("summary"), None),
    ] {
        assert_eq!(llm.clone().oneshot(request).await.unwrap().route(), route);
    }
    assert_eq!((one.calls(), two.calls(), dear.calls()), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_default_chain_serves_when_the_cheap_one_fails() {
    for kind in [ErrorKind::Server, ErrorKind::Auth, ErrorKind::CircuitOpen, ErrorKind::ContextLength] {
        let dear = Strict::new();
        let answer = to(failing(kind)).layer(dear.clone()).oneshot(summary()).await.unwrap();
        let [failed] = answer.attempts() else { panic!("{:?}", answer.attempts()) };
        assert_eq!(
            (failed.tier.as_deref(), failed.failure, failed.next),
            (Some("short"), Some(kind), Next::FailedOver)
        );
        assert_eq!((answer.route(), dear.calls()), (None, 1), "nothing was saved");
        let left = dear.seen()[0].context().attempts_left;
        assert_eq!(left, if kind.is_local() { 9 } else { 8 }, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_other_can_help_with_stops() {
    for kind in [ErrorKind::InvalidRequest, ErrorKind::Refusal, ErrorKind::ContentPolicy] {
        let dear = Strict::new();
        let error = to(failing(kind)).layer(dear.clone()).oneshot(summary()).await.unwrap_err();
        assert_eq!((error.kind(), dear.calls()), (kind, 0));
        assert_eq!(error.attempts()[0].next, Next::Stopped(Stop::Kind));
    }
    let dear = Strict::new();
    let error =
        to(failing(ErrorKind::Server)).layer(dear.clone()).oneshot(summary().with_max_attempts(1)).await.unwrap_err();
    assert_eq!((error.attempts()[0].next, dear.calls()), (Next::Stopped(Stop::Attempts), 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_fallback_has_all_its_time_and_attempts_in_the_rules_chain_and_fails_with_it() {
    let (cheap, dear) = (failing(ErrorKind::Server), Strict::new());
    let asked = summary().no_fallback().with_timeout(Duration::from_secs(10)).with_max_attempts(3);
    let error = to(cheap.clone()).layer(dear.clone()).oneshot(asked).await.unwrap_err();
    assert_eq!((error.kind(), dear.calls()), (ErrorKind::Server, 0));
    assert_eq!(error.attempts()[0].next, Next::Stopped(Stop::Policy));
    let context = *cheap.seen()[0].context();
    assert_eq!((context.attempts_left, context.tiers_left), (3, 0));
    assert_eq!(context.time_left(Instant::now()), Some(Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_default_chain_leads_and_both_are_on_record() {
    let dear = FallbackLayer::new("primary").layer(failing(ErrorKind::Overloaded));
    let error = to(failing(ErrorKind::Server)).layer(dear).oneshot(summary()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let steps: Vec<_> = error.attempts().iter().map(|step| (step.tier.as_deref(), step.failure)).collect();
    assert_eq!(steps, [(Some("short"), Some(ErrorKind::Server)), (Some("primary"), Some(ErrorKind::Overloaded))]);
}

#[tokio::test(start_paused = true)]
async fn a_cheap_chain_that_hangs_leaves_time_for_the_default_one() {
    let hung = Strict::new().takes(Duration::from_secs(3600));
    let llm = to(hung.clone()).reserve_for_default(Duration::from_secs(4)).layer(Strict::new());
    let begun = Instant::now();
    let answer = llm.oneshot(summary().with_timeout(Duration::from_secs(10))).await.unwrap();
    assert_eq!((begun.elapsed(), answer.attempts()[0].failure), (Duration::from_secs(6), Some(ErrorKind::Timeout)));
    assert_eq!(hung.running(), 0);
    assert_eq!(hung.seen()[0].context().tiers_left, 1);
}

#[tokio::test(start_paused = true)]
async fn a_limit_further_out_that_ends_the_default_chain_loses_nothing_of_the_cheap_one() {
    let limit = Duration::from_secs(10);
    let hung = Strict::new().takes(Duration::from_secs(3600));
    let routed = || to(failing(ErrorKind::Server)).layer(hung.clone());
    let begun = Instant::now();
    let ended = [
        TimeoutLayer::new(limit).layer(routed()).oneshot(summary()).await,
        routed().oneshot(summary().with_timeout(limit)).await,
    ];
    assert_eq!((begun.elapsed(), hung.running()), (2 * limit, 0));
    for ended in ended {
        let error = ended.unwrap_err();
        let steps: Vec<_> = error.attempts().iter().map(|step| (step.tier.as_deref(), step.failure)).collect();
        assert_eq!(steps, [(Some("short"), Some(ErrorKind::Server)), (None, Some(ErrorKind::Timeout))]);
        assert_eq!((error.kind(), error.attempts()[1].took), (ErrorKind::Timeout, limit));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unready_chain_is_waited_for_and_a_dropped_call_leaves_nothing() {
    let cheap = Strict::new().pending(3).takes(Duration::from_secs(1));
    let mut llm = to(cheap.clone()).layer(Strict::new());
    drop(llm.call(summary()));
    assert_eq!(llm.ready().await.unwrap().call(summary()).await.unwrap().route(), Some("short"));
    let mut call = tokio_test::task::spawn(llm.call(summary()));
    for _ in 0..5 {
        assert!(call.poll().is_pending());
    }
    assert_eq!(cheap.running(), 1);
    drop(call);
    assert_eq!(cheap.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn savings_are_what_the_same_tokens_would_have_cost() {
    let cheap = provider_fn(|request: LlmRequest| async move {
        let usage = Usage::new(1_000_000, 0);
        let response = match request.is_stream() {
            false => {
                let mut message = Message::assistant("hello");
                message.usage = Some(usage);
                LlmResponse::from_message(message)
            }
            true => {
                let text = StreamEvent::Text { index: 0, text: "hello".into() };
                let frames = [text, StreamEvent::Usage(usage), StreamEvent::End].map(|event| Ok(Frame::event(event)));
                LlmResponse::new(LlmBody::from_frames(futures_util::stream::iter(frames)))
            }
        };
        Ok::<_, LlmError>(response.with_model("mine", "small"))
    });
    let dollars = |input| Price::dollars(input, 1.0).unwrap();
    let prices = PriceTable::empty().with("small", dollars(1.0)).with("large", dollars(5.0));
    let layer = RouteLayer::new().rule(Rule::new("all"), cheap).prices(prices.clone());
    assert!(layer.clone().instead_of(None, "unheard-of").checked().is_err());
    let llm = layer.instead_of(None, "large").layer(Strict::new());
    let answer = llm.clone().oneshot(summary()).await.unwrap().with_prices(&prices);
    assert_eq!((answer.cost(), answer.cost_without_route()), (Usd::from_dollars(1.0), Usd::from_dollars(5.0)));

    let mut answer = llm.oneshot(summary().with_stream(true)).await.unwrap();
    assert_eq!((answer.cost_without_route(), answer.price_without_route()), (None, Some(&dollars(5.0))));
    while answer.body_mut().frame().await.is_some() {}
    assert_eq!(answer.cost_without_route(), Usd::from_dollars(5.0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fits_no_rule_costs_nothing() {
    let leaf = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let mut llm = to(Strict::new()).layer(leaf);
    let request = summary().with_feature("chat");
    let measured = allocation_counter::measure(|| {
        let mut context = Context::from_waker(Waker::noop());
        assert!(std::pin::pin!(llm.call(request.clone())).poll(&mut context).is_ready());
    });
    assert_eq!(measured.count_total, 0);
}
