//! The scenario of a drill: a small file with faults and traffic.

pub(crate) mod check;
pub(crate) mod file;
pub(crate) mod outages;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path, time::Duration};

use self::{
    check::{PLACES, check},
    file::{ScenarioFile, Window},
};
use super::slo::Slo;
use steadfast_stack::{Config, ConfigError, Deployment, Findings, Format, Problem, document, document_of, nearest};

/// An outage and the traffic that it affects: read from a file, or one of the crate's own.
///
/// ```yaml
/// name: brown-out                     # letters, digits and -
/// about: The primary slows down, then refuses calls beyond its capacity.
/// source: a bad Monday                # the incident, if it replays one
/// lasts: 2h
/// clock: "09:00"                      # the time of day at its beginning, for the timeline
/// requests:
///   kind: conversations               # or embeddings, from the tiers of the lane. Default: conversations
///   rate: 1/s                         # arrivals by chance; also 30/min, 100/h. Default: 1/s
///   streams: 50%                      # Default: 50%
///   features: { chat: 3, background: 1 }   # names with weights. Default: chat
///   sessions: 20                      # conversations that requests belong to. Default: 0
///   common: 30%                       # the share of twenty common questions, for caches. Default: 30%
///   wrong: 1%                         # the share that no provider accepts (400). Default: 0
///   bursts:
///     - { from: 1h, to: 1h5m, rate: 10/s, feature: background }
/// deployments: 4                      # the primary's, where the configuration has none. Default: a single one
/// providers: { p50: 600ms, p99: 2.5s, pace: 20ms }   # on a good day: first token, between tokens. These are defaults
/// faults:
///   - { from: 20m, to: 60m, fault: { slow: 20s }, share: 60%, ramp: 10m }
///   - { from: 60m, to: 90m, at: primary, fault: [overloaded, { status: 503 }], every: 10m, wave: 4m }
/// expect: [lost=0, amplification=1.1]  # its own targets, if any
/// ```
///
/// `at` is `primary` (the default: the first tier that calls a provider), `deployment` (the first one of the primary's
/// deployments), `fallbacks` (the other tiers that call a provider), `all`, `store` (the store of tasks for people), a
/// tier's name, a deployment's as `TIER/DEPLOYMENT`, or a list. `share` is a share of calls, `callers` a share
/// of callers (always the same ones), and `features` a list of the affected features; a store fails for all. If
/// windows overlap, the first one that fails a call decides.
///
/// `fault` is one of these, or a list from which one is drawn at random:
///
/// | what | on the wire |
/// |---|---|
/// | `server_error`, `bad_gateway`, `unavailable`, `overloaded` | 500, 502, 503, 529 |
/// | `rate_limited`, `rate_limited_for: 30s`, `come_back_later` | 429: without Retry-After, with it, without the provider's own body |
/// | `quota_exhausted`, `unauthorized`, `bad_request`, `content_filter`, `context_length` | 429 that outlasts any wait, 401, 400 |
/// | `status: 530`, `html` | any status, or 200, with an edge's HTML page |
/// | `refused`, `no_address` | no connection |
/// | `hang`, `slow: 30s` | no answer; a healthy answer after a delay |
/// | `empty`, `truncated_after: 5`, `malformed_after: 5`, `no_end_mark` | invalid answers |
/// | `cut_after: 5`, `error_event_after: 5` | a broken connection or an error event after that many tokens |
/// | `stall_after: 5`, `keep_alives_only` | endless silence; keep-alives without content |
/// | `capacity: 2/s`, `limit: 60/min` | 529 for calls beyond that rate; 429 with Retry-After for those beyond a minute's |
///
/// Clones share nothing.
#[derive(Clone)]
pub struct Scenario {
    file: ScenarioFile,
    /// For each fault, the places in the file of its `at` entries.
    places: Vec<Vec<Problem>>,
}

/// The crate's own scenarios: name and text.
const BUILTIN: &[(&str, &str)] = &[
    ("incident-2026-06-15", include_str!("../scenarios/incident-2026-06-15.yaml")),
    ("d1", include_str!("../scenarios/d1.yaml")),
    ("d2", include_str!("../scenarios/d2.yaml")),
    ("d3", include_str!("../scenarios/d3.yaml")),
    ("d4", include_str!("../scenarios/d4.yaml")),
    ("d5a", include_str!("../scenarios/d5a.yaml")),
    ("d5b", include_str!("../scenarios/d5b.yaml")),
    ("d6", include_str!("../scenarios/d6.yaml")),
    ("d7", include_str!("../scenarios/d7.yaml")),
    ("d8", include_str!("../scenarios/d8.yaml")),
    ("d9", include_str!("../scenarios/d9.yaml")),
    ("d10", include_str!("../scenarios/d10.yaml")),
    ("d11", include_str!("../scenarios/d11.yaml")),
    ("d12", include_str!("../scenarios/d12.yaml")),
    ("d13", include_str!("../scenarios/d13.yaml")),
    ("d14", include_str!("../scenarios/d14.yaml")),
    ("d15", include_str!("../scenarios/d15.yaml")),
    ("d16", include_str!("../scenarios/d16.yaml")),
    ("d17", include_str!("../scenarios/d17.yaml")),
    ("d18", include_str!("../scenarios/d18.yaml")),
    ("d19", include_str!("../scenarios/d19.yaml")),
    ("d20", include_str!("../scenarios/d20.yaml")),
    ("d21", include_str!("../scenarios/d21.yaml")),
    ("all-down-hour", include_str!("../scenarios/all-down-hour.yaml")),
    ("brown-out", include_str!("../scenarios/brown-out.yaml")),
    ("flapping", include_str!("../scenarios/flapping.yaml")),
    ("hang", include_str!("../scenarios/hang.yaml")),
    ("mid-stream-cuts", include_str!("../scenarios/mid-stream-cuts.yaml")),
    ("overload-waves", include_str!("../scenarios/overload-waves.yaml")),
    ("quota-exhausted", include_str!("../scenarios/quota-exhausted.yaml")),
    ("rate-limit-storm", include_str!("../scenarios/rate-limit-storm.yaml")),
    ("runaway-feature", include_str!("../scenarios/runaway-feature.yaml")),
    ("store-outage", include_str!("../scenarios/store-outage.yaml")),
    ("thundering-herd", include_str!("../scenarios/thundering-herd.yaml")),
    ("wrong-key", include_str!("../scenarios/wrong-key.yaml")),
    ("one-cloud-down", include_str!("../scenarios/one-cloud-down.yaml")),
    ("region-throttles", include_str!("../scenarios/region-throttles.yaml")),
    ("credentials-revoked", include_str!("../scenarios/credentials-revoked.yaml")),
    ("slow-deployment", include_str!("../scenarios/slow-deployment.yaml")),
    ("failing-deployment", include_str!("../scenarios/failing-deployment.yaml")),
    ("lost-deployment", include_str!("../scenarios/lost-deployment.yaml")),
    ("keys-near-their-limit", include_str!("../scenarios/keys-near-their-limit.yaml")),
    ("embeddings-down", include_str!("../scenarios/embeddings-down.yaml")),
    ("network-away", include_str!("../scenarios/network-away.yaml")),
    ("dns-away", include_str!("../scenarios/dns-away.yaml")),
    ("revoked-key-and-restart", include_str!("../scenarios/revoked-key-and-restart.yaml")),
    ("retired-fallback", include_str!("../scenarios/retired-fallback.yaml")),
    ("stall-thin-traffic", include_str!("../scenarios/stall-thin-traffic.yaml")),
];

impl Scenario {
    /// Reads a file: YAML, or TOML or JSON by its suffix.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, with file, line, column, and a remedy.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let mut places = Vec::new();
        let file = document(path.as_ref(), |file, findings| look(file, findings, &mut places))?;
        Ok(Self { file, places })
    }

    /// Reads a text in YAML.
    ///
    /// # Errors
    ///
    /// As in [`from_path`](Self::from_path).
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Self::of(None, text)
    }

    fn of(file: Option<&Path>, text: &str) -> Result<Self, ConfigError> {
        let mut places = Vec::new();
        let file = document_of(file, text, Format::Yaml, |file, findings| look(file, findings, &mut places))?;
        Ok(Self { file, places })
    }

    /// All that come with the crate.
    ///
    #[doc = include_str!("../scenarios/README.md")]
    ///
    /// # Panics
    ///
    /// Never: tests read them all.
    pub fn builtin() -> Vec<Self> {
        BUILTIN.iter().map(|(name, text)| Self::known(name, text)).collect()
    }

    /// Returns the crate's scenario of this name.
    ///
    /// # Panics
    ///
    /// Never, as in [`builtin`](Self::builtin).
    pub fn named(name: &str) -> Option<Self> {
        BUILTIN.iter().find(|(known, _)| *known == name).map(|(name, text)| Self::known(name, text))
    }

    /// Returns the nearest name of a scenario in the crate, if one is near.
    pub fn nearest(name: &str) -> Option<&'static str> {
        nearest(name, BUILTIN.iter().map(|(known, _)| *known))
    }

    /// Creates one without a file.
    pub(crate) fn of_file(file: ScenarioFile) -> Self {
        let places = vec![Vec::new(); file.faults.len()];
        Self { file, places }
    }

    /// Removes the faults at tiers by a name that is not known.
    pub(crate) fn with_faults_at(mut self, is_known: impl Fn(&str) -> bool) -> Self {
        self.file.faults.retain(|window| window.at.0.iter().all(|name| is_known(name)));
        Self::of_file(self.file)
    }

    fn known(name: &str, text: &str) -> Self {
        let file = format!("{name}.yaml");
        Self::of(Some(Path::new(&file)), text).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the scenario's name.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// Returns the description.
    pub fn about(&self) -> &str {
        self.file.about.trim()
    }

    /// Returns the incident that it replays; empty if none.
    pub fn source(&self) -> &str {
        self.file.source.trim()
    }

    /// Returns the duration.
    pub fn lasts(&self) -> Duration {
        self.file.lasts.0
    }

    /// Returns its own targets.
    pub fn expect(&self) -> &[Slo] {
        &self.file.expect
    }

    pub(crate) fn file(&self) -> &ScenarioFile {
        &self.file
    }

    /// Returns the configuration with the deployments that the scenario gives the primary, if it has none.
    pub(crate) fn with_deployments(&self, config: &Config) -> Config {
        let mut config = config.clone();
        let primary = config.tiers.iter_mut().find(|tier| tier.provider.is_model());
        if let Some((primary, number)) = primary.filter(|tier| tier.deployments.is_none()).zip(self.file.deployments) {
            let deployment =
                |number| Deployment { name: Some(format!("deployment-{number}")), ..Deployment::default() };
            primary.deployments = Some((1..=number).map(deployment).collect());
        }
        config
    }

    /// Returns the tiers that each fault affects, by their index in the configuration.
    ///
    /// # Errors
    ///
    /// A named tier does not exist, or cannot have faults; the error has its place in the scenario.
    pub(crate) fn hits(&self, config: &Config) -> Result<Vec<FaultTarget<'_>>, ConfigError> {
        let speaks = |place: &usize| config.tiers[*place].provider.is_model();
        let all: Vec<usize> = (0..config.tiers.len()).filter(speaks).collect();
        let mut problems = Vec::new();
        let mut hits = Vec::new();
        for (window, places) in self.file.faults.iter().zip(&self.places) {
            let mut hit = FaultTarget { window, tiers: Vec::new(), deployments: Vec::new(), store: false };
            let names = if window.at.0.is_empty() { &["primary".to_owned()][..] } else { &window.at.0 };
            for (at, name) in names.iter().enumerate() {
                match name.as_str() {
                    "primary" => hit.tiers.extend(all.first()),
                    "fallbacks" => hit.tiers.extend(all.iter().skip(1)),
                    "all" => hit.tiers.extend(&all),
                    "store" => hit.store = true,
                    "deployment" => match all.first().filter(|place| config.tiers[**place].deployments.is_some()) {
                        Some(place) => hit.deployments.push((*place, 0)),
                        None => problems.extend(places.get(at).map(without_deployments)),
                    },
                    name if deployment(name, &all, config).is_some() => {
                        hit.deployments.extend(deployment(name, &all, config));
                    }
                    name => match all.iter().find(|place| config.tiers[**place].name == name) {
                        Some(place) => hit.tiers.push(*place),
                        None => problems.extend(places.get(at).map(|place| not_there(name, &all, config, place))),
                    },
                }
            }
            hit.tiers.sort_unstable();
            hit.tiers.dedup();
            hits.push(hit);
        }
        if problems.is_empty() { Ok(hits) } else { Err(ConfigError::new(problems)) }
    }
}

/// A fault, and the tiers of a configuration that it affects.
pub(crate) struct FaultTarget<'a> {
    pub(crate) window: &'a Window,
    pub(crate) tiers: Vec<usize>,
    /// Single deployments, by the index of their tier and their own.
    pub(crate) deployments: Vec<(usize, usize)>,
    pub(crate) store: bool,
}

impl FaultTarget<'_> {
    /// Returns whether it affects a tier, or a deployment of it.
    pub(crate) fn touches(&self, tier: usize) -> bool {
        self.tiers.contains(&tier) || self.deployments.iter().any(|(of, _)| *of == tier)
    }
}

/// Returns the deployment of this name, `TIER/DEPLOYMENT`.
fn deployment(name: &str, tiers: &[usize], config: &Config) -> Option<(usize, usize)> {
    let (tier, own) = name.rsplit_once('/')?;
    let place = tiers.iter().copied().find(|place| config.tiers[*place].name == tier)?;
    Some((place, config.tiers[place].deployment_names().iter().position(|known| known == own)?))
}

fn without_deployments(place: &Problem) -> Problem {
    let mut problem = place.clone();
    problem.message = "the primary has no deployments; give their number as the scenario's `deployments`".to_owned();
    problem
}

fn not_there(name: &str, tiers: &[usize], config: &Config, place: &Problem) -> Problem {
    let known = || PLACES.into_iter().chain(tiers.iter().map(|tier| config.tiers[*tier].name.as_str()));
    let suggestion = nearest(name, known()).map(str::to_owned);
    let message = match config.tiers.iter().any(|tier| tier.name == name) {
        true => format!("the tier `{name}` calls no provider, so it cannot have faults"),
        false => {
            let known: Vec<String> = known().map(|name| format!("`{name}`")).collect();
            format!("the configuration has no tier `{name}`; there are {}", known.join(", "))
        }
    };
    let mut problem = place.clone();
    (problem.message, problem.suggestion) = (message, suggestion);
    problem
}

fn look(file: &ScenarioFile, findings: &mut Findings<'_, '_>, places: &mut Vec<Vec<Problem>>) {
    check(file, findings);
    findings.within("faults", |findings| {
        for (at, window) in file.faults.iter().enumerate() {
            findings.within(at, |findings| {
                // A single name outside a list is the key's value itself, so the path ends there.
                findings.within("at", |findings| {
                    places.push((0..window.at.0.len()).map(|place| findings.place(place)).collect());
                });
            });
        }
    });
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name())
            .field("lasts", &self.lasts())
            .field("faults", &self.file.faults.len())
            .finish_non_exhaustive()
    }
}
