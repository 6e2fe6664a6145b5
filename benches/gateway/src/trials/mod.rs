//! What is measured of each contestant once, beside the cells of the rounds: memory, open load, paced streams, faults
//! and two cores.

pub mod cores;
pub mod ended;
pub mod faults;
mod memory;
mod open;
pub mod paced;
pub mod rate;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::{cores::Cores, faults::Fault, open::Arrivals};
pub use self::{faults::Seen, memory::Memory, paced::Paced, rate::Trial};
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
    pub open: Option<Open>,
    pub paced: Option<Paced>,
    #[serde(default)]
    pub faults: Vec<Seen>,
    pub cores: Option<Cores>,
    /// Why something of this was not measured.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// The rates that are sustained under open load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Open {
    /// A second, for each of [`LIMITS`]; `None` where none was found.
    pub sustained: Vec<Option<f64>>,
    pub trials: Vec<Trial>,
}

/// Tries a contestant in all ways, each of which has about this long.
pub async fn run(rig: &Rig, contestant: &Contestant, length: Duration) -> Trials {
    let mut trials = Trials::default();
    if let Err(problem) = at_ease(rig, contestant, length, &mut trials).await {
        trials.problems.push(problem);
    }
    for fault in Fault::ALL {
        // Each on a process of its own: a circuit that has opened would answer for the next fault too.
        match rig.start(contestant).await {
            Ok(mut running) => {
                trials.faults.push(faults::run(rig, &running.target, fault).await);
                trials.problems.extend(running.death(&format!("while its first provider {}", fault.name())));
            }
            Err(problem) => trials.problems.push(problem),
        }
    }
    if [NGINX, STEADFAST].contains(&contestant.name) {
        match cores::run(rig, contestant, length).await {
            Ok(cores) => trials.cores = Some(cores),
            Err(problem) => trials.problems.push(problem),
        }
    }
    trials.problems.dedup();
    trials
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
async fn open(target: &Target, length: Duration) -> Open {
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
    Open { sustained, trials }
}

/// The most connections under open load.
const CONNECTIONS: usize = 256;
