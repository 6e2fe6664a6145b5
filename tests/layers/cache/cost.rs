//! The layer's cost.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use steadfast::{
    CacheLayer, Dialect, LlmError, LlmRequest, LlmResponse, Wire, layers::cache::CacheControl, provider_fn,
};
use tokio::time::Instant;
use tower::{Layer, Service};

/// One call and its answer, all of which are there at once.
fn call<S>(llm: &mut S, request: LlmRequest) -> LlmResponse
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(llm.poll_ready(&mut context).is_ready());
    match pin!(llm.call(request)).poll(&mut context) {
        Poll::Ready(response) => response.unwrap(),
        Poll::Pending => unreachable!("the leaf is ready"),
    }
}

fn leaf() -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone {
    provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))))
}

#[tokio::test]
async fn a_request_that_passes_by_costs_no_allocation() {
    let mut llm = CacheLayer::new().layer(leaf());
    let request = LlmRequest::prompt("hello").with_extension(CacheControl::NoStore);
    call(&mut llm, request.clone());
    let measured = allocation_counter::measure(|| drop(black_box(call(&mut llm, request.clone()))));
    assert_eq!(measured.count_total, 0);
}

#[tokio::test]
async fn a_hit_costs_what_its_answer_does_and_no_call() {
    let mut llm = CacheLayer::new().layer(leaf());
    let request = LlmRequest::prompt("hello").with_feature("chat");
    call(&mut llm, request.clone());
    let measured = allocation_counter::measure(|| drop(black_box(call(&mut llm, request.clone()))));
    // The message (its text, its parts, its box), and what the response says of itself.
    assert!(measured.count_total <= 6, "{measured:?}");
}

/// The duration of a hit: run it with `--release -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "it measures time, which means something on a quiet machine and in a release build"]
async fn a_hit_takes_less_than_five_microseconds() {
    let wire = r#"{"model":"gpt-4o","temperature":0.2,"max_tokens":300,"messages":[
        {"role":"system","content":"You are a careful assistant of a shop. Answer in two sentences, and never guess."},
        {"role":"user","content":"How do I reset my password? I have lost the mail that came with my order."}]}"#;
    let requests = [
        ("typed", LlmRequest::prompt("How do I reset my password?").with_feature("chat")),
        ("wire, 300 bytes", LlmRequest::from(Wire::new(Dialect::OpenAi, wire).unwrap()).with_feature("chat")),
    ];
    for (name, request) in requests {
        let mut llm = CacheLayer::new().layer(leaf());
        call(&mut llm, request.clone());
        let mut best = f64::MAX;
        for _ in 0..20 {
            let begun = Instant::now();
            for _ in 0..5_000 {
                black_box(call(&mut llm, black_box(request.clone())));
            }
            best = best.min(begun.elapsed().as_secs_f64() / 5_000.0 * 1e6);
        }
        println!("a hit, {name}: {best:.2} us");
        assert!(best < 5.0, "{name}: {best:.2} us");
    }
}
