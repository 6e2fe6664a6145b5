//! Tests of a feature that accepts only the best tier and waits until it works.

use futures_util::future::join_all;

use super::*;
use crate::CircuitBreakerLayer;

const SECOND: Duration = Duration::from_secs(1);

/// A tier whose circuit opens at its first failure and probes every ten seconds, followed by a fixed sentence that
/// code may not have.
fn layer(events: &Events) -> FallbackLayer {
    FallbackLayer::new("full")
        .push(Tier::new("fixed", Canned::text("later")).level(5))
        .feature("code", queued(SECOND * 600))
        .events(events.clone())
}

fn queued(longest: Duration) -> FeaturePolicy {
    FeaturePolicy::new().worst_level(1).all_open(AllOpen::Queue(longest))
}

fn circuit() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new("full").consecutive_failures(1).cooldown(SECOND * 10).cooldown_jitter(0.0)
}

fn code() -> LlmRequest {
    prompt().with_feature("code")
}

fn by(seconds: u32) -> LlmRequest {
    let mut request = code();
    request.context_mut().deadline = Some(Instant::now() + SECOND * seconds);
    request
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_is_answered_in_full_once_its_tier_is_back() {
    let (events, leaf) = (Events::new(), Strict::new().fails(3, error(ErrorKind::Server)));
    let mut heard = events.subscribe();
    let llm = layer(&events).layer(circuit().layer(leaf.clone()));
    let start = Instant::now();
    let waiting = tokio::spawn(llm.clone().oneshot(by(60)));
    tokio::time::sleep(SECOND * 5).await;
    let other = llm.clone().oneshot(prompt().with_feature("chat")).await.unwrap();
    assert_eq!((tier_of(&other).as_str(), start.elapsed()), ("fixed", SECOND * 5), "others do not wait");
    assert!(!waiting.is_finished());
    let response = waiting.await.unwrap().unwrap();
    assert_eq!((tier_of(&response).as_str(), response.degraded(), leaf.calls()), ("full", None, 4));
    // Nothing else is left for it: single calls go through after 1, 2 and 4 s.
    assert!((SECOND * 6..SECOND * 9).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(response.attempts().len() < 10, "not every second's refusal is on record: {:?}", response.attempts());
    let told: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    assert!(!told.iter().any(|event| matches!(event, Event::AllTiersFailed { .. })), "it has an answer: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_whose_time_is_over_hears_when_to_come_back() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let llm = layer(&events).layer(circuit().layer(failing(ErrorKind::Server)));
    let start = Instant::now();
    let error = llm.oneshot(by(25)).await.unwrap_err();
    assert!((SECOND * 23..=SECOND * 25).contains(&start.elapsed()), "{:?}", start.elapsed());
    let after = error.retry_after().expect("the circuit says when");
    assert!(after <= SECOND * 10, "{after:?}");
    assert!(error.attempts().iter().any(|step| step.next == Next::Skipped), "the record says what it may not have");
    let told: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    let failed = told.iter().filter(|event| matches!(event, Event::AllTiersFailed { .. })).count();
    assert_eq!(failed, 1, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_it_waits_as_long_as_is_set() {
    let llm =
        layer(&Events::new()).feature("code", queued(SECOND * 15)).layer(circuit().layer(failing(ErrorKind::Server)));
    let start = Instant::now();
    llm.oneshot(code()).await.unwrap_err();
    assert!((SECOND * 13..=SECOND * 15).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_queue_sends_one_probe_at_a_time_and_all_are_answered_within_a_second_of_the_first() {
    let leaf = Strict::new().takes(SECOND).fails(3, error(ErrorKind::Server));
    let llm = layer(&Events::new()).layer(circuit().layer(leaf.clone()));
    llm.clone().oneshot(by(1)).await.unwrap_err();
    let start = Instant::now();
    let answers = join_all((0..100).map(|_| llm.clone().oneshot(by(120)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(start.elapsed() < SECOND * 40, "{:?}", start.elapsed());
    assert_eq!(leaf.calls(), 3 + 100, "each failure was one probe's");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_itself_is_not_waited_for() {
    for kind in [ErrorKind::InvalidRequest, ErrorKind::ContextLength, ErrorKind::ContentPolicy, ErrorKind::TooLarge] {
        let (leaf, start) = (failing(kind), Instant::now());
        let failed = layer(&Events::new()).layer(leaf.clone()).oneshot(by(60)).await.unwrap_err();
        assert_eq!((failed.kind(), leaf.calls(), start.elapsed()), (kind, 1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_spends_no_more_attempts_than_it_has() {
    let leaf = failing(ErrorKind::Server);
    let failed = layer(&Events::new()).layer(leaf.clone()).oneshot(by(600).with_max_attempts(4)).await.unwrap_err();
    assert_eq!((failed.kind(), leaf.calls()), (ErrorKind::Server, 4), "there is no circuit that could say when");
}
