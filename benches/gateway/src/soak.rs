//! Memory over time: callers of whole answers and of streams together, for minutes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    contestants::Contestant,
    dialect::Mode,
    load::{Load, Shape},
    rig::Rig,
};

/// The result of a soak.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Soak {
    pub samples: Vec<Sample>,
    pub requests: u64,
    pub failures: u64,
}

/// One look at the process.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Sample {
    /// Seconds since the begin.
    pub at: f64,
    /// Bytes resident.
    pub bytes: u64,
    /// Files and sockets that are open; 0 where nobody looked.
    pub open_files: u64,
}

impl Soak {
    /// The middle sample of a part of the time, from and to as shares of it, in bytes.
    pub fn resident(&self, from: f64, to: f64) -> f64 {
        let end = self.length();
        let within = self.samples.iter().filter(|sample| (from * end..=to * end).contains(&sample.at));
        let mut bytes: Vec<u64> = within.map(|sample| sample.bytes).collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied().unwrap_or_default() as f64
    }

    /// Seconds.
    pub fn length(&self) -> f64 {
        self.samples.last().map_or(0.0, |sample| sample.at)
    }

    /// Returns the growth of memory, in bytes an hour: the line through the samples of the second half that has the
    /// least squares.
    pub fn slope(&self) -> f64 {
        let half = self.length() / 2.0;
        let points: Vec<(f64, f64)> =
            self.samples.iter().filter(|s| s.at >= half).map(|s| (s.at / 3600.0, s.bytes as f64)).collect();
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|p| p.0), mean(|p| p.1));
        let across: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
        let square: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        if square > 0.0 { across / square } else { 0.0 }
    }

    /// The most files open in the last fifth of the time, beside the second fifth.
    pub fn more_open_files(&self) -> i64 {
        let most = |from: f64, to: f64| {
            let end = self.length();
            let within = self.samples.iter().filter(|sample| (from * end..=to * end).contains(&sample.at));
            within.map(|sample| sample.open_files as i64).max().unwrap_or_default()
        };
        most(0.8, 1.0) - most(0.2, 0.4)
    }

    /// The last fifth of the time beside the second fifth: the first is for what is filled once.
    pub fn growth(&self) -> f64 {
        self.resident(0.8, 1.0) / self.resident(0.2, 0.4)
    }
}

const CALLERS: usize = 16;
const EVERY: Duration = Duration::from_secs(5);

/// Runs one for so long.
///
/// # Errors
///
/// The contestant does not start, or is no process.
pub async fn run(rig: &Rig, contestant: &Contestant, length: Duration) -> Result<Soak, String> {
    let running = rig.start(contestant).await?;
    let process = running.process.as_ref().ok_or("there is no process to watch")?;
    let loads = [Mode::Plain, Mode::Stream]
        .map(|mode| Load::start(&running.target, Shape { mode, connections: CALLERS, fresh: false }));
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        sleep(EVERY).await;
        let used = process.used();
        samples.push(Sample { at: begun.elapsed().as_secs_f64(), bytes: used.resident, open_files: used.open_files });
    }
    let (mut requests, mut failures) = (0, 0);
    for load in loads {
        let outcome = load.so_far();
        (requests, failures) = (requests + outcome.requests(), failures + outcome.failures);
        load.end(Duration::from_secs(10)).await;
    }
    Ok(Soak { samples, requests, failures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_of_the_second_half_and_by_the_hour() {
        let sample = |n: u64, bytes: u64| Sample { at: n as f64 * 36.0, bytes, open_files: 7 };
        let filled = (0..50).map(|n| sample(n, n * 1_000_000));
        let steady = (50..101).map(|n| sample(n, 50_000_000 + n));
        let soak = Soak { samples: filled.chain(steady).collect(), requests: 1, failures: 0 };
        assert!((soak.slope() - 100.0).abs() < 1.0, "{}", soak.slope());
        assert_eq!(soak.more_open_files(), 0);
    }
}
