//! The messages that an operator reads.

use std::time::Duration;

use futures_util::future::join_all;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmError, RetryWithJitterLayer, TimeoutLayer,
    layers::bulkhead::Limits,
    providers::{Simulated, simulated::Fault},
};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::traps::fixtures::{Fake, ask, error, secs};

/// The message of each failure for somebody who sees one line of a log.
#[tokio::test(start_paused = true)]
async fn each_failure_says_what_happened_where_and_what_to_do() {
    let open = CircuitBreakerLayer::new("sonnet");
    open.handle().force_open();
    let tripped = CircuitBreakerLayer::new("sonnet")
        .consecutive_failures(1)
        .cooldown(secs(60))
        .layer(Fake::fails(ErrorKind::Server));
    tripped.clone().oneshot(ask()).await.unwrap_err();
    let full = BulkheadLayer::new().feature("chat", Limits::new(1).requests_per_minute(1)).layer(Fake::answers());
    full.clone().oneshot(ask()).await.unwrap();
    let throttled = Simulated::new("sonnet").fault_mix(Fault::RateLimited { retry_after: Some(secs(90)) });
    let all = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", TimeoutLayer::new(secs(5)).layer(Fake::hangs())))
        .layer(RetryWithJitterLayer::new().seed(1))
        .service(Fake::fails(ErrorKind::Overloaded));

    // Said at once: what it is worth waiting for is counted from when it is asked.
    let mut says = Vec::new();
    let mut heard = |failure: LlmError, words: &[&'static str]| {
        says.push((failure.to_string(), failure, words.to_vec()));
    };
    let failure = TimeoutLayer::new(secs(30)).layer(Fake::hangs()).oneshot(ask()).await.unwrap_err();
    heard(failure, &["timed out", "30s", "waiting for the answer", "raise the limit"]);
    let failure =
        TimeoutLayer::new(secs(90)).layer(Fake::hangs()).oneshot(ask().with_timeout(secs(7))).await.unwrap_err();
    heard(failure, &["timed out", "deadline", "7s"]);
    let failure = open.layer(Fake::answers()).oneshot(ask()).await.unwrap_err();
    heard(failure, &["circuit", "sonnet", "by hand"]);
    let failure = tripped.oneshot(ask()).await.unwrap_err();
    heard(failure, &["circuit", "sonnet", "failures in a row", "worth retrying in"]);
    let failure = full.oneshot(ask()).await.unwrap_err();
    heard(failure, &["bulkhead refused", "chat", "over its rate of requests", "worth retrying in"]);
    let failure = RetryWithJitterLayer::new().layer(throttled).oneshot(ask()).await.unwrap_err();
    heard(failure, &["rate limited", "sonnet", "HTTP 429", "90 s", "slow down"]);
    let failure = all.oneshot(ask()).await.unwrap_err();
    heard(failure, &["overloaded", "4 steps"]);
    for (said, failure, words) in says {
        println!("{said}");
        for attempt in failure.attempts() {
            println!("    {attempt}");
        }
        for word in words {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
        assert!(!said.contains("closures"), "{said:?} shows the prompt");
        assert!(!format!("{failure:?}").contains("closures"));
        assert!(!said.contains('\n') && said.len() < 300, "{said:?}");
    }
}

/// Kind, status and text of each kind of failure are one line without doubled words.
#[tokio::test(start_paused = true)]
async fn every_kind_of_failure_has_a_sentence_and_advice() {
    let all = ErrorKind::ALL.iter().map(|kind| async {
        let said = error(*kind).with_retry_after(Duration::MAX).to_string();
        println!("{said}");
        assert!(said.contains(": scripted; "), "{said}");
        assert!(said.split("; ").count() >= 2, "{said}");
    });
    join_all(all).await;
}
