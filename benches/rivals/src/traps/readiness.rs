//! Calls of services that were not asked whether they are ready, and waits for those that need not be.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use steadfast::{FallbackLayer, RetryWithJitterLayer};
use tower::{Layer, Service, ServiceExt};
use tower_resilience::{fallback::FallbackLayer as ResilienceFallback, hedge::HedgeLayer, retry::RetryLayer};

use super::{
    Case, OURS, Trap, Verdict,
    scripted::{Scripted, Step},
    waiting::{Never, Slow},
};
use crate::{
    ours::{self, Llm},
    rivals::{resilience, seatbelt, tower as towers},
    subject::{Answers, Small, Subject},
};

pub(super) fn traps() -> Vec<Trap> {
    vec![
        Trap {
            id: "ready-before-retry",
            says: "a retry asks the service whether it is ready before it calls it again",
            cases: vec![
                Case::new("tower", || second_try::<Small, _>(towers::retry)),
                Case::new("tower-resilience", || {
                    second_try::<Small, _>(|inner| {
                        RetryLayer::builder().max_attempts(3).fixed_backoff(SOON).build().layer(inner)
                    })
                }),
                Case::new("seatbelt", || {
                    second_try::<Small, _>(|inner| {
                        seatbelt::quick_retry::<Small, _>(&seatbelt::context::<Small>(), inner)
                    })
                }),
                Case::new(OURS, || {
                    second_try::<Llm, _>(|inner| RetryWithJitterLayer::new().max_delay(SOON).layer(inner))
                }),
            ],
        },
        Trap {
            id: "ready-before-hedge",
            says: "a hedge asks the service whether it is ready before it calls it once more",
            cases: vec![
                Case::new("tower-resilience", || {
                    second_call::<Small, _>(|inner| HedgeLayer::builder().delay(SOON).build().layer(inner))
                }),
                Case::new("seatbelt", || {
                    second_call::<Small, _>(|inner| {
                        seatbelt::hedging::<Small, _>(&seatbelt::context::<Small>(), SOON, inner)
                    })
                }),
                #[cfg(feature = "liter-llm")]
                Case::new("liter-llm", || {
                    second_call::<crate::rivals::liter::Liter, _>(|inner| crate::rivals::liter::hedge(SOON, inner))
                }),
                Case::new(OURS, || second_call::<Llm, _>(|inner| ours::hedge(SOON, inner))),
            ],
        },
        Trap {
            id: "hedge-waits",
            says: "a failure of the first one starts the hedge at once, and not after its delay of 300 ms",
            cases: vec![
                Case::new("tower-resilience", || {
                    hedged::<Small, _>(|inner| HedgeLayer::builder().delay(DELAY).build().layer(inner))
                }),
                Case::new("seatbelt", || {
                    hedged::<Small, _>(|inner| {
                        seatbelt::hedging::<Small, _>(&seatbelt::context::<Small>(), DELAY, inner)
                    })
                }),
                #[cfg(feature = "liter-llm")]
                Case::new("liter-llm", || {
                    hedged::<crate::rivals::liter::Liter, _>(|inner| crate::rivals::liter::hedge(DELAY, inner))
                }),
                Case::new(OURS, || hedged::<Llm, _>(|inner| ours::hedge(DELAY, inner))),
            ],
        },
        Trap {
            id: "fallback-not-ready",
            says: "a healthy primary answers while the fallback is never ready",
            cases: vec![
                Case::new("tower-resilience", || {
                    answers::<Small, _>(
                        ResilienceFallback::tower_service(Never::<Small>::new()).layer(Answers::<Small>::new()),
                    )
                }),
                #[cfg(feature = "liter-llm")]
                Case::new("liter-llm", || {
                    use crate::rivals::liter::{Liter, fallback_to};
                    answers::<Liter, _>(fallback_to(Never::<Liter>::new(), Answers::<Liter>::new()))
                }),
                Case::new(OURS, || {
                    answers::<Llm, _>(
                        FallbackLayer::new("primary").tier("backup", Never::<Llm>::new()).layer(Answers::<Llm>::new()),
                    )
                }),
            ],
        },
        Trap {
            id: "one-at-a-time",
            says: "50 calls at once over a service of 50 ms take less than 150 ms",
            cases: vec![
                Case::new("tower", || together::<Small, _>(towers::three::<Small, _>)),
                Case::new("tower-resilience", || together::<Small, _>(resilience::five::<Small, _>)),
                Case::new("seatbelt", || together::<Small, _>(seatbelt::four::<Small, _>)),
                #[cfg(feature = "liter-llm")]
                Case::new("liter-llm", || {
                    together::<crate::rivals::liter::Liter, _>(|inner| crate::rivals::liter::three(inner))
                }),
                Case::new(OURS, || together::<Llm, _>(ours::five)),
            ],
        },
    ]
}

const SOON: Duration = Duration::from_millis(2);
const DELAY: Duration = Duration::from_millis(300);

/// Panics when it is called without having been ready since the last call. A clone has been ready for nobody.
struct Strict<S> {
    inner: S,
    ready: bool,
}

impl<S: Clone> Clone for Strict<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), ready: false }
    }
}

impl<S: Service<R>, R> Service<R> for Strict<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let polled = self.inner.poll_ready(cx);
        self.ready = polled.is_ready();
        polled
    }

    fn call(&mut self, request: R) -> S::Future {
        assert!(self.ready, "called without having been ready");
        self.ready = false;
        self.inner.call(request)
    }
}

fn strict<K: Subject>(backend: &Scripted<K>) -> Strict<Scripted<K>> {
    Strict { inner: backend.clone(), ready: false }
}

/// The first try fails, the second one answers.
fn second_try<K: Subject, S: Service<K::Request>>(make: impl Fn(Strict<Scripted<K>>) -> S) -> Verdict {
    super::block_on(async {
        let backend = Scripted::<K>::new();
        backend.plan(Step::Fail);
        answered::<K, _>(make(strict(&backend)), &backend).await
    })
}

/// The first call never answers, the second one does.
fn second_call<K: Subject, S: Service<K::Request>>(make: impl Fn(Strict<Scripted<K>>) -> S) -> Verdict {
    super::block_on(async {
        let backend = Scripted::<K>::new();
        let _held = backend.plan_wait();
        answered::<K, _>(make(strict(&backend)), &backend).await
    })
}

async fn answered<K: Subject, S: Service<K::Request>>(mut service: S, backend: &Scripted<K>) -> Verdict {
    let Ok(ready) = service.ready().await else { return Verdict::new(false, "it is never ready") };
    let answer = tokio::time::timeout(Duration::from_secs(5), ready.call(K::request())).await;
    let well = matches!(answer, Ok(Ok(_)));
    Verdict::new(well, format!("{} after {} calls", if well { "answered" } else { "no answer" }, backend.calls()))
}

fn hedged<K: Subject, S: Service<K::Request>>(make: impl Fn(Scripted<K>) -> S) -> Verdict {
    super::block_on(async {
        let backend = Scripted::<K>::new();
        backend.plan(Step::Fail);
        let mut service = make(backend.clone());
        let begun = Instant::now();
        let Ok(ready) = service.ready().await else { return Verdict::new(false, "it is never ready") };
        let well = ready.call(K::request()).await.is_ok();
        let took = begun.elapsed();
        let seen = format!("{} after {took:.0?}", if well { "answered" } else { "failed" });
        Verdict::new(well && took < DELAY / 3, seen)
    })
}

fn answers<K: Subject, S: Service<K::Request>>(mut service: S) -> Verdict {
    super::block_on(async {
        let call = async {
            match service.ready().await {
                Ok(ready) => ready.call(K::request()).await.is_ok(),
                Err(_) => false,
            }
        };
        match tokio::time::timeout(Duration::from_millis(500), call).await {
            Ok(true) => Verdict::new(true, "answered"),
            Ok(false) => Verdict::new(false, "failed"),
            Err(_) => Verdict::new(false, "it waits for ever"),
        }
    })
}

fn together<K, S>(make: impl Fn(Slow<K>) -> S) -> Verdict
where
    K: Subject,
    S: Service<K::Request> + Clone + 'static,
{
    super::block_on_local(async {
        let service = make(Slow::new());
        let begun = Instant::now();
        let calls: Vec<_> = (0..50).map(|_| tokio::task::spawn_local(well::<K, S>(service.clone()))).collect();
        let mut answered = 0;
        for call in calls {
            answered += usize::from(call.await.unwrap_or(false));
        }
        let took = begun.elapsed();
        Verdict::new(answered == 50 && took < Duration::from_millis(150), format!("{answered} answered in {took:.0?}"))
    })
}

async fn well<K: Subject, S: Service<K::Request>>(mut service: S) -> bool {
    match service.ready().await {
        Ok(ready) => ready.call(K::request()).await.is_ok(),
        Err(_) => false,
    }
}
