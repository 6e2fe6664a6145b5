//! The books of a simulation, as providers and callers saw it: the event log, and each request's own story.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use steadfast::{
    Attempt, ErrorKind, Event, Events, LlmError,
    events::{CircuitReason, CircuitState},
};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::Instant,
};

use crate::simulation::{plan::Plan, traffic::Ask};

/// The books of one simulation.
pub(crate) struct Books {
    pub(crate) start: Instant,
    pub(crate) plan: Arc<Plan>,
    kept: Mutex<Kept>,
}

/// The content of the books.
pub(crate) struct Kept {
    pub(crate) log: String,
    heard: Receiver<Event>,
    pub(crate) asks: Vec<Entry>,
    pub(crate) tiers: Vec<TierBooks>,
    /// Calls under way by feature, the last for those without one; and how many there may be.
    under_way: Vec<usize>,
    limits: Vec<usize>,
    pub(crate) violations: Vec<(Option<usize>, String)>,
    /// The time when the primary last came back.
    pub(crate) recovered: Option<Duration>,
    /// The number of requests that the stack has reported.
    pub(crate) told: usize,
    /// True if an operator has done anything.
    pub(crate) was_operated: bool,
}

/// A request's story.
pub(crate) struct Entry {
    pub(crate) ask: Ask,
    pub(crate) calls: Vec<Call>,
    pub(crate) responded: Option<Duration>,
    pub(crate) served: Option<usize>,
    /// The attempts that the stack reports before the response.
    pub(crate) record: Vec<Attempt>,
    pub(crate) ended: Option<(Duration, Outcome)>,
}

impl Entry {
    /// Returns whether a step of its record was at this tier.
    pub(crate) fn tells_of(&self, plan: &Plan, tier: usize) -> bool {
        self.record.iter().any(|step| plan.is_at(tier, step))
    }

    /// Returns whether its caller was promised an answer by a person.
    pub(crate) fn was_promised(&self) -> bool {
        self.ended.is_some_and(|(_, outcome)| outcome == Outcome::Task)
    }
}

/// A call that a provider had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) tier: usize,
    pub(crate) begun: Duration,
    pub(crate) ended: Option<Duration>,
    /// The circuit's state when it let the call through, as far as that is known.
    pub(crate) circuit: Option<CircuitState>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    Answered { restarted: bool },
    Task,
    Failed(ErrorKind),
    Broken(ErrorKind),
    Left,
}

#[derive(Default)]
pub(crate) struct TierBooks {
    pub(crate) under_way: usize,
    /// The circuit's state; `None` while it has reported nothing.
    state: Option<CircuitState>,
    /// The times of its changes.
    pub(crate) changed: Vec<Duration>,
    /// The time from which an operator lets no new request go there.
    pub(crate) drained: Option<Duration>,
    /// True if its probes have closed it before.
    has_closed: bool,
    /// The number of its trips after that: then each success lets twice as many probes through.
    lapses: u32,
    /// Of the present half-open time: the probes under way, and when each began.
    probes: Vec<(u64, Duration)>,
    /// The number of probes that have ended in that time.
    ended: u32,
    next_probe: u64,
    /// True if the provider's own word closed it off, while it was closed.
    throttled: bool,
    /// True if it did so while it was half-open.
    paused: bool,
    /// The time at which the circuit last opened, and the reason.
    pub(crate) opened: Option<(Duration, CircuitReason)>,
    /// True if its circuit has ever opened for a storm of invalid requests, as far as that is known.
    had_storm: bool,
    /// Its circuit is another than the one whose events are heard.
    pub(crate) is_replaced: bool,
}

impl Books {
    pub(crate) fn new(plan: &Arc<Plan>, events: &Events, asks: &[Ask]) -> Arc<Self> {
        let entry = |ask: &Ask| Entry {
            ask: ask.clone(),
            calls: Vec::new(),
            responded: None,
            served: None,
            record: Vec::new(),
            ended: None,
        };
        let mut limits: Vec<usize> = plan.features.iter().map(|feature| feature.concurrency).collect();
        limits.push(DEFAULT_LIMIT);
        let kept = Kept {
            log: format!("{plan:#?}\n"),
            heard: events.subscribe(),
            asks: asks.iter().map(entry).collect(),
            tiers: plan.tiers.iter().map(|_| TierBooks::default()).collect(),
            under_way: vec![0; limits.len()],
            limits,
            violations: Vec::new(),
            recovered: None,
            told: 0,
            was_operated: false,
        };
        Arc::new(Self { start: Instant::now(), plan: plan.clone(), kept: Mutex::new(kept) })
    }

    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the content of the books, with all that the stack has reported so far.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap();
        kept.hear(self);
        kept
    }

    fn note(&self, kept: &mut Kept, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(kept.log, "{:>12.6} {line}", self.now().as_secs_f64());
    }

    pub(crate) fn line(&self, line: &str) {
        let mut kept = self.kept();
        self.note(&mut kept, format_args!("{line}"));
    }

    pub(crate) fn violation(&self, request: Option<usize>, what: String) {
        let mut kept = self.kept();
        self.note(&mut kept, format_args!("WRONG {}{what}", request.map(|id| format!("r{id} ")).unwrap_or_default()));
        kept.violations.push((request, what));
    }

    pub(crate) fn arrived(&self, ask: &Ask) {
        let mut kept = self.kept();
        let Ask { id, stream, manner, .. } = ask;
        let feature = ask.feature.map_or("-", |feature| self.plan.features[feature].name);
        let (session, deadline, attempts) = (ask.session, ask.deadline, ask.attempts);
        self.note(
            &mut kept,
            format_args!("r{id} asks {feature} stream={stream} {session:?} {deadline:?} {attempts:?} {manner:?}"),
        );
    }

    /// A circuit has let a call through to a provider.
    pub(crate) fn admitted(self: &Arc<Self>, tier: usize, id: usize) -> UnderWay {
        let mut kept = self.kept();
        let (now, settings) = (self.now(), &self.plan.tiers[tier]);
        let lease = settings.breaker.cooldown.max(Duration::from_secs(60));
        let books = &mut kept.tiers[tier];
        // A call that waits for the leaf, or is retried inside of the circuit, was admitted long before; a last resort
        // passes the circuit.
        let waits = settings.leaf_limit.is_some() || settings.breaker_outside;
        let counts = !settings.last_resort && !waits && !books.is_replaced;
        let probe = (books.state == Some(CircuitState::HalfOpen) && counts).then(|| {
            books.next_probe += 1;
            let before = books.probes.len();
            books.probes.retain(|(_, begun)| now < *begun + lease);
            books.ended += (before - books.probes.len()) as u32;
            books.probes.push((books.next_probe, now));
            books.next_probe
        });
        let circuit = (!waits && !books.is_replaced).then(|| books.state.unwrap_or(CircuitState::Closed));
        let is_open = books.state == Some(CircuitState::Open) && counts;
        let drained = books.drained;
        // At most all that have ended have succeeded.
        let doubled = if books.lapses > 0 { 1_usize.checked_shl(books.ended).unwrap_or(usize::MAX) } else { 1 };
        let most = doubled.saturating_mul(settings.breaker.probes as usize);
        let under_way = books.probes.len();
        if is_open {
            kept.violations.push((Some(id), format!("it went through the open circuit of {}", self.plan.name(tier))));
        }
        // A request that began there before may be retried there.
        let goes_on = kept.asks[id].calls.last().is_some_and(|last| last.tier == tier) || settings.leaf_limit.is_some();
        if drained.is_some_and(|since| since < now) && !goes_on {
            kept.violations.push((Some(id), format!("it went to {}, which is drained", self.plan.name(tier))));
        }
        if under_way > most {
            self.note(&mut kept, format_args!("WRONG {under_way} probes at {}", self.plan.name(tier)));
            kept.violations.push((Some(id), format!("{under_way} probes are under way, where {most} may be")));
        }
        UnderWay { books: self.clone(), tier, id, call: None, probe, circuit }
    }

    /// The response is there, or the error in its place.
    pub(crate) fn responded(&self, id: usize, record: &[Attempt], tier: Option<&str>) {
        let mut kept = self.kept();
        let now = self.now();
        self.note(&mut kept, format_args!("r{id} has its response from {}", tier.unwrap_or("nobody")));
        let entry = &mut kept.asks[id];
        entry.responded = Some(now);
        entry.record = record.to_vec();
        entry.served = tier.and_then(|tier| (0..self.plan.places()).find(|place| self.plan.name(*place) == tier));
    }

    pub(crate) fn ended(&self, id: usize, outcome: Outcome, error: Option<&LlmError>) {
        let mut kept = self.kept();
        let now = self.now();
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        self.note(&mut kept, format_args!("r{id} ends {outcome:?}{error}"));
        kept.asks[id].ended = Some((now, outcome));
    }

    /// More requests of a feature may be under way from now on.
    pub(crate) fn raise_limit(&self, feature: usize, limit: usize) {
        let mut kept = self.kept();
        kept.limits[feature] = kept.limits[feature].max(limit);
    }

    /// Returns the number of requests from before that time that are still under way: with a call, or waiting for the
    /// next one.
    pub(crate) fn left_from(&self, before: Duration) -> usize {
        let kept = self.kept();
        let is_under_way =
            |entry: &&Entry| entry.ended.is_none() || entry.calls.iter().any(|call| call.ended.is_none());
        kept.asks.iter().filter(|entry| entry.ask.at < before).filter(is_under_way).count()
    }
}

/// The limit of requests whose feature is not named.
pub(crate) const DEFAULT_LIMIT: usize = 100;

impl Kept {
    /// Takes what the stack has told since.
    fn hear(&mut self, books: &Books) {
        loop {
            let event = match self.heard.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Lagged(lost)) => panic!("{lost} events were lost"),
                Err(_) => return,
            };
            let tier_of = |name: &str| (0..books.plan.tiers.len()).find(|tier| books.plan.name(*tier) == name);
            match &event {
                Event::CircuitChanged { circuit, from, to, reason, .. } => {
                    books.note(self, format_args!("circuit {circuit} {from} -> {to}: {reason}"));
                    if let Some(tier) = tier_of(circuit) {
                        self.tiers[tier].circuit_changed(*from, *to, *reason, books.now());
                    }
                }
                Event::RequestEnded(ended) => {
                    self.told += 1;
                    let (outcome, tier) = (ended.outcome, ended.tier.as_deref().unwrap_or("nobody"));
                    let (attempts, first_token, took) = (ended.attempts(), ended.first_token, ended.took);
                    books.note(
                        self,
                        format_args!("told {outcome:?} by {tier}, {attempts} attempts, {first_token:?}, {took:?}"),
                    );
                }
                Event::ModelSwitched { from, to, reason, .. } => {
                    books.note(self, format_args!("switched {from} -> {to}: {reason}"));
                }
                Event::ModelRecovered { from, to, after, .. } => {
                    self.recovered = Some(books.now());
                    books.note(self, format_args!("recovered {from} -> {to} after {after:?}"));
                }
                Event::AllTiersFailed { feature, reason, .. } => {
                    books.note(self, format_args!("all tiers failed {feature:?}: {reason}"));
                }
                Event::Operated { operation, .. } => books.note(self, format_args!("operated: {operation}")),
                Event::Reloaded { kept, changed, .. } => {
                    books.note(self, format_args!("reloaded: {kept} kept, {changed} changed"));
                }
                Event::HandedOver(_) => books.note(self, format_args!("handed over")),
                other => books.note(self, format_args!("{}", format!("{other:?}").split('{').next().unwrap_or(""))),
            }
        }
    }
}

impl TierBooks {
    fn circuit_changed(&mut self, from: CircuitState, to: CircuitState, reason: CircuitReason, now: Duration) {
        // A throttle over a closed circuit ends in a closed one. If probes follow, calls under way have tripped it
        // meanwhile, and no event says so: to its callers it was open already.
        let was_throttled = self.throttled;
        let tripped = matches!(reason, CircuitReason::Failures | CircuitReason::SlowCalls)
            || (to == CircuitState::HalfOpen && was_throttled);
        self.lapses += u32::from(self.has_closed && tripped);
        self.has_closed |= reason == CircuitReason::Recovered;
        // One over a half-open circuit ends in the same half-open time, whatever became of its probes meanwhile.
        let goes_on = from == CircuitState::HalfOpen && reason == CircuitReason::Throttled;
        self.ended = match goes_on || (to == CircuitState::HalfOpen && self.paused) {
            true => self.ended.saturating_add(self.probes.len() as u32),
            false => 0,
        };
        self.paused = goes_on;
        self.throttled = from == CircuitState::Closed && reason == CircuitReason::Throttled;
        if reason == CircuitReason::Forced {
            // The operator's word ends what the circuit remembers of itself.
            (self.has_closed, self.lapses) = (false, 0);
        }
        self.had_storm |=
            reason == CircuitReason::InvalidRequestStorm || (to == CircuitState::HalfOpen && was_throttled);
        if to == CircuitState::Open {
            self.opened = Some((now, reason));
        }
        self.state = Some(to);
        self.changed.push(now);
        self.probes.clear();
    }

    /// Returns whether its circuit may have opened for a storm of invalid requests. Under a throttle no event says so.
    pub(crate) fn may_have_had_storm(&self) -> bool {
        self.had_storm || self.throttled
    }

    /// Returns how many times the usual number of probes must succeed: four times after the first relapse, and then
    /// sixteen.
    pub(crate) fn evidence(&self) -> u32 {
        4_u32.pow(self.lapses.min(2))
    }

    /// Takes note that a call has ended which was admitted as this probe.
    fn probe_ended(&mut self, probe: u64) {
        let before = self.probes.len();
        self.probes.retain(|(known, _)| *known != probe);
        self.ended += u32::from(self.probes.len() < before);
    }
}

/// A call to a provider; dropped, it has ended.
pub(crate) struct UnderWay {
    books: Arc<Books>,
    tier: usize,
    id: usize,
    call: Option<usize>,
    probe: Option<u64>,
    circuit: Option<CircuitState>,
}

impl UnderWay {
    /// The provider has it.
    pub(crate) fn sent(&mut self) {
        let Self { books, tier, id, .. } = self;
        let mut kept = books.kept();
        let now = books.now();
        let kind = if self.probe.is_some() { "probes" } else { "calls" };
        books.note(&mut kept, format_args!("r{id} {kind} {}", books.plan.name(*tier)));
        let entry = &mut kept.asks[*id];
        self.call = Some(entry.calls.len());
        entry.calls.push(Call { tier: *tier, begun: now, ended: None, circuit: self.circuit });
        let feature = entry.ask.feature.unwrap_or(books.plan.features.len());
        kept.tiers[*tier].under_way += 1;
        kept.under_way[feature] += 1;
        let (under_way, most) = (kept.under_way[feature], kept.limits[feature]);
        if under_way > most {
            let what = format!("{under_way} requests of its feature are at providers, where {most} may be");
            kept.violations.push((Some(*id), what));
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self { books, tier, id, .. } = self;
        let mut kept = books.kept();
        let now = books.now();
        if let Some(probe) = self.probe {
            kept.tiers[*tier].probe_ended(probe);
        }
        let Some(call) = self.call else { return };
        books.note(&mut kept, format_args!("r{id} is done at {}", books.plan.name(*tier)));
        kept.tiers[*tier].under_way -= 1;
        let entry = &mut kept.asks[*id];
        entry.calls[call].ended = Some(now);
        let feature = entry.ask.feature.unwrap_or(books.plan.features.len());
        kept.under_way[feature] -= 1;
    }
}
