//! The bounds of the load of retries.

use std::time::{Duration, Instant};

use steadfast::{CircuitBreakerLayer, RetryBudget, RetryWithJitterLayer};
use tower::{
    Layer, Service, ServiceExt,
    retry::budget::{Budget, TpsBudget},
};
use tower_resilience::retry::RetryLayer;

use super::{Case, OURS, Trap, Verdict, scripted::Scripted};
use crate::{
    ours::Llm,
    rivals::resilience,
    subject::{Small, Subject},
};

pub(super) fn traps() -> Vec<Trap> {
    vec![
        Trap {
            id: "budget-share",
            says: "a retry budget of a share allows that share of 1,000 first tries: 0.3, 0.6, 0.9",
            cases: vec![
                Case::new("tower", || {
                    shares(|share| {
                        let budget = TpsBudget::new(Duration::from_secs(10), 0, share as f32);
                        (0..1000).for_each(|_| budget.deposit());
                        (0..2000).filter(|_| budget.withdraw()).count()
                    })
                }),
                Case::new(OURS, || shares(our_retries)),
            ],
        },
        Trap {
            id: "refusal-retried",
            says: "the refusal of an open circuit is not waited on and tried again",
            cases: vec![
                Case::new("tower-resilience", || {
                    let backend = Scripted::<Small>::new();
                    let inner = resilience::breaker().layer(backend.clone());
                    let retry =
                        RetryLayer::builder().max_attempts(3).exponential_backoff(Duration::from_secs(1)).build();
                    refused_soon(retry.layer(inner.clone()), inner, backend)
                }),
                Case::new(OURS, || {
                    let backend = Scripted::<Llm>::new();
                    let inner = CircuitBreakerLayer::new("primary").layer(backend.clone());
                    refused_soon(RetryWithJitterLayer::new().layer(inner.clone()), inner, backend)
                }),
            ],
        },
    ]
}

fn shares(retries: impl Fn(f64) -> usize) -> Verdict {
    let found = [0.3, 0.6, 0.9].map(|share| (share, retries(share)));
    // A little more than the share may be kept in reserve; much less is a budget that is not given.
    let passes = found.iter().all(|(share, retries)| {
        let allowed = share * 1000.0;
        (0.9 * allowed..=allowed + 10.0).contains(&(*retries as f64))
    });
    let shown: Vec<String> = found.iter().map(|(_, retries)| retries.to_string()).collect();
    Verdict::new(passes, format!("{} retries", shown.join(", ")))
}

fn our_retries(share: f64) -> usize {
    super::block_on(async {
        tokio::time::pause();
        let backend = Scripted::<Llm>::new();
        backend.set_healthy(false);
        let budget = RetryBudget::with_limits(share, 0.0, 10_000).expect("a valid budget");
        let retry = RetryWithJitterLayer::new().max_attempts(2).budget(budget).layer(backend.clone());
        for _ in 0..1000 {
            let _ = retry.clone().oneshot(Llm::request()).await;
        }
        backend.calls() - 1000
    })
}

/// `retry` is around `breaker`, which shares its circuit with it.
fn refused_soon<K, R, B>(mut retry: R, mut breaker: B, backend: Scripted<K>) -> Verdict
where
    K: Subject,
    R: Service<K::Request>,
    B: Service<K::Request>,
{
    super::block_on(async {
        backend.set_healthy(false);
        for _ in 0..20 {
            if let Ok(ready) = breaker.ready().await {
                let _ = ready.call(K::request()).await;
            }
        }
        let begun = Instant::now();
        if let Ok(ready) = retry.ready().await {
            let _ = ready.call(K::request()).await;
        }
        let took = begun.elapsed();
        let soon = took < Duration::from_millis(100);
        // Its documentation says so.
        let seen = if soon { "" } else { ", unless its policy is told not to" };
        Verdict::new(soon, format!("refused after {took:.1?}{seen}"))
    })
}
