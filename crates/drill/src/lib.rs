//! Drills: an outage replayed against a configuration, in virtual time.
//!
//! An untested fallback is only a comment in the code. A [`Drill`] runs a [`Scenario`] (the faults, their times, and
//! the traffic) against a [`Config`]. It reports what callers would have seen: how many were answered, by which tier,
//! how late, and how many were lost. Beside that it reports the same traffic with a single call, and with a typical
//! retry loop.
//!
//! ```
//! use steadfast_stack::{Config, Format};
//! use steadfast_drill::{Drill, Scenario};
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
//! # Real and simulated parts
//!
//! - The stack is the configuration's own: retries, circuits, time limits, features with their concurrency and rates,
//!   sessions, caps, routes, cache, and the order of tiers.
//! - Providers are [simulated](steadfast::providers::Simulated), whatever their protocol, with the scenario's latency;
//!   a tier that is already simulated keeps its own. Faults affect the answers as our leaves report them; no bytes are
//!   decoded. Prices are those of the replaced models, for the short answers of a drill.
//! - Tiers of cached answers, fixed texts and people are real. Tasks are kept in memory and count as durable, in place
//!   of the named store. Stores, replicas, webhooks, alerts, mirrors, further headers and embedding models are left
//!   out.
//! - Time is virtual, and so is the date, the first of January 2026: hours take seconds, and the same seed gives the
//!   same report, byte for byte.
//!
//! # Counting of requests
//!
//! - *Answered* requests received a whole answer of full service, *degraded* ones a lesser answer, *handed off* ones
//!   became a task for people.
//! - *Refused* requests received a clear and justified error: the scenario's [wrong](Scenario) requests, those of a
//!   runaway feature beyond its own limits, those without budget under a cap, and those of a session pinned to a
//!   failing tier.
//! - *Lost* are all others. A stream that breaks after its first token ends with an honest error, but its reader has
//!   no answer: it is lost, and also counted as *cut*. With `stream: { on_break: restart }` (as in the [default
//!   configuration](DEFAULT_CONFIG)) or `buffer`, the next tier answers it instead.
//! - *Amplification* is the extra load on a sick provider: its attempts, divided by the requests that reached it at
//!   least once. A provider is sick if the scenario has any fault for it; of several, the worst counts. Retries are
//!   bounded by a share of the traffic. At the last model one retry per second is always allowed, so that thin traffic
//!   is amplified there more than dense traffic.
//! - *Recovery* lasts from the end of the last fault at the primary to the arrival of the first request from which on
//!   the primary serves all of its own traffic: the features that it mostly served before. It is 0 if none of them
//!   went elsewhere after that end.
//!
//! # Design
//!
//! A scenario is read like a configuration (`load.rs` and `tree/` of `stack`), so that its mistakes have their places.
//! A run is one paused current-thread runtime (`run/`). It builds the stack as ever; `StackBuilder::leaf` puts a
//! simulated provider in each tier's place (`run/leaf.rs`), which counts its calls and takes its faults from the
//! scenario. A memory that stands for a durable store keeps tasks (`run/tasks.rs`). Traffic is drawn before anything
//! runs (`traffic.rs`), or taken from a [log](RequestLog), which then says how each call fares (`log/`). Each request
//! carries its number, so that its first attempt fares alike in the stack and in the baselines (`baseline.rs`). The
//! outcomes of requests (`run/outcome.rs`) become a [`Report`] (`run/report.rs`): plain data, from which the command
//! draws its table, page, JSON and picture. Scenarios run side by side, each on a thread, on which the date is virtual
//! too.

mod baseline;
mod log;
mod picture;
pub mod report;
mod run;
pub mod scenario;
pub mod slo;
mod traffic;

use std::{
    num::NonZeroUsize,
    panic,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

pub use self::{
    log::{LogError, RequestLog},
    report::Report,
    scenario::{Scenario, outages::ScenarioEvent},
    slo::{Slo, SloMiss},
};
use steadfast::InvalidConfig;
use steadfast_internal::sync::{Mutex, lock};
use steadfast_stack::{Config, ConfigError, Environment, Format, Loader};

/// The default configuration of a drill, as text.
pub const DEFAULT_CONFIG: &str = include_str!("default.yaml");

/// A configuration with the settings of its drills. See the [module](self).
///
/// Clones share nothing. A drill runs on its own threads, each with its own runtime. It may run anywhere, even inside
/// a runtime, which it blocks meanwhile.
#[derive(Clone, Debug)]
pub struct Drill {
    config: Config,
    seed: u64,
    slos: Vec<Slo>,
    threads: usize,
}

impl Drill {
    /// Creates a drill of this configuration.
    ///
    /// # Errors
    ///
    /// A configuration without tiers.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.tiers.is_empty() {
            let problem = "no tiers; a drill needs at least one that can fail";
            return Err(InvalidConfig::new("tiers", problem).into());
        }
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self { config: run::drill_config(config), seed: 1, slos: Vec::new(), threads })
    }

    /// Sets the random seed. Default: 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a target that every scenario must meet.
    #[must_use]
    pub fn slo(mut self, slo: Slo) -> Self {
        self.slos.push(slo);
        self
    }

    /// Sets how many scenarios run at once, each on its own thread, at least one. Default: the number of processors.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Runs scenarios and judges them.
    ///
    /// # Errors
    ///
    /// A scenario names a tier that does not exist, or no stack can be built from the configuration.
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

    /// Replays the requests of a log and judges them. The report has their recorded ends beside.
    ///
    /// # Errors
    ///
    /// No stack can be built from the configuration.
    pub fn replay(&self, log: &RequestLog) -> Result<Report, ConfigError> {
        // A thread of its own, because the caller's may be a runtime's.
        let ran = thread::scope(|scope| scope.spawn(|| run::replay(log, &self.config, self.seed)).join());
        let report = ran.unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        let missed = self.slos.iter().filter_map(|slo| slo.judge(&report)).collect();
        Ok(Report { version: 1, seed: self.seed, scenarios: vec![report], missed })
    }
}

/// Returns the default configuration of a drill: two models, a cache of their answers, people, and a fixed text.
///
/// # Panics
///
/// Never: a test reads it.
pub fn default_config() -> Config {
    let loader = Loader::new().environment(Environment::default());
    loader.text(DEFAULT_CONFIG, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
