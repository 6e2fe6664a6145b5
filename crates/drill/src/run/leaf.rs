//! A counted, simulated provider that replaces a tier's own and follows the scenario's faults.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::Instant;
use tower::Service;

use super::embeddings;
use crate::{
    log::{BROKEN_AFTER, RecordedCall, Recording},
    scenario::{
        FaultTarget,
        file::{FaultSpec, ScenarioFile, Window},
        outages::stretches,
    },
    traffic::DrillRequest,
};
use steadfast::{
    ErrorKind, LlmError, LlmRequest, LlmResponse,
    providers::simulated::{Fault, FaultMix, Latency, Outage, Simulated, SimulatedHandle},
};
use steadfast_internal::mix::{numbered, spread};
use steadfast_internal::sync::{Mutex, lock};
use steadfast_stack::Tier;

/// A tier's provider during a drill. Clones are the same provider.
#[derive(Clone)]
pub(super) struct DrillProvider {
    inner: Simulated,
    shared: Arc<Shared>,
}

struct Shared {
    provider: Arc<str>,
    model: Arc<str>,
    seed: u64,
    start: Instant,
    faults: Vec<TierFault>,
    recorded: Option<Arc<RecordedCalls>>,
    tally: Mutex<Tally>,
}

/// The calls that a log has of a tier, whose deployments share them.
pub(super) struct RecordedCalls {
    recording: Arc<Recording>,
    /// The tier's place in the recording.
    tier: usize,
    /// The calls so far for each request, by its number.
    calls: Mutex<Vec<u16>>,
}

impl RecordedCalls {
    /// Returns those of the tier of this name, if the log has it.
    fn of(recording: &Arc<Recording>, name: &str) -> Option<Arc<Self>> {
        let tier = recording.tier(name)?;
        let calls = Mutex::new(vec![0; recording.requests.len()]);
        Some(Arc::new(Self { recording: recording.clone(), tier, calls }))
    }

    fn is_out(&self, number: usize) -> bool {
        self.recording.is_out(self.tier, number)
    }

    /// Returns how the next call for a request fares.
    fn next(&self, number: Option<usize>, at: Duration, roll: f64) -> Option<RecordedCall> {
        let nth = number.map_or(0, |number| {
            let mut calls = lock(&self.calls);
            calls.get_mut(number).map_or(0, |calls| {
                *calls = calls.saturating_add(1);
                usize::from(*calls - 1)
            })
        });
        self.recording.call(self.tier, number, nth, at, roll)
    }
}

/// The course of a call: its fault, and its times if they are recorded.
#[derive(Default)]
struct Course {
    fault: Option<Fault>,
    recorded: Option<RecordedCall>,
}

/// The tokens of a recorded answer: the log has its times.
const TOKENS: u32 = 8;

/// A fault of the scenario at this tier.
struct TierFault {
    outages: Vec<Outage>,
    features: Vec<String>,
    callers: f64,
    /// The admitted calls per second and at once, if the fault is a capacity.
    capacity: Option<(f64, f64)>,
}

/// A provider's counts.
#[derive(Default)]
struct Tally {
    /// The number of calls for each request, by the request's number.
    calls: Vec<u16>,
    /// The times of the calls, from the beginning.
    times: Vec<Duration>,
    /// For each capacity fault: the remaining calls, and the time of that count.
    room: Vec<(f64, Duration)>,
}

/// A provider's statistics.
pub(super) struct ProviderStats {
    pub(super) attempts: u64,
    pub(super) failures: u64,
    /// The requests that reached it at least once.
    pub(super) requests: u64,
    /// The time of each attempt.
    pub(super) times: Vec<Duration>,
    /// Its deployments' attempts and failures, by name.
    pub(super) deployments: Vec<(String, u64, u64)>,
}

impl DrillProvider {
    /// Creates the provider of the tier at this index, or of its deployment at the second one.
    fn new(
        tier: &Tier,
        (place, deployment): (usize, Option<usize>),
        file: &ScenarioFile,
        hits: &[FaultTarget<'_>],
        recorded: Option<Arc<RecordedCalls>>,
        seed: u64,
    ) -> Self {
        let start = Instant::now();
        let seed = mixed(seed, place as u64);
        let seed = deployment.map_or(seed, |number| mixed(seed, number as u64));
        let of_tier = || if deployment.is_some() { tier.name.rsplit_once('/').map(|(of, _)| of) } else { None };
        let name = tier.model.as_deref().or_else(of_tier).unwrap_or(&tier.name);
        let is_hit = |hit: &&FaultTarget<'_>| {
            let own = deployment.map(|number| (place, number));
            hit.tiers.contains(&place) || own.is_some_and(|own| hit.deployments.contains(&own))
        };
        let own = tier.simulated.as_ref().and_then(|own| own.latency).map(|latency| Latency::from(latency.0));
        let usual = Latency::percentiles(file.providers.p50.0, file.providers.p99.0);
        let inner = Simulated::new(name)
            .seed(seed)
            .starting_at(start)
            .latency(own.unwrap_or(usual))
            .pace(file.providers.pace.0)
            .tokens(if recorded.is_some() { TOKENS..=TOKENS } else { 6..=14 });
        let faults: Vec<TierFault> = hits.iter().filter(is_hit).map(|hit| TierFault::new(hit.window)).collect();
        let room = faults.iter().map(|spec| (spec.capacity.map_or(1.0, |(_, burst)| burst), Duration::ZERO)).collect();
        let tally = Mutex::new(Tally { room, ..Tally::default() });
        let (provider, model) = (tier.provider.name().into(), name.into());
        Self { inner, shared: Arc::new(Shared { provider, model, seed, start, faults, recorded, tally }) }
    }

    /// Returns the statistics so far.
    pub(super) fn stats(&self) -> ProviderStats {
        let tally = lock(&self.shared.tally);
        let stats = self.handle().stats();
        let requests = tally.calls.iter().filter(|calls| **calls > 0).count() as u64;
        let attempts = tally.times.len() as u64;
        ProviderStats {
            attempts,
            failures: attempts.saturating_sub(stats.answered),
            requests,
            times: tally.times.clone(),
            deployments: Vec::new(),
        }
    }

    /// Returns whether it received a request at least once, by the request's number.
    fn reached(&self) -> Vec<bool> {
        lock(&self.shared.tally).calls.iter().map(|calls| *calls > 0).collect()
    }

    fn handle(&self) -> SimulatedHandle {
        self.inner.handle()
    }
}

/// The providers of a tier: one, or one for each of its deployments.
#[derive(Clone)]
pub(super) struct TierProvider {
    /// Each with the name by which a stack replaces it.
    providers: Vec<(String, DrillProvider)>,
    has_deployments: bool,
}

impl TierProvider {
    /// Creates the providers of the tier at this index.
    pub(super) fn new(
        tier: &Tier,
        place: usize,
        file: &ScenarioFile,
        hits: &[FaultTarget<'_>],
        recording: Option<&Arc<Recording>>,
        seed: u64,
    ) -> Self {
        let recorded = recording.and_then(|recording| RecordedCalls::of(recording, &tier.name));
        // The outages of a log are those of its calls.
        let hits = if recording.is_some() { &[] } else { hits };
        let provider = |(number, own): (usize, Tier)| {
            let deployment = tier.deployments.is_some().then_some(number);
            let provider = DrillProvider::new(&own, (place, deployment), file, hits, recorded.clone(), seed);
            (own.name, provider)
        };
        let providers = tier.endpoints().into_iter().enumerate().map(provider).collect();
        Self { providers, has_deployments: tier.deployments.is_some() }
    }

    /// Returns each provider with the name by which a stack replaces it.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (&str, DrillProvider)> {
        self.providers.iter().map(|(name, provider)| (name.as_str(), provider.clone()))
    }

    /// Returns the provider of a request without a balancer: they take turns.
    pub(super) fn in_turn(&self, number: usize) -> DrillProvider {
        self.providers[number % self.providers.len()].1.clone()
    }

    /// Returns the statistics of all together.
    pub(super) fn stats(&self) -> ProviderStats {
        let mut reached: Vec<bool> = Vec::new();
        let mut all = ProviderStats { attempts: 0, failures: 0, requests: 0, times: vec![], deployments: vec![] };
        for (name, provider) in &self.providers {
            let stats = provider.stats();
            all.attempts += stats.attempts;
            all.failures += stats.failures;
            all.times.extend(stats.times);
            for (number, is_there) in provider.reached().into_iter().enumerate() {
                if reached.len() <= number {
                    reached.resize(number + 1, false);
                }
                reached[number] |= is_there;
            }
            if self.has_deployments {
                let name = name.rsplit('/').next().unwrap_or_default().to_owned();
                all.deployments.push((name, stats.attempts, stats.failures));
            }
        }
        all.requests = reached.into_iter().filter(|is_there| *is_there).count() as u64;
        all.times.sort_unstable();
        all
    }
}

impl TierFault {
    fn new(window: &Window) -> Self {
        let capacity = window.fault.0.iter().find_map(|spec| match spec {
            FaultSpec::Capacity(rate) => Some((rate.0, rate.0.max(1.0))),
            // A provider's limit is that of a minute.
            FaultSpec::Limit(rate) => Some((rate.0, (rate.0 * 60.0).max(1.0))),
            _ => None,
        });
        let each = window.share.0 / window.fault.0.len().max(1) as f64;
        let mix = window.fault.0.iter().fold(FaultMix::new(), |mix, spec| mix.with(each, spec.fault()));
        let ramp = window.ramp.map_or(Duration::ZERO, |ramp| ramp.0);
        let outages = stretches(window).map(|(from, to)| Outage::new(from, to, mix.clone()).ramp_in(ramp)).collect();
        Self { outages, features: window.features.clone(), callers: window.callers.0, capacity }
    }
}

impl Shared {
    /// Counts a call, and returns its course.
    fn admit(&self, ask: Option<&DrillRequest>) -> Course {
        let at = self.start.elapsed();
        let mut guard = lock(&self.tally);
        let tally = &mut *guard;
        tally.times.push(at);
        let before = ask.map_or(0, |ask| {
            if tally.calls.len() <= ask.number {
                tally.calls.resize(ask.number + 1, 0);
            }
            let calls = &mut tally.calls[ask.number];
            *calls = calls.saturating_add(1);
            *calls - 1
        });
        if let Some(recorded) = &self.recorded {
            let roll = Rng::with_seed(mixed(self.seed, tally.times.len() as u64)).f64();
            let recorded = recorded.next(ask.map(|ask| ask.number), at, roll);
            let fault = recorded.as_ref().and_then(|call| call.fault.as_ref()).map(FaultSpec::fault);
            return Course { fault, recorded };
        }
        Course { fault: self.fault(ask, before, at, tally), recorded: None }
    }

    /// Returns the fault that the scenario has for a call, the `before`th one of its request.
    fn fault(&self, ask: Option<&DrillRequest>, before: u16, at: Duration, tally: &mut Tally) -> Option<Fault> {
        if ask.is_some_and(|ask| ask.wrong) {
            return Some(Fault::BadRequest);
        }
        // Seeded by the request rather than by the number of earlier calls, so that a request's first attempts meet
        // the same faults with a stack and without one.
        let number = ask.map_or(u64::MAX, |ask| ask.number as u64);
        let mut rng = Rng::with_seed(mixed(mixed(self.seed, number), before.into()));
        for (spec, room) in self.faults.iter().zip(&mut tally.room) {
            let roll = rng.f64();
            let hits = ask.is_none_or(|ask| {
                ask.caller < spec.callers
                    && (spec.features.is_empty() || spec.features.iter().any(|name| **name == *ask.feature))
            });
            let fault = spec.outages.iter().find_map(|outage| outage.pick(at, roll)).filter(|_| hits);
            let Some(fault) = fault else { continue };
            let Some((rate, burst)) = spec.capacity else { return Some(fault.clone()) };
            let (left, since) = *room;
            let left = (left + rate * at.saturating_sub(since).as_secs_f64()).min(burst);
            let fits = left >= 1.0;
            *room = (if fits { left - 1.0 } else { left }, at);
            if !fits {
                return Some(fault.clone());
            }
        }
        None
    }
}

/// Derives a separate seed for each number.
pub(super) fn mixed(seed: u64, number: u64) -> u64 {
    spread(seed ^ numbered(number))
}

impl Service<LlmRequest> for DrillProvider {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let ask = request.extensions().get::<DrillRequest>();
        if let (Some(ask), Some(recorded)) = (ask, &self.shared.recorded)
            && recorded.is_out(ask.number)
        {
            let error = LlmError::new(ErrorKind::CircuitOpen, "the tier was out for this request");
            let error = error.with_model(self.shared.provider.clone(), self.shared.model.clone());
            return Box::pin(async { Err(error) });
        }
        let Course { fault, recorded } = self.shared.admit(ask);
        // A call for vectors fares as a short conversation does.
        let embeds = request.opaque().is_some();
        let request = match ask {
            Some(ask) if embeds => ask.request().with_stream(false),
            _ => request,
        };
        let request = match fault {
            Some(fault) => request.with_extension(fault),
            None => request,
        };
        let is_stream = request.is_stream();
        let (answer, shared, handle) = (self.inner.call(request), self.shared.clone(), self.handle());
        Box::pin(async move {
            let mut wait = None;
            if let Some(call) = recorded {
                // The call begins when it is first polled, which is now: no other can change its times before.
                let tokens = if call.fails() { BROKEN_AFTER } else { TOKENS };
                handle.latency(call.first);
                handle.pace(if is_stream { call.rest / tokens } else { Duration::ZERO });
                wait = call.retry_after;
            }
            // The error names the replaced provider, because prices depend on it.
            let (provider, model) = (shared.provider.clone(), shared.model.clone());
            match answer.await {
                Ok(_) if embeds => Ok(embeddings::answer().with_model(provider, model)),
                Ok(response) => Ok(response.with_model(provider, model)),
                Err(error) => {
                    let error = error.with_model(provider, model);
                    Err(match wait {
                        Some(wait) => error.with_retry_after(wait),
                        None => error,
                    })
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::Scenario;
    use crate::traffic::traffic;
    use steadfast_stack::{Config, Format};

    const TIER: &str = "tiers: [{ name: a, provider: anthropic, model: m }]";

    /// Sends requests at ten minutes, one per second, in a scenario with this fault; returns their results.
    async fn sent(fault: &str) -> (Vec<Result<(), ErrorKind>>, Vec<DrillRequest>, ProviderStats) {
        let text =
            format!("name: x\nlasts: 1h\nrequests: {{ features: {{ chat: 1, other: 1 }} }}\nfaults:\n  - {fault}\n");
        let scenario = Scenario::from_yaml(&text).unwrap();
        let config = Config::from_str(TIER, Format::Yaml).unwrap();
        let hits = scenario.hits(&config).unwrap();
        let provider = DrillProvider::new(&config.tiers[0], (0, None), scenario.file(), &hits, None, 1);
        let asks = traffic(scenario.file(), 1);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let mut ended = Vec::new();
        for ask in asks.iter().take(400) {
            let answer = provider.clone().oneshot(ask.request().with_stream(false)).await;
            ended.push(answer.map(drop).map_err(|error| error.kind()));
        }
        (ended, asks, provider.stats())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_hits_only_those_whom_it_is_for() {
        let (ended, asks, seen) = sent("{ from: 1m, to: 50m, fault: overloaded, features: [other] }").await;
        for (ended, ask) in ended.iter().zip(&asks) {
            assert_eq!(ended.is_err(), &*ask.feature == "other");
        }
        assert_eq!((seen.attempts, seen.requests), (400, 400));
        assert_eq!(seen.failures, ended.iter().filter(|ended| ended.is_err()).count() as u64);

        let (ended, asks, _) = sent("{ from: 1m, to: 50m, fault: refused, callers: 30% }").await;
        for (ended, ask) in ended.iter().zip(&asks) {
            assert_eq!(*ended, if ask.caller < 0.3 { Err(ErrorKind::Connect) } else { Ok(()) });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn several_faults_take_turns_by_chance() {
        let (ended, ..) = sent("{ from: 1m, to: 50m, fault: [overloaded, server_error], share: 50% }").await;
        for kind in [ErrorKind::Overloaded, ErrorKind::Server] {
            let hit = ended.iter().filter(|ended| **ended == Err(kind)).count();
            assert!((70..130).contains(&hit), "{kind:?}: {hit}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_the_capacity_is_refused() {
        // About 1.4 calls per second, one after the other.
        let (ended, ..) = sent("{ from: 1m, to: 55m, fault: { capacity: 30/min } }").await;
        let passed = ended.iter().filter(|ended| ended.is_ok()).count();
        assert!((100..260).contains(&passed), "{passed}");
        assert!(ended.iter().flat_map(|ended| ended.err()).all(|kind| kind == ErrorKind::Overloaded));
    }
}
