//! Windows of calls and of time.

use std::time::{Duration, Instant};

use failsafe::{Config, backoff, failure_policy};
use steadfast::layers::circuit_breaker::Window;
use tower::{Layer, Service, ServiceExt};

use super::{Case, OURS, Trap, Verdict, scripted::Scripted};
use crate::{
    ours::{self, Llm},
    rivals::{LONG, resilience, seatbelt, wrapped},
    subject::{Answers, Small, Subject},
};

pub(super) fn traps() -> Vec<Trap> {
    vec![
        Trap {
            id: "window-slides",
            says: "after 10,000 successes a window of 100 calls at 50 % opens with the 50th failure at the latest",
            cases: vec![
                Case::new("recloser", || slides::<Small, _>(|inner| wrapped::recloser_window(100, inner))),
                Case::new("tower-resilience", || {
                    slides::<Small, _>(|inner| resilience::count_window(100).layer(inner))
                }),
                Case::new(OURS, || {
                    slides::<Llm, _>(|inner| ours::count_window(100).consecutive_failures(u32::MAX).layer(inner))
                }),
            ],
        },
        Trap {
            id: "window-cost",
            says: "a call costs the same with 1,000 and with 50,000 calls in a window of time",
            cases: vec![
                Case::new("failsafe", || {
                    costs::<Small, _>(|| {
                        let policy = failure_policy::success_rate_over_time_window(
                            0.5,
                            10,
                            Duration::from_secs(60),
                            backoff::constant(LONG),
                        );
                        let breaker = Config::new().failure_policy(policy).build();
                        wrapped::Failsafe { inner: Answers::<Small>::new(), breaker }
                    })
                }),
                Case::new("tower-resilience", || {
                    costs::<Small, _>(|| resilience::time_window().layer(Answers::<Small>::new()))
                }),
                Case::new("seatbelt", || {
                    costs::<Small, _>(|| {
                        seatbelt::breaker::<Small, _>(&seatbelt::context::<Small>(), Answers::<Small>::new())
                    })
                }),
                Case::new(OURS, || {
                    costs::<Llm, _>(|| {
                        let layer = ours::breaker().failure_rate(0.5, Window::last(Duration::from_secs(60)));
                        layer.layer(Answers::<Llm>::new())
                    })
                }),
            ],
        },
    ]
}

fn slides<K: Subject, S: Service<K::Request>>(make: impl Fn(Scripted<K>) -> S) -> Verdict {
    super::block_on(async {
        let backend = Scripted::<K>::new();
        let mut breaker = make(backend.clone());
        for _ in 0..10_000 {
            one::<K, S>(&mut breaker).await;
        }
        backend.set_healthy(false);
        for failures in 0..20_000 {
            let before = backend.calls();
            one::<K, S>(&mut breaker).await;
            if backend.calls() == before {
                return Verdict::new(failures <= 50, format!("open after {failures} failures"));
            }
        }
        Verdict::new(false, "not open after 20,000 failures")
    })
}

fn costs<K: Subject, S: Service<K::Request>>(make: impl Fn() -> S) -> Verdict {
    super::block_on(async {
        let mut breaker = make();
        let mut made = 0;
        let mut cost_at = async |calls: u32| {
            while made < calls {
                one::<K, S>(&mut breaker).await;
                made += 1;
            }
            // The best of several, for this machine does other things too.
            let mut best = Duration::MAX;
            for _ in 0..10 {
                let begun = Instant::now();
                for _ in 0..20 {
                    one::<K, S>(&mut breaker).await;
                }
                best = best.min(begun.elapsed() / 20);
            }
            made += 200;
            best
        };
        let (few, many) = (cost_at(1_000).await, cost_at(50_000).await);
        let ratio = many.as_secs_f64() / few.as_secs_f64().max(50e-9);
        Verdict::new(ratio < 3.0, format!("{few:.1?} and {many:.1?}"))
    })
}

async fn one<K: Subject, S: Service<K::Request>>(service: &mut S) {
    if let Ok(ready) = service.ready().await {
        let _ = ready.call(K::request()).await;
    }
}
