//! Two cores with two workers beside one core with one.

use std::{env, io::BufRead as _, net::SocketAddr, process::Command, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    contestants::Contestant,
    dialect::Mode,
    load::{Load, Shape},
    process::{Process, cores},
    rig::{Rig, Running},
};

/// The figures of 64 callers of whole answers, with one worker and with two.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Cores {
    /// The cores of the machine.
    pub machine: usize,
    pub one: Figures,
    pub two: Figures,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    pub per_second: f64,
    /// Microseconds for each request, on all of its cores.
    pub cpu: f64,
}

/// The fewest cores on which the load and the provider leave two alone.
pub const ENOUGH: usize = 4;

impl Cores {
    /// Returns how many times as much two cores do as one. Where the load has no core besides those two, requests a
    /// second show how they are shared, and what counts is how many requests a second of CPU time serves.
    pub fn scale(&self) -> f64 {
        if self.is_apart() { self.two.per_second / self.one.per_second } else { 2.0 * self.one.cpu / self.two.cpu }
    }

    /// True where two cores were free of the load.
    pub fn is_apart(&self) -> bool {
        self.machine >= ENOUGH
    }
}

/// Measures one that can have two workers.
///
/// # Errors
///
/// The machine has one core, or the contestant does not start.
pub async fn run(rig: &Rig, contestant: &Contestant, length: Duration) -> Result<Cores, String> {
    let machine = cores();
    if machine < 2 {
        return Err("two cores with two workers: skipped, the machine has one core".to_owned());
    }
    let apart = machine >= ENOUGH;
    // The provider on a core of its own where there is one: together with the load it would be what is measured.
    let provider = if apart { Some(Elsewhere::start(rig)?) } else { None };
    let primary = provider.as_ref().map(|provider| provider.address);
    let mut figures = [Figures::default(); 2];
    for (workers, figures) in (1..).zip(&mut figures) {
        let on = match (workers, apart) {
            (1, _) => "0",
            (_, true) => "0,2",
            (_, false) => "0,1",
        };
        let running = rig.start_at(contestant, workers, on, primary).await?;
        *figures = of(&running, length).await;
    }
    let [one, two] = figures;
    Ok(Cores { machine, one, two })
}

async fn of(running: &Running, length: Duration) -> Figures {
    let used = || running.process.as_ref().map(Process::used).unwrap_or_default().cpu_seconds;
    let load = Load::start(&running.target, Shape { mode: Mode::Plain, connections: 64, fresh: false });
    sleep(length / 2).await;
    let before = used();
    load.begin();
    sleep(length).await;
    let (outcome, after) = (load.so_far(), used());
    load.end(Duration::from_secs(10)).await;
    let cpu = (after - before) * 1e6 / outcome.requests().max(1) as f64;
    Figures { per_second: outcome.per_second(), cpu }
}

/// A provider in a process of its own, on the fourth core.
struct Elsewhere {
    address: SocketAddr,
    _process: Process,
}

impl Elsewhere {
    fn start(rig: &Rig) -> Result<Self, String> {
        let folder = rig.folder.join("provider");
        let start = || {
            std::fs::create_dir_all(&folder)?;
            let mut command = Command::new(env::current_exe()?);
            command.arg("provider").env("GATEWAY_LOAD_PINNED", "1");
            Process::start(&command, &[], "3", &folder)
        };
        let process = start().map_err(|error| format!("a provider of its own: {error}"))?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(20));
            let log = std::fs::read(folder.join("log")).unwrap_or_default();
            let first = log.lines().next().and_then(Result::ok);
            if let Some(address) = first.and_then(|line| line.parse().ok()) {
                return Ok(Self { address, _process: process });
            }
        }
        Err("a provider of its own says no address".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_of_requests_where_the_load_is_apart_and_of_cpu_time_where_not() {
        let figures = |per_second, cpu| Figures { per_second, cpu };
        let apart = Cores { machine: 4, one: figures(100.0, 10.0), two: figures(190.0, 10.5) };
        assert!((apart.scale() - 1.9).abs() < 1e-9);
        let shared = Cores { machine: 2, ..apart };
        assert!((shared.scale() - 20.0 / 10.5).abs() < 1e-9);
    }
}
