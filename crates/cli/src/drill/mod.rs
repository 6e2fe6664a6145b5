//! `steadfast drill`: outages, replayed against a configuration.

mod html;
mod live;
mod text;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use steadfast::InvalidConfig;
use steadfast_drill::{self as drill, Report, RequestLog, Scenario, Slo, default_config, report::ScenarioReport};
use steadfast_internal::wall_clock::parse_rfc3339;
use steadfast_stack::{Config, Loader};
use tokio::time::Instant;

use crate::Failure;

/// Replay outages against a configuration, in virtual time, and show what your users would have seen
///
/// Without --config the drill uses two models, a cache, people and a fixed text; broken streams restart.
///
/// Exit code: 0; 1 if a target is missed; 2 if the configuration, a scenario, a log or a target is wrong.
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
    /// Replay the requests of a log in place of a scenario, beside their recorded ends: lines of `serve --log-format
    /// json`, or the answer of GET /requests; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "all", "list", "live"])]
    from_log: Option<PathBuf>,
    /// Only requests that arrived from this time on, such as 2026-11-30T02:00:00Z
    #[arg(long, value_name = "TIME", requires = "from_log", value_parser = moment)]
    from: Option<Duration>,
    /// Only requests that arrived before this time
    #[arg(long, value_name = "TIME", requires = "from_log", value_parser = moment)]
    to: Option<Duration>,
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
        let mut out = io::stdout().lock();
        if self.list {
            write!(out, "{}", text::list(&Scenario::builtin()))?;
            return Ok(());
        }
        let wrong = |error: InvalidConfig| Failure::usage(error.problem());
        let slos = self.slo.iter().map(|text| text.parse().map_err(wrong)).collect::<Result<Vec<Slo>, Failure>>()?;
        let config = match &self.config {
            // No provider is called, so no secret is needed.
            Some(path) => Loader::new().without_secrets().path(path)?,
            None => default_config(),
        };
        let drill = drill::Drill::new(&config)?.seed(self.seed);
        let begun = Instant::now();
        let report = self.report(&slos.into_iter().fold(drill, drill::Drill::slo))?;
        let picture = report.scenarios.first().map(ScenarioReport::svg);
        for (path, text) in [(&self.html, Some(html::page(&report))), (&self.svg, picture)] {
            if let (Some(path), Some(text)) = (path, text) {
                fs::write(path, text)
                    .map_err(|error| Failure::usage(format_args!("cannot write {}: {error}", path.display())))?;
            }
        }
        if self.json {
            let json = serde_json::to_value(&report).map_err(io::Error::from)?;
            write!(out, "{}", crate::terminal::json(&json))?;
        } else {
            write!(out, "{}", text::report(&report, begun.elapsed()))?;
        }
        out.flush()?;
        if report.missed.is_empty() { Ok(()) } else { Err(Failure::Missed(text::missed(&report))) }
    }

    fn report(&self, drill: &drill::Drill) -> Result<Report, Failure> {
        let Some(path) = &self.from_log else { return Ok(drill.run(&self.scenarios()?)?) };
        let (name, reader) = log(path)?;
        let log = RequestLog::read(&name, reader, (self.from, self.to)).map_err(Failure::usage)?;
        Ok(drill.replay(&log)?)
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

/// Opens a log. Returns its name, too.
fn log(path: &Path) -> Result<(String, Box<dyn BufRead>), Failure> {
    if path.as_os_str() == "-" {
        return Ok(("standard input".to_owned(), Box::new(io::stdin().lock())));
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| Failure::usage(format_args!("cannot read {name}: {error}")))?;
    Ok((name, Box::new(BufReader::new(file))))
}

/// Reads a moment, as the time since 1970.
fn moment(text: &str) -> Result<Duration, String> {
    parse_rfc3339(text).ok_or_else(|| "a time is a date with its time of day, such as 2026-11-30T02:00:00Z".to_owned())
}

/// Returns a scenario by its name, or from its file.
pub(super) fn scenario(name: &str) -> Result<Scenario, Failure> {
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
