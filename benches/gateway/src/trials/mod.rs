//! The measurements that are made once of each contestant, beside the cells of the rounds: memory, open load, paced
//! streams, faults and two cores.

pub mod cores;
pub mod ends;
pub mod faults;
mod memory;
mod open;
pub mod paced;
pub mod rate;

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use self::{cores::Cores, faults::Fault, open::Arrivals};
pub use self::{faults::Ends, memory::Memory, paced::PacedStreams, rate::Trial};
use crate::{
    contestants::{Contestant, NGINX, STEADFAST},
    dialect::Mode,
    load::{Load, Shape, Target},
    rig::{Rig, Running},
};

/// The limits of the p99 under open load, in milliseconds, in the order in which their rates are looked for.
pub const LIMITS: [f64; 3] = [10.0, 5.0, 1.0];

/// The results of a contestant.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Trials {
    pub memory: Option<Memory>,
    pub open: Option<OpenLoad>,
    pub paced: Option<PacedStreams>,
    #[serde(default)]
    pub faults: Vec<Ends>,
    pub cores: Option<Cores>,
    /// The reasons of what was not measured.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The rates that are sustained under open load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OpenLoad {
    /// A second, for each of [`LIMITS`]; `None` where none was found.
    pub sustained: Vec<Option<f64>>,
    pub trials: Vec<Trial>,
}

/// Tries a contestant in all ways that need the machine for themselves, each of which has about this long.
pub async fn run(rig: &Rig, contestant: &Contestant, length: Duration) -> Trials {
    let mut trials = Trials::default();
    if let Err(problem) = at_ease(rig, contestant, length, &mut trials).await {
        trials.problems.push(problem);
    }
    if [NGINX, STEADFAST].contains(&contestant.name) {
        match cores::run(rig, contestant, length).await {
            Ok(cores) => trials.cores = Some(cores),
            Err(problem) => trials.problems.push(problem),
        }
    }
    trials
}

/// Tries all under each fault. They wait, most of the time: so they do it together, each with providers of its own.
///
/// # Errors
///
/// No port is free.
pub async fn under_faults(rig: &Rig, tried: &mut [(Contestant, &mut Trials)]) -> io::Result<()> {
    for fault in Fault::ALL {
        eprintln!("the first provider {}", fault.name());
        // Each on a process of its own: a circuit that has opened would answer for the next fault too.
        let mut starts = JoinSet::new();
        for (at, (contestant, _)) in tried.iter().enumerate() {
            let (rig, contestant) = (rig.apart().await?, *contestant);
            starts.spawn(async move {
                let running = rig.start(&contestant).await;
                (at, rig, running)
            });
        }
        let mut started = JoinSet::new();
        // All have started before the first of them is asked.
        for (at, rig, running) in starts.join_all().await {
            match running {
                Ok(running) => {
                    started.spawn(async move {
                        let seen = faults::run(&rig, &running.target, fault).await;
                        (at, seen, running)
                    });
                }
                Err(problem) => tried[at].1.problems.push(problem),
            }
        }
        // They end when the last is done: until then their end would take the others' time.
        for (at, seen, mut running) in started.join_all().await {
            let trials = &mut tried[at].1;
            trials.faults.push(seen);
            trials.problems.extend(running.death(&format!("while its first provider {}", fault.name())));
        }
    }
    for (_, trials) in tried {
        trials.problems.dedup();
    }
    Ok(())
}

/// All that both providers are up for.
async fn at_ease(rig: &Rig, contestant: &Contestant, length: Duration, trials: &mut Trials) -> Result<(), String> {
    let mut running = rig.start(contestant).await?;
    let alive = |running: &mut Running, when: &str| running.death(when).map_or(Ok(()), Err);
    if let Some(process) = &running.process {
        trials.memory = Some(memory::run(process, &running.target, length / 2).await);
        alive(&mut running, "under 128 callers")?;
    }
    trials.open = Some(open(&running.target, length).await);
    alive(&mut running, "under open load")?;
    trials.paced = Some(paced::run(rig, &running.target).await);
    alive(&mut running, "under paced streams")
}

/// Looks for the rates that stay within the limits.
async fn open(target: &Target, length: Duration) -> OpenLoad {
    let load = Load::start(target, Shape { mode: Mode::Plain, connections: 16, fresh: false });
    tokio::time::sleep(length / 4).await;
    load.begin();
    tokio::time::sleep(length / 2).await;
    let capacity = load.so_far().per_second();
    load.end(Duration::from_secs(10)).await;
    let trial = async |rate: f64| {
        // Two hundred arrivals are the least to tell a 99th percentile from.
        let measured = (length / 2).max(Duration::from_secs_f64((200.0 / rate).min(4.0)));
        Arrivals { rate, warm_up: length / 8, measured, connections: CONNECTIONS }.run(target).await
    };
    let (sustained, trials) = rate::highest(capacity, &LIMITS, trial).await;
    OpenLoad { sustained, trials }
}

/// The most connections under open load.
const CONNECTIONS: usize = 256;
