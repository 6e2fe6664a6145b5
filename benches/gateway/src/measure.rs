//! Each contestant in turn: started, measured in all its cells, ended.

use std::{fs, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::{
    contestants::{Contestant, Gateway, Measured, Surroundings, free_port},
    dialect::{Dialect, Mode},
    load::{self, Load, Shape, Target},
    process::Process,
    provider::Provider,
};

/// One measurement of a contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub shape: Shape,
    /// The first provider is down, so that the second serves.
    pub down: bool,
}

/// The numbers of callers at once.
pub const CONNECTIONS: [usize; 3] = [1, 16, 128];

impl Cell {
    const fn of(mode: Mode, connections: usize, down: bool) -> Self {
        Self { shape: Shape { mode, connections, fresh: false }, down }
    }

    /// A stream on a connection of its own, for comparison with one on a connection that is kept.
    pub const FRESH: Self = Self { shape: Shape { mode: Mode::Stream, connections: 1, fresh: true }, down: false };

    /// All, in the order in which they are measured: a circuit that has opened stays open.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for down in [false, true] {
            for mode in [Mode::Plain, Mode::Stream] {
                cells.extend(CONNECTIONS.map(|connections| Self::of(mode, connections, down)));
            }
            if !down {
                cells.push(Self::FRESH);
            }
        }
        cells
    }
}

/// The result of one cell, in one round.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Figures {
    pub per_second: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// Microseconds for each request.
    pub cpu: f64,
    /// Bytes.
    pub peak: f64,
    /// The share of requests that had no whole answer.
    pub failed: f64,
    /// The number of requests to the first provider, for each request.
    pub asked: f64,
}

/// The results of a contestant.
#[derive(Clone, Debug)]
pub struct Row {
    pub contestant: Contestant,
    pub version: String,
    /// Why it was not measured.
    pub absent: Option<String>,
    /// For each cell the rounds.
    pub cells: Vec<(Cell, Vec<Figures>)>,
    /// The first failure.
    pub failure: Option<String>,
}

impl Row {
    pub fn new(contestant: Contestant) -> Self {
        let cells = Cell::all().into_iter().map(|cell| (cell, Vec::new())).collect();
        Self { contestant, version: String::new(), absent: None, cells, failure: None }
    }

    /// The middle of the rounds, figure by figure.
    pub fn median(&self, cell: Cell) -> Option<Figures> {
        let rounds = &self.cells.iter().find(|(at, _)| *at == cell)?.1;
        let of = |figure: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        (!rounds.is_empty()).then(|| Figures {
            per_second: of(|f| f.per_second),
            p50: of(|f| f.p50),
            p99: of(|f| f.p99),
            cpu: of(|f| f.cpu),
            peak: of(|f| f.peak),
            failed: of(|f| f.failed),
            asked: of(|f| f.asked),
        })
    }
}

/// The two providers, and where things are.
#[derive(Debug)]
pub struct Rig {
    pub primary: Provider,
    pub backup: Provider,
    pub folder: PathBuf,
    pub gateways: PathBuf,
    pub steadfast: PathBuf,
    /// The program that each contestant runs under, with its arguments.
    pub under: &'static [&'static str],
}

/// A contestant that answers.
#[derive(Debug)]
pub struct Running {
    pub target: Target,
    pub version: String,
    /// `None` where there is no gateway.
    pub process: Option<Process>,
}

impl Rig {
    /// Returns the folder of a contestant, with what it says in the file `log`.
    pub fn folder_of(&self, contestant: &Contestant) -> PathBuf {
        self.folder.join(contestant.name.replace([' ', ','], "-"))
    }

    /// Starts a contestant and waits until it answers.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub async fn start(&self, contestant: &Contestant) -> Result<Running, String> {
        let listen = free_port().map_err(|error| error.to_string())?;
        let folder = self.folder_of(contestant);
        fs::create_dir_all(&folder).map_err(|error: io::Error| error.to_string())?;
        let surroundings = Surroundings {
            primary: self.primary.address,
            backup: self.backup.address,
            listen,
            folder: folder.clone(),
            gateways: self.gateways.clone(),
            steadfast: self.steadfast.clone(),
        };
        let Some(Gateway { version, command, target }) = contestant.gateway(&surroundings)? else {
            let target = Target {
                address: self.primary.address,
                dialect: Dialect::OpenAi,
                model: "gpt-4o-mini".to_owned(),
                headers: Vec::new(),
            };
            return Ok(Running { target, version: String::new(), process: None });
        };
        let mut process = Process::start(&command, self.under, &folder).map_err(|error| error.to_string())?;
        let until = Instant::now() + START;
        loop {
            let asked = tokio::time::timeout(START, load::ask(&target, Mode::Plain)).await;
            match asked.unwrap_or_else(|_| Err("no answer".to_owned())) {
                Ok(()) => return Ok(Running { target, version, process: Some(process) }),
                Err(problem) if process.has_ended() || Instant::now() > until => {
                    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                    let last: Vec<&str> = log.lines().rev().take(5).collect();
                    return Err(format!("it does not answer: {problem}; its last words: {}", last.join(" / ")));
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// One round of a contestant.
    pub async fn round(&self, row: &mut Row, wanted: impl Fn(&Cell) -> bool, timing: Timing) {
        self.primary.set_down(false);
        let running = match self.start(&row.contestant).await {
            Ok(running) => running,
            Err(absent) => {
                row.absent = Some(absent);
                return;
            }
        };
        row.version.clone_from(&running.version);
        let mut is_down = false;
        for (cell, rounds) in row.cells.iter_mut().filter(|(cell, _)| wanted(cell)) {
            if cell.down && row.contestant.measured == Measured::Up {
                continue;
            }
            if cell.down && !is_down {
                // Time to notice that it is down: what is measured is how it is from then on.
                is_down = true;
                self.primary.set_down(true);
                let load = Load::start(&running.target, Shape { mode: Mode::Plain, connections: 16, fresh: false });
                sleep(NOTICE).await;
                load.end(PATIENCE).await;
            }
            let (figures, failure) = self.cell(&running, *cell, timing).await;
            rounds.push(figures);
            if row.failure.is_none() {
                row.failure = failure;
            }
        }
        self.primary.set_down(false);
    }

    async fn cell(&self, running: &Running, cell: Cell, timing: Timing) -> (Figures, Option<String>) {
        let used = || running.process.as_ref().map(Process::used).unwrap_or_default();
        if let Some(process) = &running.process {
            process.forget_peak();
        }
        let load = Load::start(&running.target, cell.shape);
        sleep(timing.warm_up).await;
        let (before, asked_before) = (used(), self.primary.asked());
        load.begin();
        sleep(timing.measured).await;
        let mut outcome = load.so_far();
        // A slow contestant has longer, or there would be too few answers to tell the 99th of a hundred.
        while outcome.requests() < ENOUGH && outcome.seconds < timing.measured.as_secs_f64() * LONGER {
            sleep(timing.measured / 4).await;
            outcome = load.so_far();
        }
        let (after, asked) = (used(), self.primary.asked() - asked_before);
        load.end(PATIENCE).await;
        let requests = outcome.requests() as f64;
        let all = requests + outcome.failures as f64;
        let of_each = |sum: f64| if all > 0.0 { sum / all } else { 0.0 };
        let figures = Figures {
            per_second: outcome.per_second(),
            p50: outcome.quantile(0.5),
            p99: outcome.quantile(0.99),
            cpu: of_each(after.cpu_seconds - before.cpu_seconds) * 1e6,
            peak: after.peak as f64,
            failed: of_each(outcome.failures as f64),
            asked: of_each(asked as f64),
        };
        (figures, outcome.failure.map(|failure| format!("{cell:?}: {failure}")))
    }
}

/// The duration of each cell.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The longest time to a gateway's first answer: a Python one imports for a while.
const START: Duration = Duration::from_secs(120);
/// So many answers are enough for a 99th percentile.
const ENOUGH: u64 = 500;
/// The most times as long that a cell may take to get them.
const LONGER: f64 = 4.0;
/// The time that a gateway has to notice that a provider is down.
const NOTICE: Duration = Duration::from_secs(3);
/// The longest wait for the last answers of a cell.
const PATIENCE: Duration = Duration::from_secs(10);
