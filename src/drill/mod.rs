//! Drills: an outage replayed against a configuration, in virtual time. Feature `drill`.
//!
//! An untested fallback is a comment in the code. A [`Drill`] runs a [`Scenario`] (what fails, when, and what is asked meanwhile)
//! against a [`Config`], and reports what the callers would have seen: how many were answered, by whom, how late, and how many were
//! lost; beside what the same traffic would have come to with a single call, and with the plain retry loop that most people write.
//!
//! ```
//! use steadfast::{config::{Config, Format}, drill::{Drill, Scenario}};
//!
//! // The configuration as it is in production: no key is looked up.
//! let config = "
//! tiers:
//!   - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, api_key: '${ANTHROPIC_API_KEY}' }
//!   - { name: gpt, provider: openai, model: gpt-4o }
//! ";
//! let outage = "
//! name: bad-quarter
//! lasts: 20m
//! requests: { rate: 20/min }
//! faults:
//!   - { from: 2m, to: 15m, fault: overloaded }
//! ";
//! let drill = Drill::new(&Config::from_str(config, Format::Yaml)?)?.slo("lost=0".parse()?);
//! let report = drill.run(&[Scenario::from_yaml(outage)?])?;
//!
//! assert!(report.missed.is_empty());
//! let outage = &report.scenarios[0];
//! assert_eq!(outage.answered, outage.requests);
//! assert!(outage.baselines.iter().all(|baseline| baseline.lost > 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is real in it, and what is not
//!
//! - The stack is the configuration's own: retries, circuits, limits of time, features with their places and rates, sessions, caps,
//!   routes, cache, and the order of tiers.
//! - Providers are [simulated](crate::providers::Simulated), whatever their protocol, with the latency that the scenario says (a tier that
//!   is simulated already keeps its own). What fails is their answer, as our leaves report it; bytes are not decoded. Prices are
//!   those of the models in whose place they stand, for the short answers of a drill.
//! - Tiers of kept answers, of fixed texts and of people are themselves. Tasks are kept in memory, and count as durable, for they stand for
//!   those of the store that is named. Stores, replicas, webhooks, alerts, mirrors, further headers and models of
//!   embeddings are left out.
//! - Time is virtual, and so is the date, the first of January 2026: hours take seconds, and the same seed gives the same report, byte for
//!   byte.
//!
//! # How requests are counted
//!
//! - *Answered* are those with a whole answer of full service, *degraded* those with a lesser one, *handed off* those that are a task for
//!   people now.
//! - *Refused* are those with a clear error that they deserve: the scenario's [wrong](Scenario) ones, those of a feature that runs away and
//!   is held back by its own places, those for which no money is left under a cap, and those of a session that is pinned to what fails.
//! - *Lost* are all others. A stream that breaks after its first token ends in an honest error, and yet its reader has no answer: it is
//!   lost, and counted as *cut* besides. StackRun `stream: { on_break: restart }` (as in the [default configuration](DEFAULT_CONFIG)) or
//!   `buffer` it is answered by the next tier instead.
//! - *Amplification* is what the sick provider gets more than it would have to: its attempts, divided by the requests of which it got at least
//!   one. A provider is sick at which the scenario has any fault; of several, the worst counts. Retries are bounded by a share of the traffic; at
//!   the last model one a second is always allowed, so that thin traffic is amplified there more than dense one.
//! - *Recovery* counts from the end of the last fault at the primary to the arrival of the first request from which on the primary serves
//!   all that are its own: of features that it served mostly before. It is 0 where none of them went elsewhere after that end.

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
    slo::{Slo, SloMiss},
};
use crate::{
    InvalidConfig,
    config::{Config, ConfigError, Environment, Format, Loader},
    sync::{Mutex, lock},
};

/// The configuration of a drill that names none, as text.
pub const DEFAULT_CONFIG: &str = include_str!("default.yaml");

/// A configuration, and how it is tried. See the [module](self).
///
/// Clones share nothing. It runs on threads of its own, each with a runtime of its own: it may be run anywhere, also inside of a runtime,
/// which it holds up meanwhile.
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
        Ok(Self { config: run::drill_config(config), seed: 1, slos: Vec::new(), threads })
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
