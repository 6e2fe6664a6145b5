//! The spread of waits before a retry.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use seatbelt::retry::Retry;
use steadfast::layers::retry::Backoff;
use tower::{
    Layer, ServiceExt,
    retry::backoff::{Backoff as _, ExponentialBackoffMaker, MakeBackoff},
    util::rng::HasherRng,
};
use tower_resilience::retry::{ExponentialRandomBackoff, IntervalFunction};

use super::{Case, OURS, Trap, Verdict};
use crate::{
    rivals::seatbelt as seatbelts,
    subject::{Fails, Small, Subject},
};

pub(super) fn traps() -> Vec<Trap> {
    vec![
        Trap {
            id: "jitter-alike",
            says: "four requests that fail together do not come back together",
            cases: cases(|waits| {
                let waits = waits(Duration::from_millis(700), Duration::from_secs(60), false, 4);
                let different = waits.iter().collect::<BTreeSet<_>>().len();
                Verdict::new(different == 4, format!("{different} different waits of 4"))
            }),
        },
        Trap {
            id: "jitter-whole-seconds",
            says: "a first wait of one second is spread over at least half a second",
            cases: cases(|waits| spread(&waits(Duration::from_secs(1), Duration::from_secs(60), true, 1000), 0.5)),
        },
        Trap {
            id: "jitter-at-the-cap",
            says: "waits are spread over at least half of the longest wait also when they have come to it",
            cases: cases(|waits| spread(&waits(Duration::from_secs(5), Duration::from_secs(5), true, 1000), 2.5)),
        },
        Trap {
            id: "longest-wait",
            says: "no wait is longer than the longest one that is configured",
            cases: cases(|waits| {
                let waits = waits(Duration::from_secs(1), Duration::from_secs(1), true, 1000);
                let longest = waits.iter().max().copied().unwrap_or_default();
                Verdict::new(longest <= Duration::from_secs(1), format!("{longest:.2?} where 1 s is the longest"))
            }),
        },
    ]
}

/// The first waits of so many requests, with this base and this cap and jitter as wide as it goes: of one maker, or
/// each of its own.
type Waits = fn(base: Duration, cap: Duration, own: bool, count: usize) -> Vec<Duration>;

fn cases(judge: fn(Waits) -> Verdict) -> Vec<Case> {
    let all: [(&str, Waits); 4] =
        [("tower", tower), ("tower-resilience", resilience), ("seatbelt", seatbelt), (OURS, ours)];
    all.map(|(who, waits)| Case::new(who, move || judge(waits))).into()
}

fn spread(waits: &[Duration], at_least: f64) -> Verdict {
    let (shortest, longest) = (waits.iter().min(), waits.iter().max());
    let (shortest, longest) = (shortest.copied().unwrap_or_default(), longest.copied().unwrap_or_default());
    let spread = (longest - shortest).as_secs_f64();
    Verdict::new(spread >= at_least, format!("from {shortest:.2?} to {longest:.2?}"))
}

fn tower(base: Duration, cap: Duration, own: bool, count: usize) -> Vec<Duration> {
    super::block_on(async {
        let make = || ExponentialBackoffMaker::new(base, cap, 1.0, HasherRng::new()).expect("a valid backoff");
        let mut maker = make();
        // A clock that stands still, so that a wait is what lies before its end.
        tokio::time::pause();
        let now = tokio::time::Instant::now();
        let mut first = || {
            if own {
                maker = make();
            }
            maker.make_backoff().next_backoff().deadline() - now
        };
        (0..count).map(|_| first()).collect()
    })
}

fn resilience(base: Duration, cap: Duration, _: bool, count: usize) -> Vec<Duration> {
    let backoff = ExponentialRandomBackoff::new(base, 1.0).expect("a valid backoff").max_interval(cap);
    (0..count).map(|_| backoff.next_interval(0)).collect()
}

fn seatbelt(base: Duration, cap: Duration, _: bool, count: usize) -> Vec<Duration> {
    super::block_on(async {
        let waits = Arc::new(Mutex::new(Vec::new()));
        let heard = waits.clone();
        let layer = Retry::layer("retry", &seatbelts::context::<Small>())
            .clone_input()
            .recovery_with(|result, _| seatbelts::recovery(result))
            .base_delay(base)
            .max_delay(cap)
            .use_jitter(true)
            .on_retry(move |_, retry| {
                if let Ok(mut waits) = heard.lock() {
                    waits.push(retry.retry_delay());
                }
            });
        let retry = layer.layer(Fails::<Small>::new());
        for _ in 0..count {
            // It says how long it is going to wait, and that is all there is to know.
            let call = retry.clone().oneshot(Small::request());
            let _ = tokio::time::timeout(Duration::ZERO, call).await;
        }
        let waits = waits.lock().map(|waits| waits.clone());
        waits.unwrap_or_default()
    })
}

fn ours(base: Duration, cap: Duration, _: bool, count: usize) -> Vec<Duration> {
    let backoff = Backoff::new(base).max_delay(cap);
    let mut rng = fastrand::Rng::with_seed(7);
    (0..count).map(|_| backoff.delay(0, None, &mut rng)).collect()
}
