//! `steadfast drill`: outages, replayed against a configuration.

mod html;
mod live;
mod text;

use std::{fs, io::Write as _, path::PathBuf};

use clap::Args;
use steadfast::InvalidConfig;
use steadfast_drill::{self as drill, Scenario, Slo, default_config, report::ScenarioReport};
use steadfast_stack::{Config, Loader};
use tokio::time::Instant;

use crate::cli::Failure;

/// Replay outages against a configuration, in virtual time, and show what your users would have seen
///
/// Without --config the drill uses two models, a cache, people and a fixed text; broken streams restart.
///
/// Exit code: 0; 1 if a target is missed; 2 if the configuration, a scenario or a target is wrong.
///
/// Simulated providers stand in for the real ones, so that hours take seconds and no key is needed. Retries, circuits,
/// limits, cache and fallbacks are those of the configuration; tasks for people are kept in memory. The same seed gives
/// the same report, beside what a single call and a plain retry loop would have come to.
#[derive(Args)]
pub(crate) struct Drill {
    /// The scenarios: built-in names (see --list) or files [default: incident-2026-06-15]
    #[arg(value_name = "SCENARIO|FILE.yaml")]
    scenarios: Vec<String>,
    /// Run all built-in scenarios
    #[arg(long)]
    all: bool,
    /// List the built-in scenarios and their events
    #[arg(long)]
    list: bool,
    /// The configuration: YAML, TOML or JSON [default: see above]
    #[arg(long, short, env = "STEADFAST_CONFIG")]
    config: Option<PathBuf>,
    /// Random seed for arrivals, latencies and faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A target, such as lost_while_well=0, lost=0, answered=99.9%, p99=30s, amplification=1.1, switches=6,
    /// recovery=60s; repeatable
    #[arg(long, value_name = "TARGET")]
    slo: Vec<String>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Also write the report as a page for a browser
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    html: Option<PathBuf>,
    /// Write the first scenario as a picture too, an SVG image
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    live: live::Live,
}

/// The default scenario.
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
            // No provider is called, so no secret is needed.
            Some(path) => Loader::new().without_secrets().path(path)?,
            None => default_config(),
        };
        let drill = drill::Drill::new(&config)?.seed(self.seed);
        let begun = Instant::now();
        let report = slos.into_iter().fold(drill, drill::Drill::slo).run(&scenarios)?;
        let picture = report.scenarios.first().map(ScenarioReport::svg);
        for (path, text) in [(&self.html, Some(html::page(&report))), (&self.svg, picture)] {
            if let (Some(path), Some(text)) = (path, text) {
                fs::write(path, text)
                    .map_err(|error| Failure::usage(format_args!("cannot write {}: {error}", path.display())))?;
            }
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

/// Returns a scenario by its name, or from its file.
fn scenario(name: &str) -> Result<Scenario, Failure> {
    if name.contains(['/', '\\']) || [".yaml", ".yml", ".toml", ".json"].iter().any(|suffix| name.ends_with(suffix)) {
        return Ok(Scenario::from_path(name)?);
    }
    Scenario::named(name).ok_or_else(|| match Scenario::nearest(name) {
        Some(near) => Failure::usage(format_args!("no scenario is named `{name}`; did you mean `{near}`?")),
        None => Failure::usage(format_args!(
            "no scenario is named `{name}`: `steadfast drill --list` lists them; a file's name ends in .yaml"
        )),
    })
}
