use std::{
    future::{Ready, ready},
    sync::Arc,
    task,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tower::{Layer, Service, ServiceExt};

use super::*;
use crate::{
    Classifier, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, TimeoutLayer,
    classify::Retry,
    layers::testing::Strict,
    ledger::{self, Next, Stop},
    provider_fn, retry_after,
};

const SECOND: Duration = Duration::from_secs(1);

fn error(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "as ordered")
}

fn request() -> LlmRequest {
    LlmRequest::prompt("hi")
}

/// A layer without jitter, so that a test can name the waits.
fn exact() -> RetryWithJitterLayer {
    RetryWithJitterLayer::new().jitter(Jitter::None).budget(RetryBudget::unlimited())
}

/// Makes one call through the layer; returns the result and the time it took.
async fn run(
    layer: &RetryWithJitterLayer,
    leaf: &Strict,
    request: LlmRequest,
) -> (Result<LlmResponse, LlmError>, Duration) {
    let start = Instant::now();
    let result = layer.layer(leaf.clone()).oneshot(request).await;
    (result, start.elapsed())
}

/// Returns the waits in the error's record.
fn waits(error: &LlmError) -> Vec<Duration> {
    let each = error.attempts().iter().filter_map(|attempt| match attempt.next {
        Next::Retried { after } => Some(after),
        _ => None,
    });
    each.collect()
}

/// Returns the reason for stopping in the error's record.
fn stop(error: &LlmError) -> Option<Stop> {
    match error.attempts().last()?.next {
        Next::Stopped(stop) => Some(stop),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_passes_untouched() {
    let leaf = Strict::new();
    let (response, took) = run(&RetryWithJitterLayer::new(), &leaf, request().with_feature("chat")).await;
    let response = response.unwrap();
    assert!(response.attempts().is_empty());
    assert_eq!(response.served_by().attempts, 1);
    assert_eq!(response.text().await.unwrap(), "hello");
    assert_eq!((leaf.calls(), took), (1, Duration::ZERO));
    assert_eq!(leaf.seen()[0].feature(), Some("chat"));
}

#[tokio::test(start_paused = true)]
async fn three_attempts_and_then_the_failure_unchanged() {
    let leaf = Strict::new().fails(9, error(ErrorKind::Server).with_code("boom"));
    let (result, took) = run(&exact(), &leaf, request()).await;
    let failure = result.unwrap_err();
    assert_eq!((failure.kind(), failure.code()), (ErrorKind::Server, Some("boom")));
    assert_eq!(leaf.calls(), 3);
    assert_eq!(took, Duration::from_millis(1500));
    assert_eq!(failure.attempts().len(), 3);
    assert_eq!(stop(&failure), Some(Stop::Attempts));
    let context: Vec<_> = leaf.seen().iter().map(|r| (r.context().attempts_made, r.context().attempts_left)).collect();
    assert_eq!(context, [(0, 9), (1, 8), (2, 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_retried_success_lists_the_failed_attempts() {
    let leaf = Strict::new().script([Err(error(ErrorKind::Server)), Err(error(ErrorKind::Connect))]);
    let (result, _) = run(&exact(), &leaf, request()).await;
    let response = result.unwrap();
    assert_eq!(response.served_by().attempts, 3);
    let steps: Vec<_> = response.attempts().iter().map(|step| (step.failure.unwrap(), step.next)).collect();
    assert_eq!(steps[0], (ErrorKind::Server, Next::Retried { after: SECOND / 2 }));
    assert_eq!(steps[1], (ErrorKind::Connect, Next::Retried { after: SECOND / 5 }));
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_is_not_retried() {
    use ErrorKind::*;
    for kind in
        [InvalidRequest, Auth, NotFound, QuotaExhausted, ContextLength, TooLarge, ContentPolicy, Refusal, InvalidOutput]
    {
        let leaf = Strict::new().fails(9, error(kind).with_should_retry(true));
        let (result, took) = run(&RetryWithJitterLayer::new(), &leaf, request()).await;
        assert_eq!((leaf.calls(), took), (1, Duration::ZERO), "{kind}");
        assert_eq!(stop(&result.unwrap_err()), Some(Stop::Kind), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_has_its_own_schedule() {
    let millis = |kind| async move {
        let leaf = Strict::new().fails(9, error(kind));
        let (result, _) = run(&exact().max_attempts(4), &leaf, request()).await;
        waits(&result.unwrap_err()).iter().map(Duration::as_millis).collect::<Vec<_>>()
    };
    assert_eq!(millis(ErrorKind::RateLimited).await, [1000, 2000, 4000]);
    assert_eq!(millis(ErrorKind::Overloaded).await, [1000, 1500, 2250]);
    assert_eq!(millis(ErrorKind::Server).await, [500, 1000, 2000]);
    assert_eq!(millis(ErrorKind::StreamBroken).await, [500, 1000, 2000]);
    assert_eq!(millis(ErrorKind::Connect).await, [100, 200, 400]);
    assert_eq!(millis(ErrorKind::Timeout).await, [1000], "once");
    assert_eq!(millis(ErrorKind::Malformed).await, [500], "once");
    assert_eq!(millis(ErrorKind::EmptyAnswer).await, [500], "once");
}

#[tokio::test(start_paused = true)]
async fn a_schedule_can_be_set_for_a_kind() {
    let own = Backoff::new(Duration::from_millis(70)).factor(1.0).jitter(Jitter::None);
    let layer = exact().schedule(ErrorKind::Server, Backoff::fixed(SECOND)).schedule(ErrorKind::Server, own);
    let leaf = Strict::new().fails(9, error(ErrorKind::Server));
    let (result, took) = run(&layer, &leaf, request()).await;
    assert!(result.is_err());
    assert_eq!(took, Duration::from_millis(140));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_left_to_another_tier_if_there_is_one() {
    let mut with_tiers = request();
    with_tiers.context_mut().tiers_left = 1;
    let leaf = Strict::new().fails(9, error(ErrorKind::Timeout));
    let (result, took) = run(&RetryWithJitterLayer::new(), &leaf, with_tiers.clone()).await;
    assert_eq!((leaf.calls(), took), (1, Duration::ZERO));
    assert_eq!(stop(&result.unwrap_err()), Some(Stop::OtherTier));

    let leaf = Strict::new().fails(9, error(ErrorKind::Timeout));
    let (result, took) = run(&RetryWithJitterLayer::new().retry_timeouts(true), &leaf, with_tiers).await;
    assert_eq!((leaf.calls(), took), (2, SECOND));
    assert_eq!(stop(&result.unwrap_err()), Some(Stop::Attempts));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_floor_with_jitter_above_it() {
    let mut all = Vec::new();
    for seed in 0..100 {
        let leaf = Strict::new().fails(1, error(ErrorKind::RateLimited).with_retry_after(5 * SECOND));
        let (result, took) = run(&RetryWithJitterLayer::new().seed(seed), &leaf, request()).await;
        result.unwrap();
        assert!((5 * SECOND..=6 * SECOND + Duration::from_millis(1)).contains(&took), "{took:?}");
        all.push(took);
    }
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 80, "spread: {}", all.len());
}

#[tokio::test(start_paused = true)]
async fn every_spelling_of_retry_after_is_obeyed() {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_781_504_400);
    let date = |time| httpdate::fmt_http_date(time);
    let headers = [
        (vec![("retry-after", "3".to_owned())], None, 3000),
        (vec![("retry-after", "3".to_owned()), ("retry-after-ms", "2150".to_owned())], None, 2150),
        (vec![("retry-after", date(wall + 4 * SECOND))], None, 4000),
        (vec![("retry-after", date(wall - 4 * SECOND))], None, 0),
        (vec![], Some("7.07s"), 7070),
    ];
    for (list, body, millis) in headers {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        let asked = retry_after::from_headers(&map, body.and_then(retry_after::duration), wall).unwrap();
        let leaf = Strict::new().fails(1, error(ErrorKind::RateLimited).with_retry_after(asked));
        let tiny = exact().schedule(ErrorKind::RateLimited, Backoff::fixed(Duration::ZERO));
        let (result, took) = run(&tiny, &leaf, request()).await;
        result.unwrap();
        assert_eq!(took, Duration::from_millis(millis));
    }
}

#[tokio::test(start_paused = true)]
async fn should_retry_false_is_obeyed() {
    let leaf = Strict::new().fails(1, error(ErrorKind::Server).with_should_retry(false));
    let (result, took) = run(&RetryWithJitterLayer::new(), &leaf, request()).await;
    assert_eq!((leaf.calls(), took), (1, Duration::ZERO));
    assert_eq!(stop(&result.unwrap_err()), Some(Stop::Forbidden));
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_the_longest_delay_gives_up_at_once() {
    let budget = RetryBudget::new();
    let layer = RetryWithJitterLayer::new().max_delay(30 * SECOND).budget(budget.clone());
    let asked = error(ErrorKind::RateLimited).with_retry_after(31 * SECOND);
    let leaf = Strict::new().fails(1, asked);
    let (result, took) = run(&layer, &leaf, request()).await;
    let failure = result.unwrap_err();
    assert_eq!((leaf.calls(), took), (1, Duration::ZERO));
    assert_eq!((stop(&failure), failure.retry_after()), (Some(Stop::LongWait), Some(31 * SECOND)));
    assert_eq!(budget.available(), 10, "no token was taken");

    let leaf = Strict::new().fails(1, error(ErrorKind::RateLimited).with_retry_after(30 * SECOND));
    let (result, took) = run(&layer, &leaf, request()).await;
    assert!(result.is_ok() && took >= 30 * SECOND);
}

/// A request that a fallback could still give to another model.
fn backed() -> LlmRequest {
    let mut request = request();
    request.context_mut().prospects.note_can_go_on(true);
    request
}

#[tokio::test(start_paused = true)]
async fn where_another_model_is_left_more_than_a_moment_is_not_waited_for() {
    let after = |wait| Strict::new().fails(1, error(ErrorKind::RateLimited).with_retry_after(wait));
    let moment = Duration::from_secs(2);
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::Proportional(0.5), Jitter::None] {
        let layer = RetryWithJitterLayer::new().jitter(jitter);
        let leaf = after(moment + Duration::from_millis(1));
        let (result, took) = run(&layer, &leaf, backed()).await;
        assert_eq!((stop(&result.unwrap_err()), leaf.calls(), took), (Some(Stop::LongWait), 1, Duration::ZERO));
        for wait in [Duration::ZERO, SECOND, moment] {
            let (result, took) = run(&layer, &after(wait), backed()).await;
            assert!(result.is_ok() && took >= wait && took <= moment, "{jitter:?}: {took:?} for {wait:?}");
        }
        // The last attempt still waits in full.
        let (result, took) = run(&layer, &after(30 * SECOND), request()).await;
        assert!(result.is_ok() && took >= 30 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_a_moment_is_can_be_said() {
    let leaf = |wait| Strict::new().fails(1, error(ErrorKind::RateLimited).with_retry_after(wait));
    let never = RetryWithJitterLayer::new().failover_delay(Duration::ZERO);
    let (result, took) = run(&never, &leaf(Duration::from_millis(1)), backed()).await;
    assert_eq!((stop(&result.unwrap_err()), took), (Some(Stop::LongWait), Duration::ZERO));
    // No longer than the general limit.
    let long = RetryWithJitterLayer::new().failover_delay(Duration::MAX).max_delay(10 * SECOND);
    let (result, took) = run(&long, &leaf(10 * SECOND), backed()).await;
    assert!(result.is_ok() && took >= 10 * SECOND);
    assert!(run(&long, &leaf(11 * SECOND), backed()).await.0.is_err());
}

#[tokio::test(start_paused = true)]
async fn where_failover_comes_first_only_a_failure_that_names_a_time_is_retried() {
    for kind in [ErrorKind::Server, ErrorKind::Overloaded, ErrorKind::RateLimited, ErrorKind::Connect] {
        let layer = RetryWithJitterLayer::new().failover_first(true);
        let leaf = Strict::new().fails(1, error(kind));
        let (result, took) = run(&layer, &leaf, backed()).await;
        assert_eq!((stop(&result.unwrap_err()), leaf.calls(), took), (Some(Stop::OtherTier), 1, Duration::ZERO));
        let leaf = Strict::new().fails(1, error(kind).with_retry_after(SECOND));
        let (result, took) = run(&layer, &leaf, backed()).await;
        assert!(result.is_ok() && took >= SECOND, "{kind:?}");
        let leaf = Strict::new().fails(1, error(kind));
        assert!(run(&layer, &leaf, request()).await.0.is_ok(), "who has nowhere else to go is not bound by that");
    }
    // A budget of a retry for each first try asks for them.
    for budget in [RetryBudget::with_limits(1.0, 1.0, 100).unwrap(), RetryBudget::unlimited()] {
        let leaf = Strict::new().fails(2, error(ErrorKind::Server));
        let layer = RetryWithJitterLayer::new().failover_first(true).budget(budget);
        assert!(run(&layer, &leaf, backed()).await.0.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn where_another_model_is_left_only_what_fails_in_passing_is_retried() {
    let layer = RetryWithJitterLayer::new().jitter(Jitter::None);
    // Requests that would each fail twice if retried.
    let mut calls = 0;
    for _ in 0..1100 {
        let leaf = Strict::new().fails(2, error(ErrorKind::Server));
        let _ = run(&layer, &leaf, backed()).await;
        calls += leaf.calls();
    }
    assert_eq!(calls, 1100 + 3 + 1, "the three of a new budget, and one in a thousand");
    let leaf = Strict::new().fails(2, error(ErrorKind::Server));
    assert!(run(&layer, &leaf, request()).await.0.is_ok(), "who has nowhere else to go is not bound by that");
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_gives_up_at_once() {
    let budget = RetryBudget::new();
    let layer = RetryWithJitterLayer::new().budget(budget.clone());
    let leaf = Strict::new().fails(1, error(ErrorKind::RateLimited).with_retry_after(5 * SECOND));
    let (result, took) = run(&layer, &leaf, request().with_timeout(5 * SECOND)).await;
    assert_eq!((leaf.calls(), took), (1, Duration::ZERO));
    assert_eq!(stop(&result.unwrap_err()), Some(Stop::Deadline));
    assert_eq!(budget.available(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_outer_timeouts_deadline_is_seen() {
    let leaf = Strict::new().takes(2 * SECOND).fails(9, error(ErrorKind::Server));
    let stack = TimeoutLayer::new(3 * SECOND).layer(exact().layer(leaf.clone()));
    let start = Instant::now();
    let failure = stack.oneshot(request()).await.unwrap_err();
    // 2 s, half a second's wait, and the half second left
    assert_eq!((failure.kind(), start.elapsed(), leaf.calls()), (ErrorKind::Timeout, 3 * SECOND, 2));
    assert_eq!(leaf.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline() {
    // slept through
    let leaf = Strict::new().fails(9, error(ErrorKind::Server));
    let budget = RetryBudget::new();
    let mut call =
        spawn(exact().budget(budget.clone()).layer(leaf.clone()).oneshot(request().with_timeout(10 * SECOND)));
    assert_pending!(call.poll());
    advance(3600 * SECOND).await;
    let failure = assert_ready!(call.poll()).unwrap_err();
    assert_eq!((failure.kind(), leaf.calls()), (ErrorKind::Deadline, 1));
    assert_eq!(failure.attempts()[0].failure, Some(ErrorKind::Server), "what happened before is still told");
    assert_eq!(budget.available(), 10);

    // waiting for readiness, in the first attempt and in a retry
    for (failures, calls) in [(0, 0), (1, 1)] {
        let leaf = Strict::new().fails(failures, error(ErrorKind::Server));
        let held = Gated { leaf: leaf.clone(), open: calls };
        let start = Instant::now();
        let failure = exact().layer(held).oneshot(request().with_timeout(10 * SECOND)).await.unwrap_err();
        assert_eq!((failure.kind(), leaf.calls()), (ErrorKind::Deadline, calls));
        assert_eq!(start.elapsed(), 10 * SECOND);
    }
}

/// Ready as long as fewer than `open` calls were made, and then never again.
#[derive(Clone)]
struct Gated {
    leaf: Strict,
    open: usize,
}

impl Service<LlmRequest> for Gated {
    type Response = LlmResponse;
    type Error = tower::BoxError;
    type Future = <Strict as Service<LlmRequest>>::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), tower::BoxError>> {
        if self.leaf.calls() < self.open { self.leaf.poll_ready(cx) } else { task::Poll::Pending }
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        self.leaf.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_refusal_costs_no_attempt_no_token_and_no_wait() {
    let eager = Classifier::overridden(|_, mut class| {
        class.retry = Retry::Yes;
        class
    });
    for kind in ErrorKind::ALL.iter().filter(|kind| kind.is_local()) {
        let budget = RetryBudget::new();
        let layer = exact().budget(budget.clone()).classifier(eager.clone());
        let leaf = Strict::new().fails(9, error(*kind).with_retry_after(SECOND));
        let (result, took) = run(&layer, &leaf, request()).await;
        assert_eq!(result.unwrap_err().kind(), *kind);
        assert_eq!((leaf.calls(), took, budget.available()), (1, Duration::ZERO, 10), "{kind}");

        // as the answer to a retry: the token comes back, and the failure before stays in the record
        let leaf = Strict::new().takes(SECOND).script([Err(error(ErrorKind::Server)), Err(error(*kind))]);
        let (result, _) = run(&layer, &leaf, request()).await;
        let failure = result.unwrap_err();
        assert_eq!((failure.kind(), failure.attempts().len()), (*kind, 2));
        assert_eq!(budget.available(), 10, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_attempt_further_in_ends_it_too() {
    let eager = Classifier::overridden(|_, mut class| {
        class.retry = Retry::Yes;
        class
    });
    let budget = RetryBudget::new();
    let outer = exact().budget(budget.clone()).classifier(eager);
    let ends = [ErrorKind::Server, ErrorKind::CircuitOpen].map(|kind| Err(error(kind)));
    let leaf = Strict::new().script(ends);
    let failure = outer.layer(exact().layer(leaf.clone())).oneshot(request()).await.unwrap_err();
    assert_eq!((failure.kind(), leaf.calls()), (ErrorKind::CircuitOpen, 2));

    // in a retry of the outer one: something was sent, so its token is spent
    let kinds = [ErrorKind::Server, ErrorKind::Connect, ErrorKind::CircuitOpen];
    let leaf = Strict::new().script(kinds.map(|kind| Err(error(kind))));
    let inner = exact().classifier(Classifier::overridden(|error, mut class| {
        class.retry = if error.kind() == ErrorKind::Connect { Retry::Yes } else { Retry::No };
        class
    }));
    let failure = outer.layer(inner.layer(leaf.clone())).oneshot(request()).await.unwrap_err();
    assert_eq!((failure.kind(), leaf.calls()), (ErrorKind::CircuitOpen, 3));
    assert_eq!(budget.available(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_failure_with_nothing_but_refusals_in_its_record_is_not_retried() {
    let leaf = provider_fn(|_| {
        let mut refusal = error(ErrorKind::CircuitOpen);
        ledger::note(&mut refusal, Instant::now());
        let mut failure = error(ErrorKind::Server);
        failure.set_attempts(refusal.take_attempts());
        ready(Err::<LlmResponse, _>(failure))
    });
    let start = Instant::now();
    let failure = exact().layer(leaf).oneshot(request()).await.unwrap_err();
    assert_eq!((failure.kind(), failure.attempts().len(), start.elapsed()), (ErrorKind::Server, 1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn nested_layers_do_not_multiply_attempts_or_deposits() {
    let budget = RetryBudget::with_limits(1.0, 0.0, 100).unwrap();
    let layer = exact().budget(budget.clone());
    let leaf = Strict::new().fails(99, error(ErrorKind::Server));
    let stack = layer.layer(layer.layer(layer.layer(leaf.clone())));
    let failure = stack.clone().oneshot(request()).await.unwrap_err();
    assert_eq!((leaf.calls(), failure.attempts().len()), (2, 2), "one deposit pays for one retry");

    let unlimited = layer.clone().budget(RetryBudget::unlimited());
    let leaf = Strict::new().fails(99, error(ErrorKind::Server));
    let failure = unlimited.layer(unlimited.layer(leaf.clone())).oneshot(request()).await.unwrap_err();
    assert_eq!((leaf.calls(), failure.attempts().len()), (3, 3));

    // the outer one allows more than the inner one, so it goes on where that has stopped
    let leaf = Strict::new().fails(4, error(ErrorKind::Server));
    let stack = unlimited.clone().max_attempts(5).layer(unlimited.layer(leaf.clone()));
    let response = stack.oneshot(request()).await.unwrap();
    assert_eq!((leaf.calls(), response.served_by().attempts), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_allow_fewer_attempts() {
    for (allowed, calls) in [(0, 1), (1, 1), (2, 2), (100, 3)] {
        let leaf = Strict::new().fails(99, error(ErrorKind::Server));
        let (result, _) = run(&exact(), &leaf, request().with_max_attempts(allowed)).await;
        assert_eq!((leaf.calls(), stop(&result.unwrap_err())), (calls, Some(Stop::Attempts)));
    }
    for (attempts, calls) in [(0, 1), (1, 1), (u16::MAX, 9)] {
        let leaf = Strict::new().fails(99, error(ErrorKind::Server));
        let _ = run(&exact().max_attempts(attempts), &leaf, request()).await;
        assert_eq!(leaf.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_failures_at_once_stay_within_the_budget_even_in_backoff() {
    let budget = RetryBudget::with_limits(0.2, 1.0, 1000).unwrap();
    let layer = exact().budget(budget.clone()).schedule(ErrorKind::Server, Backoff::fixed(10 * SECOND));
    let leaf = Strict::new().takes(SECOND).fails(5000, error(ErrorKind::Server));
    let service = layer.layer(leaf.clone());
    let calls: Vec<_> = (0..1000).map(|_| tokio::spawn(service.clone().oneshot(request()))).collect();
    tokio::time::sleep(2 * SECOND).await;
    let waiting = calls.iter().filter(|call| !call.is_finished()).count();
    assert_eq!(waiting, 210, "a fifth, and the reserve of ten");
    assert_eq!((leaf.calls(), leaf.running(), budget.available()), (1000, 0, 0));

    // dropped while they wait, they leave their tokens to others
    for call in calls {
        call.abort();
        let _ = call.await;
    }
    assert_eq!((leaf.calls(), budget.available()), (1000, 210));
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_gives_up_at_once() {
    let layer = exact().budget(RetryBudget::with_limits(0.0, 0.0, 10).unwrap());
    let leaf = Strict::new().fails(9, error(ErrorKind::Server));
    let (result, took) = run(&layer, &leaf, request()).await;
    assert_eq!((leaf.calls(), took), (1, Duration::ZERO));
    assert_eq!(stop(&result.unwrap_err()), Some(Stop::Budget));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_a_true_budget() {
    let budget = RetryBudget::with_limits(1.0, 0.0, 10).unwrap();
    let layer = exact().budget(budget.clone());
    let start = |leaf: &Strict| spawn(layer.layer(leaf.clone()).oneshot(request()));
    let take_all = || {
        while let Some(mut token) = budget.reserve(Instant::now()) {
            token.sent()
        }
    };

    // never polled; waiting for readiness; in the first attempt; in backoff; waiting for readiness again
    for (polls, calls, held) in [(0, 0, 0), (2, 0, 0), (3, 1, 0), (5, 1, 1), (6, 1, 1), (7, 1, 1)] {
        take_all();
        let leaf = Strict::new().takes(SECOND).pending(3).fails(99, error(ErrorKind::Server));
        let mut call = start(&leaf);
        for n in 0..polls {
            assert_pending!(call.poll());
            if n >= 2 && n + 1 < polls {
                advance(SECOND).await;
            }
        }
        let deposited = u64::from(polls > 0);
        assert_eq!((leaf.calls(), budget.available()), (calls, deposited - held), "after {polls} polls");
        drop(call);
        assert_eq!((leaf.running(), budget.available()), (0, deposited), "after {polls} polls");
    }
    // in the second attempt: sent
    take_all();
    let leaf = Strict::new().takes(SECOND).fails(99, error(ErrorKind::Server));
    let mut call = start(&leaf);
    assert_pending!(call.poll());
    advance(SECOND).await;
    assert_pending!(call.poll());
    advance(SECOND / 2).await;
    assert_pending!(call.poll());
    assert_eq!(leaf.running(), 1);
    drop(call);
    assert_eq!((leaf.running(), budget.available(), leaf.calls()), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_the_failed_attempt_is_held_during_the_wait() {
    /// A future that holds a resource even after it has resolved.
    struct Holding(#[allow(dead_code, reason = "held")] Arc<()>);
    impl Future for Holding {
        type Output = Result<LlmResponse, LlmError>;
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Self::Output> {
            task::Poll::Ready(Err(error(ErrorKind::Server)))
        }
    }
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    let service = exact().max_attempts(2).layer(provider_fn(move |_| Holding(weak.upgrade().unwrap())));
    let mut call = spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    assert_eq!(Arc::strong_count(&held), 1);
    advance(SECOND).await;
    let _failure = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(Arc::strong_count(&held), 1, "nor when the call is over and its future kept");
}

#[tokio::test(start_paused = true)]
async fn readiness_is_asked_before_each_attempt() {
    let leaf = Strict::new().pending(3).fails(2, error(ErrorKind::Server));
    let (result, _) = run(&exact(), &leaf, request()).await;
    result.unwrap();
    assert_eq!(leaf.calls(), 3);
    assert!(leaf.polled_ready() >= 12);

    // a readiness that fails is one failed attempt, on an instance that is thrown away
    let leaf = Strict::new().fails_readiness(1);
    let (result, _) = run(&exact(), &leaf, request()).await;
    assert_eq!(result.unwrap().attempts().len(), 1);
    assert_eq!(leaf.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_after_its_first_token_is_not_repeated() {
    let leaf = provider_fn(|_| {
        let token = Frame::event(StreamEvent::Text { index: 0, text: "once".into() });
        let frames = [Ok(token), Err(error(ErrorKind::StreamBroken))];
        ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(futures_util::stream::iter(frames)))))
    });
    let mut body = exact().layer(leaf).oneshot(request()).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), ErrorKind::StreamBroken);
    assert!(body.frame().await.is_none());
}

/// Returns the Kolmogorov-Smirnov distance of waits from the uniform distribution over `[0, to]`.
fn distance_from_uniform(mut waits: Vec<Duration>, to: Duration) -> f64 {
    waits.sort_unstable();
    let n = waits.len() as f64;
    let gaps = waits.iter().enumerate().map(|(i, wait)| {
        let expected = wait.as_secs_f64() / to.as_secs_f64();
        (expected - i as f64 / n).abs().max((i as f64 + 1.0) / n - expected)
    });
    gaps.fold(0.0, f64::max)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_that_fail_together_come_back_spread() {
    for (base, cap, spread) in [(1000, 30_000, 1000), (700, 30_000, 700), (60_000, 5000, 5000)] {
        let layer = RetryWithJitterLayer::new()
            .seed(7)
            .budget(RetryBudget::unlimited())
            .max_attempts(2)
            .max_delay(Duration::from_millis(cap))
            .schedule(ErrorKind::Server, Backoff::new(Duration::from_millis(base)).max_delay(Duration::MAX));
        let service = layer.layer(Strict::new().fails(2000, error(ErrorKind::Server)));
        let calls: Vec<_> = (0..1000).map(|_| tokio::spawn(service.clone().oneshot(request()))).collect();
        let mut all = Vec::new();
        for call in calls {
            all.extend(waits(&call.await.unwrap().unwrap_err()));
        }
        assert_eq!(all.len(), 1000);
        let far = distance_from_uniform(all, Duration::from_millis(spread));
        assert!(far < 1.949 / 1000f64.sqrt(), "base {base} ms: {far}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_waits() {
    let draw = |seed| async move {
        let leaf = Strict::new().fails(9, error(ErrorKind::Server));
        waits(&run(&RetryWithJitterLayer::new().seed(seed), &leaf, request()).await.0.unwrap_err())
    };
    assert_eq!(draw(1).await, draw(1).await);
    assert_ne!(draw(1).await, draw(2).await);
}

#[tokio::test(start_paused = true)]
async fn many_tasks_do_not_wait_for_each_other() {
    let service = RetryWithJitterLayer::new().layer(Strict::new().takes(SECOND / 10));
    let start = Instant::now();
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(service.clone().oneshot(request()))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(start.elapsed() < SECOND / 5);
}

/// A leaf that answers at once and allocates nothing.
#[derive(Clone, Debug)]
struct Instantly;

impl Service<LlmRequest> for Instantly {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Ready<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), LlmError>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        ready(Ok(LlmResponse::from_text("hello")))
    }
}

#[test]
fn the_healthy_path_allocates_nothing_and_needs_no_runtime() {
    let mut service = RetryWithJitterLayer::new().layer(Instantly);
    let request = request();
    let measured = allocation_counter::measure(|| {
        let mut call = std::pin::pin!(service.call(request));
        let polled = call.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop()));
        assert!(polled.is_ready());
    });
    // what was allocated for the request is freed with it, no more
    assert_eq!(measured.count_total, 0);
}

#[test]
fn its_types_are_what_a_stack_needs() {
    fn assert<T: Send + Sync + Clone + std::fmt::Debug>(_: &T) {}
    let layer = RetryWithJitterLayer::new();
    assert(&layer);
    assert(&layer.layer(Instantly));
    assert(&RetryBudget::new());
    let debug = format!("{:?}", layer.layer(Instantly).call(LlmRequest::prompt("secret plans")));
    assert!(!debug.contains("secret"), "{debug}");
}
