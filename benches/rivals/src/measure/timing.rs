//! CPU time per call: rounds, interleaved.

use std::time::Duration;

use cpu_time::ThreadTime;

use super::Effort;
use crate::{calls::Calls, contestants::Contestant};

const ROUNDS: usize = 31;
/// The time of one contestant in one round.
const SLICE: Duration = Duration::from_millis(10);

/// A new one is made for each round of a table of costs that should not grow, and called so often: what the calls
/// themselves leave behind must not be what is measured.
const SIZED_ROUNDS: usize = 9;
const SIZED_CALLS: u64 = 200;

/// Nanoseconds per call: one contestant's figure in each round.
pub type Rounds = Vec<f64>;

pub fn measure(contestants: &[&Contestant], effort: Effort) -> Vec<Rounds> {
    let mut all: Vec<(Calls, u64)> = Vec::new();
    for contestant in contestants {
        let mut calls = contestant.calls();
        let n = slice(&mut calls, effort);
        all.push((calls, n));
    }
    let mut rounds = vec![Vec::new(); contestants.len()];
    for _ in 0..effort.rounds(ROUNDS) {
        for ((calls, n), figures) in all.iter_mut().zip(&mut rounds) {
            figures.push(time(calls, *n));
        }
    }
    rounds
}

/// The same for a table of costs that should not grow.
pub fn measure_sized(contestants: &[&Contestant], effort: Effort) -> Vec<Rounds> {
    let mut rounds = vec![Vec::new(); contestants.len()];
    for _ in 0..effort.rounds(SIZED_ROUNDS) {
        for (contestant, figures) in contestants.iter().zip(&mut rounds) {
            let mut calls = contestant.calls();
            calls(SIZED_CALLS / 10);
            figures.push(time(&mut calls, SIZED_CALLS));
        }
    }
    rounds
}

/// Returns the number of calls that fill a slice; warms up on the way.
fn slice(calls: &mut Calls, effort: Effort) -> u64 {
    let slice = if effort == Effort::Quick { SLICE / 10 } else { SLICE };
    let mut n = 1000;
    loop {
        let took = time(calls, n) * n as f64;
        if took >= slice.as_nanos() as f64 / 2.0 {
            return n;
        }
        n *= 2;
    }
}

fn time(calls: &mut Calls, n: u64) -> f64 {
    let start = ThreadTime::now();
    calls(n);
    start.elapsed().as_nanos() as f64 / n as f64
}

/// Each round's figure minus the same round's of what it is measured against.
pub fn minus(rounds: &[f64], base: &[f64]) -> Rounds {
    rounds.iter().zip(base).map(|(figure, base)| figure - base).collect()
}
