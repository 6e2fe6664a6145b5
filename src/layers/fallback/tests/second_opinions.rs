//! Tests of a 400 that names no fault: one other model is asked, once.

use super::*;
use crate::{CircuitBreakerLayer, RetryBudget, events::CircuitState};

/// A provider's 400 in words that nobody knows.
fn unexplained() -> LlmError {
    let mut error = error(ErrorKind::InvalidRequest).with_status(http::StatusCode::BAD_REQUEST);
    error.note_unexplained();
    error
}

fn question(n: usize) -> LlmRequest {
    LlmRequest::prompt(format!("question {n}"))
}

fn refusing(error: &LlmError) -> Strict {
    Strict::new().fails(10_000, error.clone())
}

#[tokio::test(start_paused = true)]
async fn the_next_models_answer_goes_out_and_nobody_is_thought_to_be_down() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let (first, backup) = (refusing(&unexplained()), Strict::new());
    let breaker = CircuitBreakerLayer::new("a");
    let layer = FallbackLayer::new("a").tier("b", backup.clone()).events(events);
    let mut llm = layer.layer(RetryWithJitterLayer::new().layer(breaker.layer(first.clone())));
    let begun = Instant::now();
    for n in 0..3 {
        let answer = llm.ready().await.unwrap().call(prompt()).await.unwrap();
        assert_eq!((tier_of(&answer).as_str(), answer.served_by().attempts), ("b", 2), "{n}");
    }
    // Each request asks the first tier again, once and without a wait.
    assert_eq!((first.calls(), backup.calls(), begun.elapsed()), (3, 3, Duration::ZERO));
    assert_eq!(breaker.handle().state(), CircuitState::Closed);
    let switched: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok())
        .filter(|event| matches!(event, Event::ModelSwitched { .. } | Event::AllTiersFailed { .. }))
        .collect();
    assert!(switched.is_empty(), "{switched:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_second_says_no_third_is_asked_and_the_first_ones_words_go_out() {
    let mistake = error(ErrorKind::InvalidRequest).with_status(http::StatusCode::BAD_REQUEST);
    for second in [
        unexplained(),
        mistake,
        error(ErrorKind::Server),
        error(ErrorKind::Overloaded),
        error(ErrorKind::RateLimited),
        error(ErrorKind::Timeout),
        error(ErrorKind::ContextLength),
        error(ErrorKind::NotFound),
        error(ErrorKind::QuotaExhausted),
    ] {
        let events = Events::new();
        let mut heard = events.subscribe();
        let (first, b, c, d) = (refusing(&unexplained()), refusing(&second), Strict::new(), Strict::new());
        let retried = RetryWithJitterLayer::new().layer(b.clone());
        let layer = FallbackLayer::new("a").tier("b", retried).tier("c", c.clone()).tier("d", d.clone()).events(events);
        let llm = layer.layer(RetryWithJitterLayer::new().layer(first.clone()));
        let begun = Instant::now();
        let told = llm.oneshot(prompt()).await.unwrap_err();
        let kind = second.kind();
        assert_eq!(
            (told.kind(), told.is_unexplained(), told.attempts().len()),
            (ErrorKind::InvalidRequest, true, 2),
            "{kind}"
        );
        assert_eq!((first.calls(), b.calls(), c.calls(), d.calls()), (1, 1, 0, 0), "{kind}");
        assert_eq!((told.attempts()[1].next, begun.elapsed()), (Next::Stopped(Stop::Kind), Duration::ZERO), "{kind}");
        let failed =
            std::iter::from_fn(|| heard.try_recv().ok()).filter(|event| matches!(event, Event::AllTiersFailed { .. }));
        assert_eq!(failed.count(), 0, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_closed_off_is_passed_and_what_is_no_model_is_not_asked() {
    let closed = || Strict::new().fails(10, error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_secs(20)));
    let (people, canned) = (Strict::new(), Canned::text("sorry"));
    let layer = || {
        let layer = FallbackLayer::new("a").push(Tier::new("people", people.clone()).human());
        layer.push(Tier::new("sorry", canned.clone()))
    };
    let answer = layer().tier("b", closed()).tier("c", Strict::new()).layer(refusing(&unexplained()));
    assert_eq!(tier_of(&answer.oneshot(prompt()).await.unwrap()), "c");
    // Nobody else can say: the words are the first one's, and nobody waits for a probe.
    for wait in [AllOpen::Fail, AllOpen::Wait(Duration::from_secs(60)), AllOpen::Queue(Duration::from_secs(60))] {
        let policy = FeaturePolicy::new().all_open(wait);
        for layer in [layer().tier("b", closed()), layer(), FallbackLayer::new("a")] {
            let (first, begun) = (refusing(&unexplained()), Instant::now());
            let llm = layer.default_policy(policy.clone()).layer(first.clone());
            let told = llm.oneshot(prompt()).await.unwrap_err();
            assert_eq!((told.kind(), first.calls(), begun.elapsed()), (ErrorKind::InvalidRequest, 1, Duration::ZERO));
        }
    }
    assert_eq!(people.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_go_nowhere_else_or_has_one_attempt_gets_none() {
    let backup = Strict::new();
    let layer = FallbackLayer::new("a").tier("b", backup.clone());
    for request in [prompt().no_fallback(), prompt().with_max_attempts(1)] {
        let llm = layer.clone().layer(refusing(&unexplained()));
        assert_eq!(llm.oneshot(request).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    }
    let pinned = layer.session(SessionPolicy::Pin);
    let mut pinned = pinned.layer(Strict::new().script([Ok(()), Err(unexplained())]));
    assert!(pinned.ready().await.unwrap().call(prompt().with_session("s")).await.is_ok());
    assert!(pinned.ready().await.unwrap().call(prompt().with_session("s")).await.is_err());
    assert_eq!(backup.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_chain_within_a_chain_asks_for_no_opinion_of_its_own() {
    let wrong = || refusing(&unexplained());
    let (a, b, c, d) = (wrong(), wrong(), wrong(), Strict::new());
    let within = FallbackLayer::new("b").tier("c", c.clone()).layer(b.clone());
    let llm = FallbackLayer::new("a").tier("within", within).tier("d", d.clone()).layer(a.clone());
    assert!(llm.oneshot(prompt()).await.is_err());
    assert_eq!((a.calls(), b.calls(), c.calls(), d.calls()), (1, 1, 0, 0));
    // Behind another's failure a request may be called invalid for what its translation has made of it, as before.
    let (down, b, c, d) = (failing(ErrorKind::Server), wrong(), wrong(), Strict::new());
    let llm = FallbackLayer::new("a").tier("b", b.clone()).tier("c", c.clone()).tier("d", d.clone()).layer(down);
    assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), ErrorKind::Server);
    assert_eq!((b.calls(), c.calls(), d.calls()), (1, 1, 0));
}

/// One caller's bad requests, all different: each is asked for twice, and neither tier is marked.
#[tokio::test(start_paused = true)]
async fn a_storm_of_one_callers_bad_requests_closes_nobody_off() {
    let (first, backup) = (refusing(&unexplained()), refusing(&unexplained()));
    let (a, b) = (CircuitBreakerLayer::new("a"), CircuitBreakerLayer::new("b"));
    let llm = FallbackLayer::new("a")
        .tier("b", b.layer(backup.clone()))
        .tier("c", Strict::new())
        .layer(a.layer(first.clone()));
    for n in 0..200 {
        let told = llm.clone().oneshot(question(n)).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::InvalidRequest, "{n}");
    }
    assert_eq!((first.calls(), backup.calls()), (200, 200));
    assert_eq!((a.handle().state(), b.handle().state()), (CircuitState::Closed, CircuitState::Closed));
}

#[tokio::test(start_paused = true)]
async fn bad_requests_leave_the_budget_of_failovers_to_others() {
    let budget = RetryBudget::with_limits(0.0, 0.0, 1).unwrap();
    let (a, b) = (Strict::new(), Strict::new());
    let llm = FallbackLayer::new("a").tier("b", b.clone()).budget(budget.clone()).layer(a.clone());
    let before = budget.available();
    for n in 0..20 {
        let _ = a.clone().fails(1, unexplained());
        assert_eq!(tier_of(&llm.clone().oneshot(question(n)).await.unwrap()), "b");
    }
    assert_eq!(budget.available(), before);
}
