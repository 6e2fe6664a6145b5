//! `steadfast drill`: outages replayed against a configuration.

mod html;
mod live;
mod text;

use std::{fs, io::Write as _, path::PathBuf};

use clap::Args;
use steadfast::{
    InvalidConfig,
    config::{Config, Loader},
    drill::{self, Scenario, Slo, default_config},
};
use tokio::time::Instant;

use crate::cli::Failure;

/// Replay outages against a configuration, in virtual time: what your users would have seen
///
/// Simulated providers stand in for the real ones, so that hours take seconds and no key is needed. Retries, circuits, limits,
/// cache and fallbacks are those of the configuration; tasks for people are kept in memory. The same seed gives the same report,
/// beside what a single call and a plain retry loop would have come to.
///
/// Without --config the drill has two models, answers that were kept, people, and a fixed text; streams that break begin anew.
///
/// Exit code: 0, 1 where a target is missed, 2 where the configuration, a scenario or a target is wrong.
#[derive(Args)]
pub(crate) struct Drill {
    /// Scenarios: names of those that come with the program (see --list), or files. Default: incident-2026-06-15
    #[arg(value_name = "SCENARIO|FILE.yaml")]
    scenarios: Vec<String>,
    /// Run all that come with the program
    #[arg(long)]
    all: bool,
    /// Say which come with the program, and what happens in each
    #[arg(long)]
    list: bool,
    /// The configuration: YAML, TOML or JSON. Without one: see above
    #[arg(long, short, env = "STEADFAST_CONFIG")]
    config: Option<PathBuf>,
    /// Where chance begins: arrivals, latencies, faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A target, such as lost=0, answered=99.9%, p99=30s, amplification=1.1, switches=6, recovery=60s; as many as you like
    #[arg(long, value_name = "TARGET")]
    slo: Vec<String>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Write the report as a page for a browser too
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    html: Option<PathBuf>,
    #[command(flatten)]
    live: live::Live,
}

/// What is drilled where nothing is named.
const USUAL: &str = "incident-2026-06-15";

impl Drill {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match &self.config {
            Some(path) if self.live.is_asked() => self.live.run(Config::from_path(path)?, self.json).await,
            _ => self.replay(),
        }
    }

    fn replay(&self) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if self.list {
            write!(out, "{}", text::list(&Scenario::builtin()))?;
            return Ok(());
        }
        let wrong = |error: InvalidConfig| Failure::usage(error.problem());
        let slos = self.slo.iter().map(|text| text.parse().map_err(wrong)).collect::<Result<Vec<Slo>, Failure>>()?;
        let scenarios = self.scenarios()?;
        let config = match &self.config {
            // Nobody is called: no secret is needed.
            Some(path) => Loader::new().without_secrets().path(path)?,
            None => default_config(),
        };
        let drill = drill::Drill::new(&config)?.seed(self.seed);
        let begun = Instant::now();
        let report = slos.into_iter().fold(drill, drill::Drill::slo).run(&scenarios)?;
        if let Some(path) = &self.html {
            fs::write(path, html::page(&report))
                .map_err(|error| Failure::usage(format_args!("cannot write {}: {error}", path.display())))?;
        }
        if self.json {
            let json = serde_json::to_value(&report).map_err(std::io::Error::from)?;
            write!(out, "{}", crate::cli::terminal::json(&json))?;
        } else {
            write!(out, "{}", text::report(&report, begun.elapsed()))?;
        }
        out.flush()?;
        if report.missed.is_empty() { Ok(()) } else { Err(Failure::Missed(text::missed(&report))) }
    }

    fn scenarios(&self) -> Result<Vec<Scenario>, Failure> {
        let mut scenarios = if self.all { Scenario::builtin() } else { Vec::new() };
        for name in &self.scenarios {
            scenarios.push(scenario(name)?);
        }
        if scenarios.is_empty() {
            scenarios.push(scenario(USUAL)?);
        }
        Ok(scenarios)
    }
}

/// A scenario by its name, or from its file.
fn scenario(name: &str) -> Result<Scenario, Failure> {
    if name.contains(['/', '\\']) || [".yaml", ".yml", ".toml", ".json"].iter().any(|suffix| name.ends_with(suffix)) {
        return Ok(Scenario::from_path(name)?);
    }
    Scenario::named(name).ok_or_else(|| match Scenario::nearest(name) {
        Some(near) => Failure::usage(format_args!("no scenario is named `{name}`; did you mean `{near}`?")),
        None => Failure::usage(format_args!(
            "no scenario is named `{name}`: `steadfast drill --list` says which there are; a file's name ends in .yaml"
        )),
    })
}
