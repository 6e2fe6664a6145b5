//! Metrics of single calls: the series of a leaf, which is a tier with its provider and model.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Histogram, SharedString};

use super::{
    series::{Name, Names, Registry, SeriesOf},
    table,
};
use crate::conventions;
use steadfast::{ErrorKind, chat::Usage, events::RequestEnded, ledger::Attempt};

/// The tier, provider and model of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaf {
    pub(super) tier: Name,
    provider: Name,
    model: Name,
}

/// The series of all leaves.
#[derive(Debug)]
pub(super) struct Leaves {
    registry: Registry,
    tiers: Names,
    providers: Names,
    models: Names,
    series: SeriesOf<Leaf, Arc<Series>>,
    failures: SeriesOf<(Leaf, ErrorKind), (Counter, Histogram)>,
    refusals: SeriesOf<(Name, ErrorKind), Counter>,
    retries: SeriesOf<(Name, ErrorKind), Counter>,
    dead: SeriesOf<Name, Counter>,
    /// The provider and model last seen at a tier, for estimating what it would have cost.
    last_seen: SeriesOf<Name, (Arc<str>, Arc<str>)>,
}

/// The series of one leaf.
#[derive(Debug)]
pub(super) struct Series {
    attempts: Counter,
    pub(super) duration: Histogram,
    first_chunk: Histogram,
    degraded: Counter,
    usage: [Histogram; 2],
    tokens: [Counter; 5],
    cost: Counter,
}

impl Leaves {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            tiers: Names::new(MOST_TIERS),
            providers: Names::new(MOST_TIERS),
            models: Names::new(MOST_MODELS),
            series: SeriesOf::default(),
            failures: SeriesOf::default(),
            refusals: SeriesOf::default(),
            retries: SeriesOf::default(),
            dead: SeriesOf::default(),
            last_seen: SeriesOf::default(),
        }
    }

    pub(super) fn tier(&mut self, tier: Option<&Arc<str>>) -> Name {
        self.tiers.name(tier)
    }

    pub(super) fn tier_text(&self, tier: Name) -> SharedString {
        self.tiers.text(tier)
    }

    /// Returns the leaf of these names and its series.
    pub(super) fn leaf(
        &mut self,
        tier: Option<&Arc<str>>,
        provider: Option<&Arc<str>>,
        model: Option<&Arc<str>>,
    ) -> (Leaf, &Arc<Series>) {
        let leaf = Leaf {
            tier: self.tiers.name(tier),
            provider: self.providers.name(provider),
            model: self.models.name(model),
        };
        let series = self.series.entry(leaf).or_insert_with(|| {
            if let (Some(provider), Some(model)) = (provider, model) {
                self.last_seen.insert(leaf.tier, (provider.clone(), model.clone()));
            }
            let texts = [self.tiers.text(leaf.tier), self.providers.text(leaf.provider), self.models.text(leaf.model)];
            Arc::new(Series::new(&self.registry, texts))
        });
        (leaf, series)
    }

    /// Returns the counter of calls to a tier that were refused before sending.
    pub(super) fn refusals(&self, tier: Name, kind: ErrorKind) -> Counter {
        refusals(&self.registry, &self.tiers, (tier, kind))
    }

    /// Records one failed or refused step.
    pub(super) fn record_failed(&mut self, step: &Attempt, kind: ErrorKind, served_by: Option<Name>) {
        if step.is_local() {
            let tier = self.tiers.name(step.tier.as_ref());
            let refused = || refusals(&self.registry, &self.tiers, (tier, kind));
            self.refusals.entry((tier, kind)).or_insert_with(refused).increment(1);
            return;
        }
        let (leaf, series) = self.leaf(step.tier.as_ref(), step.provider.as_ref(), step.model.as_ref());
        let mut tally = Tally { attempts: 1, ..Tally::default() };
        if let Some(usage) = &step.usage {
            series.record_usage(usage, &mut tally);
        }
        series.count(&tally);
        self.record_broken(leaf, kind, step.took);
        if served_by != Some(leaf.tier) {
            let dead = || self.registry.counter(&table::DEAD_ATTEMPTS, [self.tiers.text(leaf.tier)]);
            self.dead.entry(leaf.tier).or_insert_with(dead).increment(1);
        }
    }

    /// Records a call that was cancelled in favour of another. Its model is unknown.
    pub(super) fn record_cancelled(&mut self, tier: Option<&Arc<str>>) {
        let name = self.tiers.name(tier);
        let known = self.last_seen.get(&name).cloned();
        let (provider, model) = known.unzip();
        let (_, series) = self.leaf(tier, provider.as_ref(), model.as_ref());
        series.count(&Tally { attempts: 1, ..Tally::default() });
    }

    /// Records a retry at the same tier.
    pub(super) fn record_retry(&mut self, tier: Option<&Arc<str>>, kind: ErrorKind) {
        let tier = self.tiers.name(tier);
        let new = || self.registry.counter(&table::RETRIES, [self.tiers.text(tier), kind.name().into()]);
        self.retries.entry((tier, kind)).or_insert_with(new).increment(1);
    }

    /// Records a call that failed after this time.
    pub(super) fn record_broken(&mut self, leaf: Leaf, kind: ErrorKind, took: Duration) {
        let (failures, duration) = self.failures.entry((leaf, kind)).or_insert_with(|| {
            let texts = [self.tiers.text(leaf.tier), self.providers.text(leaf.provider), self.models.text(leaf.model)];
            let duration = operation(&self.registry, &texts, kind.name());
            let [tier, provider, model] = texts;
            (self.registry.counter(&table::FAILURES, [tier, provider, model, kind.name().into()]), duration)
        });
        failures.increment(1);
        duration.record(took);
    }

    /// Returns the provider and model last seen at a tier.
    pub(super) fn last_seen(&self, tier: Name) -> Option<(&Arc<str>, &Arc<str>)> {
        self.last_seen.get(&tier).map(|(provider, model)| (provider, model))
    }
}

impl Series {
    fn new(registry: &Registry, texts: [SharedString; 3]) -> Self {
        let [tier, provider, model] = &texts;
        let conventional = conventional(provider);
        let usage = |of: &'static str| {
            let labels = [CHAT.into(), conventional.clone(), model.clone(), of.into(), tier.clone()];
            registry.histogram(&table::TOKEN_USAGE, labels)
        };
        let tokens = |of: &'static str| {
            registry.counter(&table::TOKENS, [tier.clone(), provider.clone(), model.clone(), of.into()])
        };
        Self {
            attempts: registry.counter(&table::ATTEMPTS, texts.clone()),
            duration: operation(registry, &texts, ""),
            first_chunk: registry.histogram(
                &table::TIME_TO_FIRST_CHUNK,
                [CHAT.into(), conventional.clone(), model.clone(), tier.clone()],
            ),
            degraded: registry.counter(&table::DEGRADED, [tier.clone()]),
            usage: ["input", "output"].map(usage),
            tokens: ["input", "output", "cache_read", "cache_write", "reasoning"].map(tokens),
            cost: registry.counter(&table::COST, texts.clone()),
        }
    }

    /// Records a call that answered, or began to. The tally collects its counts.
    pub(super) fn record_served(&self, request: &RequestEnded, tally: &mut Tally) {
        tally.attempts += 1;
        if request.stream {
            self.first_chunk.record(request.served_in);
        }
        if request.degraded.is_some() {
            self.degraded.increment(1);
        }
        if let Some(usage) = &request.usage {
            self.record_usage(usage, tally);
        }
        if let Some(cost) = request.cost {
            tally.cost = tally.cost.saturating_add(cost.nanos());
        }
    }

    fn record_usage(&self, usage: &Usage, tally: &mut Tally) {
        self.usage[0].record(usage.input as f64);
        self.usage[1].record(usage.output as f64);
        let amounts = [usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning];
        for (sum, amount) in tally.tokens.iter_mut().zip(amounts) {
            *sum = sum.saturating_add(amount);
        }
    }

    /// Adds a tally to the counters.
    pub(super) fn count(&self, tally: &Tally) {
        let amounts = self.tokens.iter().zip(tally.tokens);
        for (counter, amount) in amounts.chain([(&self.attempts, tally.attempts), (&self.cost, tally.cost)]) {
            if amount > 0 {
                counter.increment(amount);
            }
        }
    }
}

/// Counts that calls of one leaf have yet to add to its counters. An atomic addition for each call and counter would
/// cost more than all other recording of the call.
#[derive(Debug, Default)]
pub(super) struct Tally {
    attempts: u64,
    tokens: [u64; 5],
    /// In billionths of a dollar.
    cost: u64,
}

fn refusals(registry: &Registry, tiers: &Names, (tier, kind): (Name, ErrorKind)) -> Counter {
    registry.counter(&table::REFUSALS, [tiers.text(tier), kind.name().into()])
}

fn operation(registry: &Registry, texts: &[SharedString; 3], error: &'static str) -> Histogram {
    let [tier, provider, model] = texts;
    let labels = [CHAT.into(), conventional(provider), model.clone(), error.into(), tier.clone()];
    registry.histogram(&table::OPERATION_DURATION, labels)
}

/// Returns a provider's name in the conventions.
fn conventional(provider: &SharedString) -> SharedString {
    conventions::provider(provider).map_or_else(|| provider.clone(), Into::into)
}

/// The conventions' word for all calls here.
const CHAT: &str = "chat";
/// More than any configuration has.
const MOST_TIERS: u16 = 64;
/// The caller chooses the model where a leaf has none of its own.
const MOST_MODELS: u16 = 64;
