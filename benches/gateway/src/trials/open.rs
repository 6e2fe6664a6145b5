//! OpenLoad load: requests that arrive at random at a given rate, whether or not earlier ones have their answers. A
//! latency begins with the arrival, not with the moment in which a caller had time to send: so a stall counts for all
//! who came while it lasted.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{sync::Notify, task::JoinSet};

use super::rate::Trial;
use crate::{
    dialect::Mode,
    load::{Caller, Shape, Target, request},
    pace,
};

/// One rate of arrivals.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    /// A second.
    pub rate: f64,
    /// The arrivals of this time do not count.
    pub warm_up: Duration,
    pub measured: Duration,
    /// The most connections; who arrives while all are busy waits for one.
    pub connections: usize,
}

#[derive(Debug)]
struct Shared {
    line: Mutex<Line>,
    arrived: Notify,
}

#[derive(Debug)]
struct Line {
    /// The arrivals that no caller has taken up.
    waiting: VecDeque<Instant>,
    /// Callers with nothing to do.
    idle: usize,
    /// Arrivals without an answer.
    open: u64,
    failed: u64,
    /// The arrivals from here on count.
    from: Instant,
    micros: Histogram<u64>,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// Lets them come, and waits for the last answers for [`PATIENCE`] at most.
    pub async fn run(self, target: &Target) -> Trial {
        let from = Instant::now() + self.warm_up;
        // Three digits are within a thousandth.
        let micros = Histogram::new_with_bounds(1, 120_000_000, 3).expect("bounds that are in order");
        let line = Line { waiting: VecDeque::new(), idle: 0, open: 0, failed: 0, from, micros };
        let shared = Arc::new(Shared { line: Mutex::new(line), arrived: Notify::new() });
        let shape = Shape { mode: Mode::Plain, connections: self.connections, fresh: false };
        let bytes: Arc<[u8]> = request(target, Mode::Plain).into();
        let mut callers = JoinSet::new();
        let end = from + self.measured;
        let mut chance = Chance(SEED);
        let mut next = Instant::now();
        // More than a second's arrivals in line do not come down again.
        let most = (self.rate as usize).max(100);
        loop {
            next += Duration::from_secs_f64(chance.gap(self.rate));
            if next > end || shared.line().waiting.len() > most {
                break;
            }
            pace::until(next).await;
            let all_busy = {
                let mut line = shared.line();
                line.waiting.push_back(next);
                line.open += 1;
                line.idle == 0
            };
            if all_busy && callers.len() < self.connections {
                callers.spawn(serve(Caller::new(target, shape), bytes.clone(), shared.clone()));
            }
            shared.arrived.notify_one();
        }
        let until = Instant::now() + PATIENCE;
        while shared.line().open > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        callers.shutdown().await;
        let line = shared.line();
        let at = |share| line.micros.value_at_quantile(share) as f64 / 1e3;
        // The search has ended early where the line was too long.
        let kept_up = line.open == 0 && line.failed == 0 && next > end;
        Trial { rate: self.rate, p50: at(0.5), p99: at(0.99), kept_up }
    }
}

/// Takes up one arrival after the other.
async fn serve(mut caller: Caller, bytes: Arc<[u8]>, shared: Arc<Shared>) {
    loop {
        let taken = shared.line().waiting.pop_front();
        let Some(arrived) = taken else {
            shared.line().idle += 1;
            shared.arrived.notified().await;
            shared.line().idle -= 1;
            continue;
        };
        let answered = caller.ask(&bytes).await;
        let took = arrived.elapsed();
        let mut line = shared.line();
        line.open -= 1;
        if answered.is_err() {
            line.failed += 1;
        }
        if arrived >= line.from {
            line.micros.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Seeded chance, the same in every run (splitmix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// The time to the next of arrivals that know nothing of each other, in seconds.
    fn gap(&mut self, rate: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // Above 0 and at most 1.
        let share = ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -share.ln() / rate
    }
}

const SEED: u64 = 24;
/// The longest wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Dialect, provider::Provider};

    #[test]
    fn gaps_have_the_mean_and_the_spread_of_random_arrivals() {
        let mut chance = Chance(1);
        let gaps: Vec<f64> = (0..100_000).map(|_| chance.gap(50.0)).collect();
        let mean = gaps.iter().sum::<f64>() / 1e5;
        let spread = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 1e5).sqrt();
        assert!((mean * 50.0 - 1.0).abs() < 0.02 && (spread * 50.0 - 1.0).abs() < 0.02, "{mean} {spread}");
    }

    /// One connection to a provider that takes 5 ms serves 200 a second at most. Of 400 a second for 0.2 s the last
    /// wait for the answers of half of them: a caller who counts from sending would see 5 ms.
    #[tokio::test]
    async fn who_waits_in_line_has_waited_since_it_came() {
        let provider = Provider::start(Duration::from_millis(5), Duration::ZERO).await.unwrap();
        let target = Target::of(provider.address, Dialect::OpenAi, "m");
        let measured = Duration::from_millis(200);
        let arrivals = Arrivals { rate: 400.0, warm_up: Duration::ZERO, measured, connections: 1 };
        let trial = arrivals.run(&target).await;
        assert!(trial.p99 > 100.0, "{trial:?}");
        let few = Arrivals { rate: 40.0, connections: 64, ..arrivals }.run(&target).await;
        assert!(few.kept_up && few.p50 >= 5.0, "{few:?}");
    }
}
