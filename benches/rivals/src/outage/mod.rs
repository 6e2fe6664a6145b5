//! The callers' view while a provider is down.
//!
//! Each stack gets the same callers, the same primary with an outage, and a backup that is well. It runs in real time,
//! ten times as fast as it says, for most breakers read the system's clock, which cannot be paused. All stacks
//! run at once, each with providers of its own: nearly all of it is waiting.

mod provider;
mod stacks;

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tower::{Service, ServiceExt};

use self::provider::{Provider, Side};
pub use self::{provider::Fault, stacks::OURS};
use crate::measure::Effort;

/// One second here stands for so many.
///
/// It is no more, since a stack may take failures of one moment (steadfast: 60 ms) for one fact.
pub const SCALE: u32 = 10;

/// Returns the time here for a time of the outage: a second, a minute.
const fn scaled(milliseconds: u64) -> Duration {
    Duration::from_micros(milliseconds * 1000 / SCALE as u64)
}

/// Until the answer of a provider that is well.
const LATENCY: Duration = scaled(500);
/// Until an error of one that is down.
const ERROR_LATENCY: Duration = scaled(200);
/// For one attempt, and for all of a request.
const ATTEMPT: Duration = scaled(30_000);
const TOTAL: Duration = scaled(90_000);
/// The time that an open circuit stays open, and the wait before the first retry.
const COOLDOWN: Duration = scaled(60_000);
const BACKOFF: Duration = scaled(1_000);
/// Between one request and the next.
const EVERY: Duration = scaled(500);
const BEFORE: Duration = scaled(30_000);
const AFTER: Duration = scaled(180_000);

/// The number of outages of each kind, each longer than the one before by a part of the time from one probe of a silent
/// provider to the next.
/// The place in that time at which an outage ends decides which stack is back when.
const OUTAGES: u32 = 5;

/// A stack's results in all outages of one kind.
#[derive(Clone, Debug)]
pub struct Came {
    pub who: &'static str,
    pub requests: usize,
    /// Requests that ended as an error.
    pub lost: usize,
    /// Attempts at the primary while it was down, in each outage.
    pub dead: f64,
    /// The time that the requests of the outages took beyond a healthy one, in the seconds that it stands for.
    pub added_p50: f64,
    pub added_p99: f64,
    /// From the end of an outage until the last request that the primary did not answer: the mean and the longest;
    /// `None` if it never came back.
    pub recovery: Option<(f64, f64)>,
}

/// One request.
struct Done {
    begun: Duration,
    took: Duration,
    by: Option<Side>,
}

/// All stacks in outages of this kind.
pub fn run(fault: Fault, effort: Effort) -> Vec<Came> {
    let shortest = if effort == Effort::Quick { scaled(60_000) } else { scaled(300_000) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let mut stacks = Vec::new();
        for stack in stacks::all() {
            let length = |outage| shortest + (COOLDOWN + ATTEMPT) * outage / OUTAGES;
            let drills = (0..OUTAGES).map(|outage| tokio::spawn((stack.drill)(fault, length(outage))));
            stacks.push((stack.who, drills.collect::<Vec<_>>()));
        }
        let mut all = Vec::new();
        for (who, drills) in stacks {
            let mut outages = Vec::new();
            for drill in drills {
                outages.push(drill.await.expect("a drill ends without a panic"));
            }
            all.push(came(who, &outages));
        }
        all
    })
}

/// The outcomes of the requests of one outage.
struct Drilled {
    done: Vec<Done>,
    outage: Range<Duration>,
    dead: usize,
}

/// Sends the traffic through a stack, whose answers name who gave them.
async fn drill<S, R>(service: S, request: fn() -> R, by: fn(&S::Response) -> Side, primary: Provider) -> Drilled
where
    S: Service<R, Future: Send, Response: Send, Error: Send> + Clone + Send + 'static,
    R: Send + 'static,
{
    let begun = primary.begun();
    let end = primary.outage().end + AFTER;
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    let mut next = Duration::ZERO;
    while next < end {
        sleep_until(begun + next).await;
        let (service, done) = (service.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            let asked = Instant::now();
            let answer = service.oneshot(request()).await;
            let one = Done { begun: asked - begun, took: asked.elapsed(), by: answer.ok().as_ref().map(by) };
            done.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }));
        next += EVERY;
    }
    for task in tasks {
        let _ = task.await;
    }
    let done = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    Drilled { done, outage: primary.outage(), dead: primary.dead_attempts() }
}

fn came(who: &'static str, outages: &[Drilled]) -> Came {
    let seconds = |time: Duration| (time * SCALE).as_secs_f64();
    let mut added = Vec::new();
    let mut recoveries = Vec::new();
    for Drilled { done, outage, .. } in outages {
        let within = done.iter().filter(|one| outage.contains(&one.begun));
        added.extend(within.map(|one| one.took.saturating_sub(LATENCY)));
        let after = || done.iter().filter(|one| one.begun >= outage.end);
        let last = after().filter(|one| one.by != Some(Side::Primary)).map(|one| one.begun).max();
        let back = after().any(|one| one.by == Some(Side::Primary));
        recoveries.push(back.then(|| last.map_or(0.0, |last| seconds(last - outage.end))));
    }
    added.sort_unstable();
    let at = |share: f64| {
        let at = (added.len().saturating_sub(1) as f64 * share).round() as usize;
        added.get(at).copied().map_or(0.0, seconds)
    };
    let count = outages.len() as f64;
    let recoveries: Option<Vec<f64>> = recoveries.into_iter().collect();
    Came {
        who,
        requests: outages.iter().map(|outage| outage.done.len()).sum(),
        lost: outages.iter().flat_map(|outage| &outage.done).filter(|one| one.by.is_none()).count(),
        dead: outages.iter().map(|outage| outage.dead).sum::<usize>() as f64 / count,
        added_p50: at(0.5),
        added_p99: at(0.99),
        recovery: recoveries.map(|all| (all.iter().sum::<f64>() / count, all.iter().copied().fold(0.0, f64::max))),
    }
}
