//! Drills: an outage replayed against a configuration, in virtual time. Feature `drill`.

mod baseline;
pub mod report;
mod run;
pub mod scenario;
pub mod slo;

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

pub use self::{
    report::Report,
    scenario::Scenario,
    slo::{Missed, Slo},
};
use crate::{
    InvalidConfig,
    config::{Config, ConfigError, Environment, Format, Loader},
    sync::{Mutex, lock},
};

/// The configuration of a drill that names none, as text.
pub const DEFAULT_CONFIG: &str = include_str!("default.yaml");

/// A configuration, and how it is tried.
#[derive(Clone, Debug)]
pub struct Drill {
    config: Config,
    seed: u64,
    slos: Vec<Slo>,
    threads: usize,
}

impl Drill {
    /// A drill of this configuration.
    ///
    /// # Errors
    ///
    /// A configuration without tiers.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.tiers.is_empty() {
            let problem = "there is none: a drill needs at least one tier that can fail";
            return Err(InvalidConfig::new("tiers", problem).into());
        }
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self { config: run::rehearsal(config), seed: 1, slos: Vec::new(), threads })
    }

    /// Where all draws begin. Default: 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a target that every scenario is judged against.
    #[must_use]
    pub fn slo(mut self, slo: Slo) -> Self {
        self.slos.push(slo);
        self
    }

    /// Sets how many scenarios run at once, each on a thread of its own, at least one. Default: as many as there are processors.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Runs scenarios and judges them.
    ///
    /// # Errors
    ///
    /// A scenario that names a tier which is not there, and a configuration of which no stack can be made.
    pub fn run(&self, scenarios: &[Scenario]) -> Result<Report, ConfigError> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new((0..scenarios.len()).map(|_| None).collect::<Vec<_>>());
        let work = || {
            while let Some((place, scenario)) =
                Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, scenarios.get(at)?)))
            {
                let ran = run::run(scenario, &self.config, self.seed);
                lock(&done)[place] = Some(ran);
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads.min(scenarios.len()) {
                scope.spawn(work);
            }
        });
        let ran = lock(&done).drain(..).flatten().collect::<Result<Vec<_>, ConfigError>>()?;
        let mut missed = Vec::new();
        for (scenario, report) in scenarios.iter().zip(&ran) {
            missed.extend(self.slos.iter().chain(scenario.expect()).filter_map(|slo| slo.judge(report)));
        }
        Ok(Report { version: 1, seed: self.seed, scenarios: ran, missed })
    }
}

/// The configuration of a drill that names none: two models, what was kept of their answers, people, and a fixed text.
///
/// # Panics
///
/// Never: a test reads it.
pub fn default_config() -> Config {
    let loader = Loader::new().environment(Environment::default());
    loader.text(DEFAULT_CONFIG, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}
