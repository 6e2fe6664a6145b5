//! The ways in which a circuit closes again.

use std::time::{Duration, Instant};

use steadfast::CircuitBreakerLayer;
use tower::{Layer, Service, ServiceExt};

use super::{
    Case, OURS, Trap, Verdict,
    breakers::{Boxed, Program, WAIT, begin, call, cases, comes_through, open, service_cases, settle, wait_over},
    scripted::Scripted,
};
use crate::{ours::Llm, subject::Subject};

pub(super) fn traps() -> Vec<Trap> {
    vec![
        Trap {
            id: "stampede",
            says: "of 100 callers at the end of the wait, the one probe that is configured comes through",
            cases: cases::<Stampede>(),
        },
        Trap {
            id: "stale-success",
            says: "an answer to a call from before the outage does not close the circuit for the probe",
            cases: cases::<StaleSuccess>(),
        },
        Trap {
            id: "stale-failure",
            says: "a failure of a call from before the outage does not undo a good probe",
            cases: cases::<StaleFailure>(),
        },
        Trap {
            id: "probe-dropped",
            says: "a probe that is dropped gives its place back",
            cases: cases::<ProbeDropped>(),
        },
        Trap {
            id: "built-before",
            says: "a call that was built before the outage, polled after the wait and dropped, leaves no circuit stuck",
            cases: cases::<BuiltBefore>(),
        },
        Trap {
            id: "open-not-ready",
            says: "an open circuit refuses at once, also when what is behind it is never ready",
            cases: service_cases::<OpenNotReady>(),
        },
        Trap {
            id: "wait-resets",
            says: "after a full recovery the next outage begins with the first wait",
            cases: resets(),
        },
    ]
}

struct Stampede;

impl Program for Stampede {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict {
        open::<K>(&breaker, &backend).await;
        wait_over().await;
        let before = backend.calls();
        let held: Vec<_> = (0..100).map(|_| backend.plan_wait()).collect();
        let calls: Vec<_> = (0..100).map(|_| begin::<K>(&breaker)).collect();
        settle().await;
        let through = backend.calls() - before;
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        drop(held);
        Verdict::new(through == 1, format!("{through} of 100 came through"))
    }
}

/// An answer is on its way since before the outage; a probe is under way too.
async fn stale<K: Subject>(breaker: &Boxed<K>, backend: &Scripted<K>, old: bool, probe: bool) -> (bool, bool) {
    let tell_old = backend.plan_wait();
    let old_call = begin::<K>(breaker);
    settle().await;
    open::<K>(breaker, backend).await;
    wait_over().await;
    let tell_probe = backend.plan_wait();
    let probe_call = begin::<K>(breaker);
    settle().await;
    let _ = tell_old.send(old);
    let _ = old_call.await;
    // The circuit admits no other call while the probe is under way.
    let early = comes_through::<K>(breaker, backend).await;
    let _ = tell_probe.send(probe);
    let _ = probe_call.await;
    let after = comes_through::<K>(breaker, backend).await;
    (early, after)
}

struct StaleSuccess;

impl Program for StaleSuccess {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict {
        let (early, after) = stale::<K>(&breaker, &backend, true, false).await;
        let seen = match (early, after) {
            (false, false) => "the failed probe opened it again",
            (true, false) => "it let others in before the probe was back",
            (_, true) => "closed, though the probe failed",
        };
        Verdict::new(!early && !after, seen)
    }
}

struct StaleFailure;

impl Program for StaleFailure {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict {
        let (_, after) = stale::<K>(&breaker, &backend, false, true).await;
        Verdict::new(after, if after { "the good probe closed it" } else { "open, though the probe was good" })
    }
}

struct ProbeDropped;

impl Program for ProbeDropped {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict {
        open::<K>(&breaker, &backend).await;
        wait_over().await;
        let _held = backend.plan_wait();
        let probe = begin::<K>(&breaker);
        settle().await;
        probe.abort();
        settle().await;
        recovers::<K>(&breaker, &backend).await
    }
}

struct BuiltBefore;

impl Program for BuiltBefore {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict {
        let mut early = breaker.clone();
        let Ok(ready) = early.ready().await else { return Verdict::new(false, "it is never ready") };
        let mut call = Box::pin(ready.call(K::request()));
        open::<K>(&breaker, &backend).await;
        wait_over().await;
        let _held = backend.plan_wait();
        let _ = tokio::time::timeout(Duration::from_millis(3), &mut call).await;
        drop(call);
        recovers::<K>(&breaker, &backend).await
    }
}

/// The backend is well again: a call comes through, now or after another wait.
async fn recovers<K: Subject>(breaker: &Boxed<K>, backend: &Scripted<K>) -> Verdict {
    backend.forget();
    let before = backend.calls();
    for _ in 0..20 {
        if let Ok(Ok(_)) = tokio::time::timeout(WAIT, call::<K>(breaker)).await {
            return Verdict::new(true, "the next call came through");
        }
        tokio::time::sleep(WAIT / 4).await;
    }
    Verdict::new(false, format!("stuck: {} of 20 later calls came through", backend.calls() - before))
}

struct OpenNotReady;

impl Program for OpenNotReady {
    async fn run<K: Subject>(breaker: Boxed<K>, backend: Scripted<K>) -> Verdict {
        open::<K>(&breaker, &backend).await;
        backend.set_ready(false);
        let begun = Instant::now();
        let end = tokio::time::timeout(Duration::from_millis(500), call::<K>(&breaker)).await;
        match end {
            Ok(_) => Verdict::new(true, format!("refused after {:.1?}", begun.elapsed())),
            Err(_) => Verdict::new(false, "it waits for ever"),
        }
    }
}

const FIRST: Duration = Duration::from_millis(10);

/// The cases whose wait grows; failsafe's too, but by whole seconds.
fn resets() -> Vec<Case> {
    vec![
        #[cfg(feature = "liter-llm")]
        Case::new("liter-llm", || {
            use crate::rivals::liter::{Liter, breaker_after};

            super::block_on(async {
                let backend = Scripted::<Liter>::new();
                outages::<Liter, _>(breaker_after(FIRST, backend.clone()), backend).await
            })
        }),
        Case::new(OURS, || {
            super::block_on(async {
                let backend = Scripted::<Llm>::new();
                let layer = CircuitBreakerLayer::new("primary").cooldown(FIRST).cooldown_jitter(0.0);
                let layer = layer.cooldown_growth(2.0, Duration::from_secs(10));
                outages::<Llm, _>(layer.layer(backend.clone()), backend).await
            })
        }),
    ]
}

/// Six outages, each over before the next begins, with a hundred good calls in between.
async fn outages<K, S>(mut breaker: S, backend: Scripted<K>) -> Verdict
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer>,
{
    let mut waits = Vec::new();
    for _ in 0..6 {
        backend.set_healthy(false);
        for _ in 0..5 {
            let _ = one::<K, S>(&mut breaker).await;
        }
        backend.set_healthy(true);
        let begun = Instant::now();
        while !one::<K, S>(&mut breaker).await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(begun.elapsed().as_millis());
        for _ in 0..100 {
            let _ = one::<K, S>(&mut breaker).await;
        }
    }
    let passes = waits.last() <= waits.first().map(|first| first * 3).as_ref();
    let shown: Vec<String> = waits.iter().map(ToString::to_string).collect();
    Verdict::new(passes, format!("waits of {} ms", shown.join(", ")))
}

async fn one<K: Subject, S: Service<K::Request>>(service: &mut S) -> bool {
    let Ok(ready) = service.ready().await else { return false };
    ready.call(K::request()).await.is_ok()
}
