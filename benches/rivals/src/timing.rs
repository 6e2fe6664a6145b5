//! CPU time per call: rounds, interleaved.

use std::time::Duration;

use cpu_time::ThreadTime;

use crate::contestants::Contestant;

const ROUNDS: usize = 31;
/// What one contestant gets in one round.
const SLICE: Duration = Duration::from_millis(10);

/// Nanoseconds per call: one contestant's figure in each round.
pub type Rounds = Vec<f64>;

pub fn measure(contestants: &mut [Contestant]) -> Vec<Rounds> {
    let slices: Vec<u64> = contestants.iter_mut().map(slice).collect();
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    for _ in 0..ROUNDS {
        for (contestant, (n, figures)) in contestants.iter_mut().zip(slices.iter().zip(&mut rounds)) {
            figures.push(time(contestant, *n));
        }
    }
    rounds
}

/// How many calls fill a slice; warms up on the way.
fn slice(contestant: &mut Contestant) -> u64 {
    let mut n = 1000;
    loop {
        let took = time(contestant, n) * n as f64;
        if took >= SLICE.as_nanos() as f64 / 2.0 {
            return n;
        }
        n *= 2;
    }
}

fn time(contestant: &mut Contestant, n: u64) -> f64 {
    let start = ThreadTime::now();
    (contestant.calls)(n);
    start.elapsed().as_nanos() as f64 / n as f64
}

/// The middle value and the range that half of the values lie in.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

pub fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    Spread { median: at(0.5), low: at(0.25), high: at(0.75) }
}

/// Each round's figure minus the same round's of what it is measured against.
pub fn minus(rounds: &[f64], base: &[f64]) -> Rounds {
    rounds.iter().zip(base).map(|(figure, base)| figure - base).collect()
}
