//! The breakers, each with one probe and a short wait, around a service that does what it is told.

use std::time::Duration;

use failsafe::{Config, backoff, failure_policy};
use recloser::{AsyncRecloser, Recloser};
use seatbelt::breaker::{Breaker, HalfOpenMode};
use steadfast::CircuitBreakerLayer;
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};
use tower_resilience::circuitbreaker::CircuitBreakerLayer as ResilienceLayer;

use super::{Case, OURS, Verdict, scripted::Scripted};
use crate::{
    ours::Llm,
    rivals::{
        seatbelt as seatbelts,
        wrapped::{Failsafe, Reclosed},
    },
    subject::{Small, Subject},
};

/// The time that an open circuit stays open.
pub(super) const WAIT: Duration = Duration::from_millis(60);

/// Long enough that it is over: liter-llm's first wait is twice what it is told.
pub(super) async fn wait_over() {
    tokio::time::sleep(WAIT * 2 + WAIT / 2).await;
}

/// A breaker, whose errors nobody looks at.
pub(super) type Boxed<K> = BoxCloneService<<K as Subject>::Request, <K as Subject>::Answer, ()>;

fn boxed<K, S>(service: S) -> Boxed<K>
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Future: Send> + Clone + Send + 'static,
{
    BoxCloneService::new(service.map_err(|_| ()))
}

/// A program that is the same for all breakers.
pub(super) trait Program: 'static {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict;
}

/// The program for each of the breakers that are services themselves.
pub(super) fn service_cases<P: Program>() -> Vec<Case> {
    cases::<P>().into_iter().filter(|case| !["failsafe", "recloser"].contains(&case.who)).collect()
}

/// The program for each of the breakers.
pub(super) fn cases<P: Program>() -> Vec<Case> {
    fn case<P: Program, K: Subject>(who: &'static str, make: fn(Scripted<K>) -> Boxed<K>) -> Case {
        Case::new(who, move || {
            super::block_on(async {
                let backend = Scripted::new();
                P::run::<K>(make(backend.clone()), backend).await
            })
        })
    }
    vec![
        case::<P, Small>("failsafe", failsafe),
        case::<P, Small>("recloser", recloser),
        case::<P, Small>("tower-resilience", resilience),
        case::<P, Small>("seatbelt", seatbelt),
        #[cfg(feature = "liter-llm")]
        case::<P, crate::rivals::liter::Liter>("liter-llm", liter),
        case::<P, Llm>(OURS, ours),
    ]
}

fn failsafe(backend: Scripted<Small>) -> Boxed<Small> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(WAIT));
    boxed::<Small, _>(Failsafe { inner: backend, breaker: Config::new().failure_policy(policy).build() })
}

fn recloser(backend: Scripted<Small>) -> Boxed<Small> {
    let breaker = Recloser::custom().closed_len(5).half_open_len(1).open_wait(WAIT).build();
    boxed::<Small, _>(Reclosed { inner: backend, breaker: AsyncRecloser::from(breaker) })
}

fn resilience(backend: Scripted<Small>) -> Boxed<Small> {
    let layer = ResilienceLayer::builder()
        .consecutive_failures(5)
        .wait_duration_in_open(WAIT)
        .permitted_calls_in_half_open(1)
        .build();
    boxed::<Small, _>(layer.expect("a valid breaker").layer(backend))
}

fn seatbelt(backend: Scripted<Small>) -> Boxed<Small> {
    let layer = Breaker::layer("breaker", &seatbelts::context::<Small>())
        .recovery_with(|result, _| seatbelts::recovery(result))
        .rejected_input_error(|_, _| Small::error())
        .min_throughput(5)
        .break_duration(WAIT)
        .half_open_mode(HalfOpenMode::quick());
    boxed::<Small, _>(layer.layer(backend))
}

#[cfg(feature = "liter-llm")]
fn liter(backend: Scripted<crate::rivals::liter::Liter>) -> Boxed<crate::rivals::liter::Liter> {
    boxed::<crate::rivals::liter::Liter, _>(crate::rivals::liter::breaker_after(WAIT, backend))
}

fn ours(backend: Scripted<Llm>) -> Boxed<Llm> {
    let layer = CircuitBreakerLayer::new("primary").cooldown(WAIT).cooldown_jitter(0.0);
    boxed::<Llm, _>(layer.layer(backend))
}

/// A call, to its end.
pub(super) async fn call<K: Subject>(breaker: &Boxed<K>) -> Result<K::Answer, ()> {
    breaker.clone().oneshot(K::request()).await
}

/// Returns whether a call comes through to the backend within a moment; it is dropped then.
pub(super) async fn comes_through<K: Subject>(breaker: &Boxed<K>, backend: &Scripted<K>) -> bool {
    let before = backend.calls();
    let _ = tokio::time::timeout(Duration::from_millis(5), call::<K>(breaker)).await;
    backend.calls() > before
}

/// Begins a call that the backend holds, until it is told.
pub(super) fn begin<K: Subject>(breaker: &Boxed<K>) -> tokio::task::JoinHandle<bool> {
    let breaker = breaker.clone();
    tokio::spawn(async move { breaker.oneshot(K::request()).await.is_ok() })
}

/// Lets all that was spawned run.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// Fails so often that each of the breakers opens.
pub(super) async fn open<K: Subject>(breaker: &Boxed<K>, backend: &Scripted<K>) {
    backend.set_healthy(false);
    for _ in 0..20 {
        let _ = call::<K>(breaker).await;
    }
    backend.set_healthy(true);
}
