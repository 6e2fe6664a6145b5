//! Tests of the failure that a change of state reports.

use http::StatusCode;
use tokio::time::advance;

use super::*;
use crate::{
    Event, Events,
    events::{CircuitReason, CircuitState, Failure},
};

fn unavailable() -> LlmError {
    let message = "Service unavailable for the prompt about Miller";
    LlmError::new(ErrorKind::Server, message).with_status(StatusCode::SERVICE_UNAVAILABLE)
}

async fn ask(bench: &mut Bench, id: &str) -> Result<LlmResponse, LlmError> {
    std::future::poll_fn(|cx| bench.service.poll_ready(cx)).await?;
    bench.service.call(LlmRequest::prompt("hello").with_id(id)).await
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_says_what_failed() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let broken = LlmError::new(ErrorKind::Connect, "connection refused");
    let leaf = Strict::new().script([Err(server()), Err(unavailable()), Err(broken)]);
    let mut bench = Bench::new(layer().consecutive_failures(2).events(events), leaf);
    ask(&mut bench, "first").await.expect_err("a failure");
    ask(&mut bench, "second").await.expect_err("a failure");
    advance(COOLDOWN).await;
    ask(&mut bench, "probe").await.expect_err("a failure");
    advance(COOLDOWN * 10).await;
    ask(&mut bench, "good").await.expect("an answer");
    bench.handle.force_open();
    let changes: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok())
        .filter_map(|event| match event {
            Event::CircuitChanged { to, reason, failure, .. } => Some((to, reason, failure)),
            _ => None,
        })
        .collect();
    let told = |(to, reason, failure): &(CircuitState, CircuitReason, Option<Failure>)| {
        let words = failure.as_ref().map(|failure| {
            let Failure { kind, status, message, request_id, .. } = failure;
            format!("{kind} {status:?} {message:?} {request_id:?}")
        });
        format!("{to}: {reason}; {}", words.unwrap_or_default())
    };
    let changes: Vec<_> = changes.iter().map(told).collect();
    assert_eq!(
        changes,
        [
            r#"open: failures; server Some(503) Some("Service unavailable for the …") Some("second")"#,
            "half-open: the cooldown is over; ",
            r#"open: the probe failed; connect None Some("connection refused") Some("probe")"#,
            "half-open: the cooldown is over; ",
            "closed: the probe succeeded; ",
            "open: by hand; ",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_and_a_throttle_say_what_the_provider_said() {
    let quota = LlmError::new(ErrorKind::QuotaExhausted, "You exceeded your current quota")
        .with_status(StatusCode::TOO_MANY_REQUESTS)
        .with_code("insufficient_quota");
    let throttled = LlmError::new(ErrorKind::RateLimited, "Rate limit reached")
        .with_status(StatusCode::TOO_MANY_REQUESTS)
        .with_retry_after(SECOND * 30);
    for (error, words) in [(quota, "You exceeded your current quota"), (throttled, "Rate limit reached")] {
        let events = Events::new();
        let mut heard = events.subscribe();
        let mut bench = Bench::new(layer().events(events), Strict::new().fails(2, error));
        // One call's word for a used-up quota is not enough.
        for _ in 0..2 {
            bench.call().await.expect_err("a failure");
        }
        let Ok(Event::CircuitChanged { failure: Some(failure), .. }) = heard.try_recv() else { panic!("{words}") };
        assert_eq!((failure.status, failure.message.as_deref()), (Some(429), Some(words)));
    }
}
