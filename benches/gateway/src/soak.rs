//! Memory over time: callers of whole answers and of streams together, for minutes.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    contestants::Contestant,
    dialect::Mode,
    load::{Load, Shape},
    measure::Rig,
};

/// What a soak came to.
#[derive(Clone, Debug)]
pub struct Soak {
    /// Seconds since its begin, and the bytes resident.
    pub samples: Vec<(f64, u64)>,
    pub requests: u64,
    pub failures: u64,
}

impl Soak {
    /// The middle sample of a part of the time, from and to as shares of it, in bytes.
    pub fn resident(&self, from: f64, to: f64) -> f64 {
        let end = self.samples.last().map_or(0.0, |(at, _)| *at);
        let within = self.samples.iter().filter(|(at, _)| (from * end..=to * end).contains(at));
        let mut bytes: Vec<u64> = within.map(|(_, bytes)| *bytes).collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied().unwrap_or_default() as f64
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
/// When the contestant does not start, or is no process.
pub async fn run(rig: &Rig, contestant: &Contestant, length: Duration) -> Result<Soak, String> {
    let running = rig.start(contestant).await?;
    let process = running.process.as_ref().ok_or("there is no process to watch")?;
    let loads = [Mode::Plain, Mode::Stream]
        .map(|mode| Load::start(&running.target, Shape { mode, connections: CALLERS, fresh: false }));
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        sleep(EVERY).await;
        samples.push((begun.elapsed().as_secs_f64(), process.used().resident));
    }
    let (mut requests, mut failures) = (0, 0);
    for load in loads {
        let outcome = load.so_far();
        (requests, failures) = (requests + outcome.requests(), failures + outcome.failures);
        load.end(Duration::from_secs(10)).await;
    }
    Ok(Soak { samples, requests, failures })
}
