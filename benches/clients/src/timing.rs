//! CPU time per call: rounds, interleaved.

use std::time::Duration;

use cpu_time::ThreadTime;
use tokio::runtime::Runtime;

use crate::contestants::{Call, Row};

const ROUNDS: usize = 15;
/// The least time of one side in one round.
const SLICE: Duration = Duration::from_millis(50);

/// One round's microseconds per call.
pub(crate) struct Round {
    pub(crate) without: f64,
    pub(crate) with: f64,
}

/// Measures both sides of a row in turns. `quick` measures once and briefly: the figures are worth little.
pub(crate) fn measure(runtime: &Runtime, row: &mut Row, quick: bool) -> Vec<Round> {
    let calls = |call: &mut Call| if quick { 10 } else { calls_of_a_slice(runtime, call) };
    let (without, with) = (calls(&mut row.without), calls(&mut row.with));
    let rounds = if quick { 1 } else { ROUNDS };
    let round =
        |_| Round { without: time(runtime, &mut row.without, without), with: time(runtime, &mut row.with, with) };
    (0..rounds).map(round).collect()
}

/// Returns the number of calls that fill a slice; warms up on the way.
fn calls_of_a_slice(runtime: &Runtime, call: &mut Call) -> u32 {
    let mut calls = 1;
    while time(runtime, call, calls) * f64::from(calls) < SLICE.as_micros() as f64 {
        calls *= 2;
    }
    calls
}

fn time(runtime: &Runtime, call: &mut Call, calls: u32) -> f64 {
    let start = ThreadTime::now();
    runtime.block_on(async {
        for _ in 0..calls {
            call().await;
        }
    });
    start.elapsed().as_nanos() as f64 / 1e3 / f64::from(calls)
}

/// Returns the median, between the bounds of the middle half.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| sorted[((sorted.len() - 1) as f64 * share).round() as usize])
}
