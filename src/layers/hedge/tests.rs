use std::{
    future::{Ready, pending},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _};

use super::*;
use crate::{
    CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, LlmError, LlmRequest, LlmResponse, RetryBudget,
    RetryWithJitterLayer, TimeoutLayer, events::CircuitState, layers::testing::Strict, ledger::Next, provider_fn,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn asked() -> LlmRequest {
    LlmRequest::prompt("hello")
}

fn failure(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "scripted")
}

/// Hedges after two seconds with another tier, as often as there are calls.
fn to(second: &Strict) -> HedgeLayer {
    HedgeLayer::new("sonnet").tier("gpt", second.clone()).after(secs(2)).extra(1.0)
}

/// Hedges after two seconds with the same service.
fn again() -> HedgeLayer {
    HedgeLayer::new("sonnet").after(secs(2)).extra(1.0)
}

/// Returns the result, and the time that it took.
async fn ends<S>(service: S, request: LlmRequest) -> (Result<LlmResponse, LlmError>, Duration)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    let before = Instant::now();
    let result = service.oneshot(request).await;
    (result, before.elapsed())
}

fn steps(attempts: &[crate::Attempt]) -> Vec<(&str, Option<ErrorKind>, Next)> {
    attempts.iter().map(|step| (step.tier.as_deref().unwrap_or("?"), step.failure, step.next)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_followed_by_a_second_and_dropped_when_that_answers() {
    let (first, second) = (Strict::new().takes(secs(60)), Strict::new().takes(secs(1)));
    let hedge = to(&second);
    // With a timer of its own, and with that of a limit further out.
    for limited in [false, true] {
        let service = hedge.layer(first.clone());
        let (result, took) = match limited {
            false => ends(service, asked()).await,
            true => ends(TimeoutLayer::new(secs(90)).layer(service), asked()).await,
        };
        let response = result.unwrap();
        assert_eq!((took, first.running(), second.running()), (secs(3), 0, 0));
        assert_eq!((response.served_by().tier, response.served_by().attempts), (Some("gpt"), 2));
        assert!(response.is_hedged());
        assert_eq!(steps(response.attempts()), [("sonnet", None, Next::Cancelled)]);
        assert_eq!(response.attempts()[0].took, secs(3));
        assert_eq!(response.attempts()[0].to_string(), "sonnet: no answer after 3s; cancelled for the other call");
    }
    let stats = hedge.handle().stats();
    assert_eq!((stats.calls, stats.sent, stats.won, stats.unaffordable), (2, 2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_leaves_the_second_service_alone() {
    let (first, second) = (Strict::new().takes(secs(1)), Strict::new());
    let (result, took) = ends(to(&second).layer(first), asked()).await;
    let response = result.unwrap();
    assert_eq!((took, response.served_by().tier, response.attempts().len()), (secs(1), Some("sonnet"), 0));
    assert_eq!((second.polled_ready(), second.calls(), response.is_hedged()), (0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn a_first_call_that_answers_after_all_ends_the_second() {
    let (first, second) = (Strict::new().takes(secs(3)), Strict::new().takes(secs(60)));
    let hedge = to(&second);
    let (result, took) = ends(hedge.layer(first), asked()).await;
    let response = result.unwrap();
    assert_eq!((took, second.running()), (secs(3), 0));
    assert_eq!((response.served_by().tier, response.served_by().attempts), (Some("sonnet"), 2));
    assert_eq!(steps(response.attempts()), [("gpt", None, Next::Cancelled)]);
    assert_eq!((hedge.handle().stats().sent, hedge.handle().stats().won), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn of_two_answers_at_once_the_first_calls_is_taken() {
    let (first, second) = (Strict::new().takes(secs(3)), Strict::new().takes(secs(1)));
    let (result, took) = ends(to(&second).layer(first), asked()).await;
    assert_eq!((took, result.unwrap().served_by().tier), (secs(3), Some("sonnet")));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_retry_could_mend_is_followed_at_once() {
    let early = |kind| {
        provider_fn(move |_| async move {
            sleep(ms(5)).await;
            Err::<LlmResponse, _>(failure(kind))
        })
    };
    for kind in [ErrorKind::Server, ErrorKind::Connect, ErrorKind::Overloaded, ErrorKind::Timeout] {
        let second = Strict::new();
        let (result, took) = ends(to(&second).layer(early(kind)), asked()).await;
        let response = result.unwrap();
        assert_eq!((took, response.served_by().tier), (ms(5), Some("gpt")), "{kind}");
        assert_eq!(steps(response.attempts()), [("sonnet", Some(kind), Next::Hedged)]);
    }
    let forever = [
        ErrorKind::RateLimited,
        ErrorKind::InvalidRequest,
        ErrorKind::ContextLength,
        ErrorKind::Refusal,
        ErrorKind::Auth,
        ErrorKind::QuotaExhausted,
        ErrorKind::CircuitOpen,
        ErrorKind::BulkheadFull,
    ];
    for kind in forever {
        let second = Strict::new();
        let (result, took) = ends(to(&second).layer(early(kind)), asked()).await;
        assert_eq!((took, result.unwrap_err().kind(), second.calls()), (ms(5), kind, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_to_wait_is_not_answered_with_another_call() {
    let pushes_back = [
        failure(ErrorKind::RateLimited),
        failure(ErrorKind::Overloaded).with_retry_after(secs(5)),
        failure(ErrorKind::Server).with_should_retry(false),
    ];
    for error in pushes_back {
        let (first, second) = (Strict::new().fails(1, error.clone()), Strict::new());
        let found = to(&second).layer(first).oneshot(asked()).await.unwrap_err();
        assert_eq!((found.kind(), second.calls(), found.attempts().len()), (error.kind(), 0, 0));
    }
    // The second call under way may still answer.
    let limited = Strict::new().takes(secs(3)).fails(1, failure(ErrorKind::RateLimited));
    let second = Strict::new().takes(secs(2));
    let (result, took) = ends(to(&second).layer(limited), asked()).await;
    assert_eq!((took, result.unwrap().served_by().tier), (secs(4), Some("gpt")));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_request_itself_ends_both_calls() {
    let (first, second) =
        (Strict::new().takes(secs(3)).fails(1, failure(ErrorKind::InvalidRequest)), Strict::new().takes(secs(60)));
    let (result, took) = ends(to(&second).layer(first), asked()).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.kind(), second.running()), (secs(3), ErrorKind::InvalidRequest, 0));
    let (wrong, gone) = (Some(ErrorKind::InvalidRequest), Next::Cancelled);
    assert_eq!(steps(error.attempts()), [("sonnet", wrong, Next::GaveUp), ("gpt", None, gone)]);

    // A failure of the other tier alone does not rule out an answer from the first. A failure of the same service
    // does.
    let (first, second) =
        (Strict::new().takes(secs(5)), Strict::new().takes(secs(1)).fails(1, failure(ErrorKind::InvalidRequest)));
    let (result, took) = ends(to(&second).layer(first), asked()).await;
    assert_eq!((took, result.unwrap().served_by().tier), (secs(5), Some("sonnet")));
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let moody = provider_fn(move |_| {
        let first = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            if first {
                pending::<()>().await;
            }
            Err::<LlmResponse, _>(failure(ErrorKind::InvalidRequest))
        }
    });
    let (result, took) = ends(again().layer(moody), asked()).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.kind()), (secs(2), ErrorKind::InvalidRequest));
    assert_eq!(steps(error.attempts()), [("sonnet", wrong, Next::GaveUp), ("sonnet", None, gone)]);
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_error_lists_both() {
    let first = Strict::new().takes(secs(3)).fails(1, failure(ErrorKind::Server).with_retry_after(secs(30)));
    let second = Strict::new().takes(secs(4)).fails(1, failure(ErrorKind::Overloaded).with_retry_after(secs(10)));
    let (result, took) = ends(to(&second).layer(first), asked()).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.kind(), error.retry_after()), (secs(6), ErrorKind::Server, Some(secs(4))));
    let expected =
        [("sonnet", Some(ErrorKind::Server), Next::Hedged), ("gpt", Some(ErrorKind::Overloaded), Next::GaveUp)];
    assert_eq!(steps(error.attempts()), expected);

    // The other way round.
    let first = Strict::new().takes(secs(6)).fails(1, failure(ErrorKind::Server));
    let second = Strict::new().takes(secs(1)).fails(1, failure(ErrorKind::Overloaded));
    let (result, took) = ends(to(&second).layer(first), asked()).await;
    let error = result.unwrap_err();
    assert_eq!((took, error.kind()), (secs(6), ErrorKind::Server));
    assert_eq!(steps(error.attempts()).iter().map(|step| step.0).collect::<Vec<_>>(), ["gpt", "sonnet"]);

    // Of one service the newest failure leads, for a caller that retries.
    let one = Strict::new().script([Err(failure(ErrorKind::Server)), Err(failure(ErrorKind::Overloaded))]);
    let error = again().layer(one).oneshot(asked()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (ErrorKind::Overloaded, 2));
}

#[tokio::test(start_paused = true)]
async fn each_call_spends_an_attempt_and_one_is_kept_for_the_second() {
    let left = |strict: &Strict| strict.seen()[0].context().attempts_left;
    let (first, second) = (Strict::new().takes(secs(60)), Strict::new());
    let service = to(&second).layer(first.clone());
    assert!(service.clone().oneshot(asked().with_max_attempts(5)).await.unwrap().is_hedged());
    assert_eq!((left(&first), left(&second), second.seen()[0].context().attempts_made), (4, 1, 1));
    // With a single attempt there is none for a second call.
    let (_, took) = ends(service, asked().with_max_attempts(1)).await;
    assert_eq!((took, first.calls(), second.calls()), (secs(60), 2, 1));

    // The attempts that the first call spent on its own retries are gone.
    let first = Strict::new().fails(9, failure(ErrorKind::Server));
    let second = Strict::new().fails(9, failure(ErrorKind::Server));
    let inner = RetryWithJitterLayer::new().layer(first.clone());
    let error = to(&second).layer(inner).oneshot(asked().with_max_attempts(3)).await.unwrap_err();
    assert_eq!((first.calls(), second.calls(), error.attempts().len()), (2, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn no_second_call_begins_at_the_deadline_and_both_end_there() {
    let (first, second) = (Strict::new().takes(secs(60)), Strict::new().takes(secs(60)));
    let service = to(&second).layer(first.clone());
    let (result, took) = ends(TimeoutLayer::new(secs(2)).layer(service.clone()), asked()).await;
    assert_eq!((took, result.unwrap_err().kind(), second.calls()), (secs(2), ErrorKind::Timeout, 0));

    // Under a deadline that a limit further out enforces, and one that no other layer does.
    for limited in [true, false] {
        let (result, took) = match limited {
            true => ends(TimeoutLayer::new(secs(5)).layer(service.clone()), asked()).await,
            false => ends(service.clone(), asked().with_timeout(secs(5))).await,
        };
        let error = result.unwrap_err();
        assert_eq!((took, error.kind()), (secs(5), ErrorKind::Timeout));
        let (late, took) = (Some(ErrorKind::Timeout), |place: usize| error.attempts()[place].took);
        assert_eq!(steps(error.attempts()), [("sonnet", late, Next::Hedged), ("gpt", late, Next::GaveUp)]);
        assert_eq!((took(0), took(1), first.running(), second.running()), (secs(5), secs(3), 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn second_calls_are_a_share_of_first_ones_and_come_out_of_the_retry_budget_too() {
    let (first, second) = (Strict::new().takes(secs(60)), Strict::new());
    let budget = RetryBudget::with_limits(1.0, 0.0, 100).unwrap();
    let hedge = to(&second).extra(0.05).budget(budget.clone());
    let service = hedge.layer(first);
    let calls = (0..100).map(|_| service.clone().oneshot(asked()));
    let hedged = join_all(calls).await.into_iter().filter(|result| result.as_ref().unwrap().is_hedged()).count();
    let stats = hedge.handle().stats();
    assert_eq!((hedged, stats.sent, stats.unaffordable, stats.extra_load()), (5, 5, 95, 0.05));
    assert_eq!(budget.available(), 95, "each call was a first try, and five were taken");

    let empty = RetryBudget::with_limits(0.0, 0.0, 100).unwrap();
    let broke = to(&second).budget(empty).layer(Strict::new().takes(secs(3)));
    let (result, took) = ends(broke, asked()).await;
    assert_eq!((took, result.unwrap().is_hedged()), (secs(3), false));
}

#[tokio::test(start_paused = true)]
async fn a_second_call_that_was_not_sent_costs_nothing() {
    /// A service that is never ready.
    #[derive(Clone)]
    struct Unready;
    impl Service<LlmRequest> for Unready {
        type Response = LlmResponse;
        type Error = LlmError;
        type Future = Ready<Result<LlmResponse, LlmError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
            Poll::Pending
        }
        fn call(&mut self, _: LlmRequest) -> Self::Future {
            panic!("called without readiness")
        }
    }
    let budget = RetryBudget::with_limits(1.0, 0.0, 100).unwrap();
    let hedge = HedgeLayer::new("sonnet").tier("gpt", Unready).after(secs(2)).extra(1.0);
    let hedge = hedge.budget(budget.clone());
    let (result, took) = ends(hedge.layer(Strict::new().takes(secs(5))), asked()).await;
    let response = result.unwrap();
    assert_eq!((took, response.served_by().attempts, response.attempts().len()), (secs(5), 1, 0));
    assert_eq!((hedge.handle().stats().sent, budget.available()), (0, 1));

    // Nor does a call that its circuit refuses.
    let circuit = CircuitBreakerLayer::new("gpt");
    circuit.handle().force_open();
    let second = Strict::new();
    let hedge = HedgeLayer::new("sonnet").tier("gpt", circuit.layer(second.clone())).after(secs(2));
    let hedge = hedge.extra(1.0).budget(budget.clone());
    let (result, _) = ends(hedge.layer(Strict::new().takes(secs(5))), asked()).await;
    let response = result.unwrap();
    assert_eq!((response.served_by().attempts, second.calls()), (1, 0));
    assert_eq!(steps(response.attempts()), [("gpt", Some(ErrorKind::CircuitOpen), Next::Hedged)]);
    assert_eq!((hedge.handle().stats().sent, budget.available()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_doubled_is_not() {
    let (first, second) = (Strict::new().takes(secs(5)), Strict::new());
    let hedge = to(&second).only(|request| request.feature() != Some("payment"));
    let service = hedge.layer(first.clone());
    let single = [
        asked().with_human_required(true),
        asked().no_fallback(),
        asked().with_session("s"),
        asked().with_feature("payment"),
        // Another tier may be of another account.
        crate::Wire::compaction(r#"{"model":"m","input":"x"}"#).unwrap().into(),
    ];
    for request in single {
        let (result, took) = ends(service.clone(), request).await;
        assert_eq!((took, result.unwrap().is_hedged(), second.calls()), (secs(5), false, 0));
    }
    assert_eq!(hedge.handle().stats().calls, 0, "they are no calls to have a share of");
    // In either order of the two settings.
    let before = HedgeLayer::new("sonnet").sessions(true).tier("gpt", second.clone()).after(secs(2)).extra(1.0);
    for sessions in [to(&second).sessions(true), before] {
        let llm = sessions.layer(first.clone());
        assert!(llm.oneshot(asked().with_session("s")).await.unwrap().is_hedged());
    }

    // With the same service there is no other model to switch to.
    for (request, calls) in
        [(asked().with_session("s"), 2), (asked().no_fallback(), 2), (asked().with_human_required(true), 1)]
    {
        let one = Strict::new().takes(secs(5));
        let (_, took) = ends(again().layer(one.clone()), request).await;
        assert_eq!((took, one.calls()), (secs(5), calls));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_late_before_enough_was_observed_and_then_it_is_what_nineteen_of_twenty_are_not() {
    let takes = |millis: u64| {
        provider_fn(move |_| async move {
            sleep(ms(millis)).await;
            Ok::<_, LlmError>(LlmResponse::from_text("hello"))
        })
    };
    let second = Strict::new();
    let hedge = HedgeLayer::new("sonnet").tier("gpt", second.clone()).extra(1.0);
    for n in 0..20 {
        assert_eq!(hedge.handle().delay(false), None, "{n}");
        hedge.layer(takes(1000)).oneshot(asked()).await.unwrap();
    }
    let delay = hedge.handle().delay(false).unwrap();
    assert!((ms(900)..ms(1100)).contains(&delay), "{delay:?}");
    let (result, took) = ends(hedge.layer(takes(9000)), asked()).await;
    // Timers are to the millisecond.
    assert_eq!((took.as_millis(), result.unwrap().is_hedged()), (delay.as_millis() + 1, true));
    // Streams are observed separately, to their first token.
    assert_eq!(hedge.handle().delay(true), None);
    let (result, took) = ends(hedge.layer(takes(9000)), asked().with_stream(true)).await;
    assert_eq!((took, result.unwrap().is_hedged()), (ms(9000), false));
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_do_not_draw_the_delay_down() {
    let mut random = fastrand::Rng::with_seed(1);
    let second = Strict::new().takes(ms(1));
    let hedge = HedgeLayer::new("sonnet").tier("gpt", second).extra(1.0);
    for _ in 0..5000 {
        let millis = random.u64(1000..2000);
        let first = Strict::new().takes(ms(millis));
        hedge.layer(first).oneshot(asked()).await.unwrap();
    }
    let (delay, stats) = (hedge.handle().delay(false).unwrap(), hedge.handle().stats());
    assert!((ms(1910)..ms(2000)).contains(&delay), "{delay:?}");
    assert!((0.03..0.07).contains(&stats.extra_load()), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_service_is_called_through_a_fresh_clone_when_it_is_its_turn() {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let stalls_once = provider_fn(move |_| {
        let first = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            if first {
                pending::<()>().await;
            }
            Ok::<_, LlmError>(LlmResponse::from_text("hello"))
        }
    });
    let (result, took) = ends(again().layer(stalls_once), asked()).await;
    let response = result.unwrap();
    assert_eq!((took, response.is_hedged(), response.served_by().tier), (secs(2), true, Some("sonnet")));

    let strict = Strict::new().pending(3).takes(secs(5));
    let service = again().layer(strict.clone());
    let answers = join_all((0..64).map(|_| service.clone().oneshot(asked()))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((strict.calls(), strict.running()), (128, 0));
}

/// A circuit behind a hedge, and the service in front.
fn behind<S>(first: S) -> (CircuitBreakerLayer, crate::BoxLlmService)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
{
    let circuit = CircuitBreakerLayer::new("sonnet").consecutive_failures(5);
    let service = to(&Strict::new()).layer(circuit.layer(first));
    (circuit, tower::util::BoxCloneSyncService::new(service))
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_always_loses_to_its_hedge_without_a_sign_of_life_opens() {
    let hangs = provider_fn(|_| pending::<Result<LlmResponse, LlmError>>());
    let (circuit, service) = behind(hangs);
    // Two silences weigh as five failures.
    for call in 0..2 {
        assert_eq!(circuit.handle().state(), CircuitState::Closed, "{call}");
        assert!(service.clone().oneshot(asked()).await.unwrap().is_hedged());
    }
    assert_eq!(circuit.handle().state(), CircuitState::Open);

    // Callers who leave do not count.
    let (circuit, service) = behind(hangs);
    for _ in 0..50 {
        let mut call = task::spawn(service.clone().oneshot(asked()));
        assert_pending!(call.poll());
        drop(call);
    }
    assert_eq!(circuit.handle().state(), CircuitState::Closed);

    // Nor do slow calls while others are answered.
    let slow = provider_fn(|request: LlmRequest| async move {
        sleep(if request.feature() == Some("slow") { secs(60) } else { secs(1) }).await;
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    });
    let (circuit, service) = behind(slow);
    for _ in 0..50 {
        let (late, usual) =
            tokio::join!(service.clone().oneshot(asked().with_feature("slow")), service.clone().oneshot(asked()));
        assert!(late.unwrap().is_hedged() && !usual.unwrap().is_hedged());
    }
    assert_eq!(circuit.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn each_second_call_is_told_once_however_it_ends() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let mut told = || match heard.try_recv() {
        Ok(Event::Hedged { tier, to, won, after, .. }) => Some((tier, to, won, after)),
        other => panic!("{other:?}"),
    };
    let service = |first, second| {
        to(&Strict::new().takes(secs(second))).events(events.clone()).layer(Strict::new().takes(secs(first)))
    };
    let (sonnet, gpt) = (|| "sonnet".into(), || "gpt".into());
    service(60, 1).oneshot(asked()).await.unwrap();
    assert_eq!(told(), Some((sonnet(), gpt(), true, secs(2))));
    service(3, 60).oneshot(asked()).await.unwrap();
    assert_eq!(told(), Some((sonnet(), gpt(), false, secs(2))));
    let mut left = task::spawn(service(60, 60).oneshot(asked()));
    assert_pending!(left.poll());
    tokio::time::advance(secs(2)).await;
    assert_pending!(left.poll());
    drop(left);
    assert_eq!(told(), Some((sonnet(), gpt(), false, secs(2))));
    service(1, 60).oneshot(asked()).await.unwrap();
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_at_any_moment_leaves_nothing_behind() {
    let budget = RetryBudget::with_limits(1.0, 0.0, 1000).unwrap();
    for same in [false, true] {
        for leaves_after in 0..80 {
            let (first, second) = (Strict::new().pending(2).takes(ms(50)), Strict::new().pending(3).takes(ms(30)));
            let layer = HedgeLayer::new("sonnet").after(ms(20)).extra(1.0).budget(budget.clone());
            let layer = if same { layer } else { layer.tier("gpt", second.clone()) };
            let handle = layer.handle();
            let service = layer.layer(first.clone());
            let before = budget.available();
            let _ = tokio::time::timeout(ms(leaves_after), service.oneshot(asked())).await;
            assert_eq!((first.running(), second.running()), (0, 0), "{leaves_after} {same}");
            let sent = handle.stats().sent;
            assert_eq!(budget.available(), before + 1 - sent, "{leaves_after} {same}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_takes_the_answer_of_a_hedge_for_what_it_is() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let gpt = Strict::new();
    let script = [Err(failure(ErrorKind::Auth)), Err(failure(ErrorKind::Server)), Ok(())];
    // An answer first, so that a rejected key is an outage.
    let sonnet = Strict::new().script([Ok(())].into_iter().chain(script));
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("sonnet").tier("gpt", gpt.clone()).events(events))
        .layer(to(&gpt))
        .service(sonnet);
    let mut served = Vec::new();
    for _ in 0..4 {
        let response = llm.clone().oneshot(asked().explain()).await.unwrap();
        served.push((response.served_by().tier.unwrap().to_owned(), response.attempts().last().unwrap().tier.clone()));
    }
    let [sonnet, gpt] = ["sonnet", "gpt"].map(|name| (name.to_owned(), Some(name.into())));
    assert_eq!(served, [sonnet.clone(), gpt.clone(), gpt, sonnet]);
    let mut told = Vec::new();
    while let Ok(event) = heard.try_recv() {
        told.push(match event {
            Event::ModelSwitched { .. } => "switched",
            Event::ModelRecovered { .. } => "recovered",
            _ => "other",
        });
    }
    // The hedge's answer, the third, is no recovery.
    assert_eq!(told, ["switched", "recovered"]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_does_not_ask_a_tier_again_that_has_failed_as_the_hedge() {
    let (sonnet, gpt, haiku) = (
        Strict::new().fails(9, failure(ErrorKind::Server)),
        Strict::new().fails(9, failure(ErrorKind::Overloaded)),
        Strict::new(),
    );
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("sonnet").tier("gpt", gpt.clone()).tier("haiku", haiku.clone()))
        .layer(to(&gpt))
        .service(sonnet.clone());
    let response = llm.oneshot(asked()).await.unwrap();
    assert_eq!((sonnet.calls(), gpt.calls(), haiku.calls()), (1, 1, 1));
    let expected =
        [("sonnet", Some(ErrorKind::Server), Next::Hedged), ("gpt", Some(ErrorKind::Overloaded), Next::FailedOver)];
    assert_eq!((response.served_by().tier, steps(response.attempts())), (Some("haiku"), expected.to_vec()));
}

#[test]
fn nonsense_is_refused_by_name() {
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert_eq!(HedgeLayer::new("a").extra(wrong).checked().unwrap_err().field(), "hedge extra");
    }
    for wrong in [0.4, 1.0, f64::NAN] {
        assert_eq!(HedgeLayer::new("a").quantile(wrong).checked().unwrap_err().field(), "hedge quantile");
    }
    assert!(HedgeLayer::new("a").quantile(0.99).checked().is_ok());
}
