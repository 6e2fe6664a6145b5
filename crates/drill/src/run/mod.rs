//! One scenario against one configuration, in virtual time.

mod embeddings;
mod leaf;
mod outcome;
mod report;
mod tasks;
#[cfg(test)]
mod tests;
mod timeline;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::Service as _;

use self::{
    embeddings::Embeddings,
    leaf::{ProviderStats, TierProvider, mixed},
    outcome::Outcome,
    tasks::DrillTasks,
    timeline::Timeline,
};
use super::{
    baseline::{BaselineKind, BaselineOutcome},
    log::{Recording, RequestLog, recorded_report},
    report::ScenarioReport,
    scenario::{FaultTarget, Scenario, file::RequestKind},
    traffic::{DrillRequest, traffic},
};
use steadfast_internal::wall_clock;
use steadfast_stack::{
    Alerts, Config, ConfigError, Environment, Likeness, Problem, Provider, Stack, StackHandle, Stores, Tier,
};

/// The number of parts of a timeline.
const PIECES: u32 = 60;
/// The day of every drill, the first of January 2026, so that daily and monthly caps begin and end at the same time in
/// each run.
const DAY: Duration = Duration::from_secs(20_454 * 86_400);

/// The raw results of a scenario.
struct RunResult<'a> {
    scenario: &'a Scenario,
    config: &'a Config,
    hits: Vec<FaultTarget<'a>>,
    asks: Arc<[DrillRequest]>,
    outcomes: Vec<Outcome>,
    /// The statistics of each tier's provider; `None` for a tier without one.
    seen: Vec<Option<ProviderStats>>,
    /// The state of each tier's circuit at the end of each part of the timeline.
    circuits: Vec<Vec<String>>,
    timeline: Timeline,
    without: Vec<(BaselineKind, Vec<BaselineOutcome>, ProviderStats)>,
}

/// Adapts a configuration to a drill: it needs no key, opens no store and calls no one, not even a mirror's candidate.
pub(super) fn drill_config(config: &Config) -> Config {
    let mut config = config.clone();
    config.stores = Stores::default();
    config.alerts = Alerts::default();
    // A candidate is another provider, and copies to a serving tier would count as its requests.
    config.mirror = None;
    if let Some(handoff) = &mut config.handoff {
        (handoff.notify, handoff.callbacks) = (None, None);
    }
    if let Some(cache) = &mut config.cache {
        cache.shared = false;
    }
    for tier in config.tiers.iter_mut().chain(config.lane.iter_mut().flat_map(|lane| &mut lane.tiers)) {
        tier.headers.clear();
        tier.deployments.iter_mut().flatten().for_each(|own| own.headers.clear());
        // A drill has no embedding model.
        tier.similar = tier.similar.take().filter(|similar| similar.method == Likeness::Words);
    }
    config
}

/// Runs a scenario.
pub(super) fn run(scenario: &Scenario, config: &Config, seed: u64) -> Result<ScenarioReport, ConfigError> {
    let config = &scenario.with_deployments(config);
    let embeddings = match scenario.file().requests.kind {
        RequestKind::Conversations => None,
        RequestKind::Embeddings => Some(Embeddings::new(config)?),
    };
    let config = embeddings.as_ref().map_or(config, |embeddings| &embeddings.places);
    let seed = scenario.name().bytes().fold(seed, |seed, byte| mixed(seed, byte.into()));
    let asks = traffic(scenario.file(), seed).into();
    let hits = scenario.hits(config)?;
    Rehearsal { scenario, config, embeddings: embeddings.as_ref(), hits, asks, recording: None, seed }.report()
}

/// Runs the requests of a log.
pub(super) fn replay(log: &RequestLog, config: &Config, seed: u64) -> Result<ScenarioReport, ConfigError> {
    let of = |name: &str| config.tiers.iter().find(|tier| tier.name == name);
    let scenario = &log.scenario(|name| of(name).is_some_and(|tier| tier.provider.is_model()));
    let keeps = |name: &str| of(name).is_some_and(|tier| tier.provider == Provider::Cached);
    let (asks, recording) = (log.recording.traffic(keeps).into(), Some(&log.recording));
    let hits = scenario.hits(config)?;
    let mut report = Rehearsal { scenario, config, embeddings: None, hits, asks, recording, seed }.report()?;
    let notes = log.notes().iter().cloned().chain(assumptions(log, config)).collect();
    let (recorded, beside) = recorded_report(&log.recording, notes, (piece(scenario), PIECES));
    report.baselines.insert(0, beside);
    report.recorded = Some(recorded);
    Ok(report)
}

/// Returns sentences about the tiers that only the log or only the configuration has.
fn assumptions(log: &RequestLog, config: &Config) -> impl Iterator<Item = String> {
    let is_of_file = |name: &str| config.tiers.iter().any(|tier| tier.name == name);
    let gone = log.recording.tiers.iter().filter(|tier| !is_of_file(&tier.name));
    let gone: Vec<String> = gone
        .map(|tier| format!("the file has no tier `{}`, which answered {} requests", tier.name, tier.answered))
        .collect();
    let usual = log.usual();
    let new = config.tiers.iter().filter(|tier| tier.provider.is_model() && log.recording.tier(&tier.name).is_none());
    let new: Vec<String> = new
        .map(|tier| format!("the log has no call of tier `{}`: it is taken to be well, {usual}", tier.name))
        .collect();
    gone.into_iter().chain(new)
}

/// Returns the first tier that calls a provider.
fn primary(config: &Config) -> Option<usize> {
    config.tiers.iter().position(|tier| tier.provider.is_model())
}

/// Creates a runtime whose clock advances whenever all tasks wait.
fn virtual_time() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}

/// Returns the length of a part of the timeline.
fn piece(scenario: &Scenario) -> Duration {
    (scenario.lasts() / PIECES).max(Duration::from_millis(1))
}

struct StackRun {
    outcomes: Vec<Outcome>,
    seen: Vec<Option<ProviderStats>>,
    circuits: Vec<Vec<String>>,
    timeline: Timeline,
}

/// Requests, and all that they meet.
struct Rehearsal<'a> {
    scenario: &'a Scenario,
    config: &'a Config,
    embeddings: Option<&'a Embeddings>,
    hits: Vec<FaultTarget<'a>>,
    asks: Arc<[DrillRequest]>,
    /// The log that decides how calls fare, in place of the scenario's faults.
    recording: Option<&'a Arc<Recording>>,
    seed: u64,
}

impl Rehearsal<'_> {
    /// Runs the stack and the baselines.
    fn report(self) -> Result<ScenarioReport, ConfigError> {
        let runtime =
            || virtual_time().map_err(|error| ConfigError::new(vec![Problem::of_file(None, error.to_string())]));
        let with = runtime()?.block_on(self.run_stack(|_| ()))?;
        let mut without = Vec::new();
        if let Some(primary) = primary(self.config) {
            for way in BaselineKind::ALL {
                let (tried, seen) = runtime()?.block_on(self.run_baseline(way, primary));
                without.push((way, tried, seen));
            }
        }
        let StackRun { outcomes, seen, circuits, timeline } = with;
        let Self { scenario, config, hits, asks, .. } = self;
        Ok(RunResult { scenario, config, hits, asks, outcomes, seen, circuits, timeline, without }.report())
    }

    fn provider(&self, tier: &Tier, place: usize) -> TierProvider {
        TierProvider::new(tier, place, self.scenario.file(), &self.hits, self.recording, self.seed)
    }

    /// Runs the stack. What `attach` returns is kept until its end.
    async fn run_stack<T>(&self, attach: impl FnOnce(&StackHandle) -> T) -> Result<StackRun, ConfigError> {
        let Self { scenario, config, embeddings, hits, asks, seed, .. } = self;
        let start = Instant::now();
        let clock = scenario.file().clock.map_or(Duration::ZERO, |clock| Duration::from_secs(clock.0.into()));
        let _date = wall_clock::DrillDate::begin(DAY + clock);
        let mut providers: Vec<Option<TierProvider>> = Vec::new();
        let mut builder = Stack::builder().environment(Environment::default()).seed(*seed);
        let of_stack = embeddings.map_or(*config, |embeddings| &embeddings.stack);
        if of_stack.tiers.iter().any(|tier| tier.provider == Provider::Handoff) {
            builder = builder.tasks(DrillTasks::new(hits));
        }
        for (place, tier) in config.tiers.iter().enumerate() {
            let provider = tier.provider.is_model().then(|| self.provider(tier, place));
            for (name, leaf) in provider.iter().flat_map(TierProvider::leaves) {
                builder = builder.leaf(name, leaf);
            }
            providers.push(provider);
        }
        if let Some(embeddings) = embeddings {
            builder = embeddings.replace_conversations(builder);
        }
        let stack = builder.build(of_stack.clone())?;
        let handle = stack.handle();
        let timeline = Timeline::begin(&handle, start);
        let _attached = attach(&handle);
        let config: Arc<Config> = match embeddings {
            Some(_) => Arc::new((*config).clone()),
            None => handle.config(),
        };
        let mut service = stack.service();
        let mut under_way = JoinSet::new();
        let (mut circuits, piece) = (Vec::new(), piece(scenario));
        let mut ends = (1..=PIECES).map(|number| start + piece * number).peekable();
        for number in 0..asks.len() {
            let at = start + asks[number].at;
            while let Some(end) = ends.next_if(|end| *end <= at) {
                sleep_until(end).await;
                circuits.push(states(&handle, &config));
            }
            sleep_until(at).await;
            let ask = &asks[number];
            let answer = service.call(embeddings.map_or_else(|| ask.request(), |embeddings| embeddings.request(ask)));
            let (asks, config) = (asks.clone(), config.clone());
            under_way.spawn(async move { (number, outcome::of(answer, &asks[number], &config).await) });
        }
        for end in ends {
            sleep_until(end).await;
            circuits.push(states(&handle, &config));
        }
        let mut outcomes = join_in_order(under_way, asks.len()).await;
        if let Some(embeddings) = embeddings {
            outcomes.iter_mut().for_each(|outcome| embeddings.judge(outcome));
        }
        // Subscribers receive events a moment later.
        sleep(Duration::from_millis(1)).await;
        let seen = providers.iter().map(|provider| provider.as_ref().map(TierProvider::stats)).collect();
        Ok(StackRun { outcomes, seen, circuits, timeline })
    }

    async fn run_baseline(&self, way: BaselineKind, primary: usize) -> (Vec<BaselineOutcome>, ProviderStats) {
        let start = Instant::now();
        let provider = self.provider(&self.config.tiers[primary], primary);
        let mut under_way = JoinSet::new();
        for number in 0..self.asks.len() {
            sleep_until(start + self.asks[number].at).await;
            let (asks, provider) = (self.asks.clone(), provider.in_turn(number));
            under_way.spawn(async move { (number, way.ask(provider, &asks[number]).await) });
        }
        let tried = join_in_order(under_way, self.asks.len()).await;
        (tried, provider.stats())
    }
}

/// Returns the results in order of arrival.
async fn join_in_order<T: 'static>(mut under_way: JoinSet<(usize, T)>, expected: usize) -> Vec<T> {
    let mut ended = Vec::with_capacity(expected);
    while let Some(joined) = under_way.join_next().await {
        match joined {
            Ok(one) => ended.push(one),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    ended.sort_by_key(|(number, _)| *number);
    ended.into_iter().map(|(_, one)| one).collect()
}

/// Returns the state of each tier's circuit.
fn states(handle: &StackHandle, config: &Config) -> Vec<String> {
    let circuits = handle.circuits();
    let state = |tier: &Tier| match circuits.get(&*tier.name) {
        // The circuits of people and texts never open.
        Some(circuit) if tier.provider.is_model() => circuit.state().name().to_owned(),
        _ => "-".to_owned(),
    };
    config.tiers.iter().map(state).collect()
}

/// Returns the name of a tier's level.
fn level(tier: &Tier) -> &'static str {
    match (tier.provider, tier.service_level()) {
        (Provider::Handoff, _) => "human",
        (_, 1) => "full",
        (_, 2) => "reduced",
        (_, 3) => "basic",
        (_, 4) => "cached",
        _ => "canned",
    }
}
