//! CPU time per run: rounds, interleaved.

use std::time::Duration;

use cpu_time::ThreadTime;

use crate::contestants::Contestant;

const ROUNDS: usize = 15;
/// The least time of one contestant in one round.
const SLICE: Duration = Duration::from_millis(15);

/// For each contestant, the nanoseconds of one run in each round.
///
/// `quick` is to see that it runs: the figures are worth little.
pub fn measure(contestants: &mut [Contestant], quick: bool) -> Vec<Vec<f64>> {
    let slices: Vec<u32> = contestants.iter_mut().map(slice).collect();
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contestants.len()];
    for _ in 0..if quick { 1 } else { ROUNDS } {
        for (contestant, (n, figures)) in contestants.iter_mut().zip(slices.iter().zip(&mut rounds)) {
            figures.push(time(contestant, *n));
        }
    }
    rounds
}

/// Returns the number of runs that fill a slice; warms up on the way.
fn slice(contestant: &mut Contestant) -> u32 {
    let mut n = 1;
    while time(contestant, n) * f64::from(n) < SLICE.as_nanos() as f64 / 2.0 {
        n *= 2;
    }
    n
}

fn time(contestant: &mut Contestant, n: u32) -> f64 {
    let start = ThreadTime::now();
    for _ in 0..n {
        (contestant.run)();
    }
    start.elapsed().as_nanos() as f64 / f64::from(n)
}

/// The middle value and the range that half of the values lie in.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| sorted[((sorted.len() - 1) as f64 * share).round() as usize])
}
