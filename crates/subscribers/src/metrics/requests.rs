//! Metrics of requests.

use std::{
    fmt,
    mem::{Discriminant, discriminant},
    sync::Arc,
};

use metrics::{Counter, Histogram};

use super::{
    leaves::{Leaves, Tally},
    series::{Name, Names, Registry, SeriesOf},
    success::{self, RefusalSeries, Success, SuccessSeries, TierSwitch},
    table,
    teams::Teams,
};
use steadfast::{
    CacheReason, ErrorKind,
    chat::Usage,
    events::{CachedAnswer, RequestEnded, RequestOutcome},
    ledger::{Attempt, Next},
    prices::{PriceTable, Usd},
};

/// The series of all requests.
pub(super) struct Requests {
    registry: Registry,
    features: Names,
    routes: Names,
    leaves: Leaves,
    teams: Teams,
    /// The series of requests that succeed, by their labels.
    successes: Vec<Success>,
    prices: PriceTable,
    outcomes: SeriesOf<(Name, Discriminant<RequestOutcome>), Counter>,
    errors: SeriesOf<(Name, ErrorKind), Counter>,
    durations: SeriesOf<(Name, Discriminant<RequestOutcome>), Histogram>,
    first_tokens: SeriesOf<Name, Histogram>,
    rescued: SeriesOf<(Name, Rescue, bool), Counter>,
    truncated: SeriesOf<(Name, ErrorKind), Counter>,
    exhausted: SeriesOf<(Name, ErrorKind), Counter>,
    cost_deltas: SeriesOf<Name, (Counter, Counter)>,
    savings: SeriesOf<Name, Counter>,
    cached: SeriesOf<(Name, Discriminant<CacheReason>), Counter>,
    cache_savings: SeriesOf<Name, Counter>,
}

impl Requests {
    pub(super) fn new(registry: Registry, features: u16) -> Self {
        Self {
            leaves: Leaves::new(registry.clone()),
            teams: Teams::new(registry.clone()),
            successes: Vec::new(),
            registry,
            features: Names::new(features),
            routes: Names::new(MOST_ROUTES),
            prices: PriceTable::builtin(),
            outcomes: SeriesOf::default(),
            errors: SeriesOf::default(),
            durations: SeriesOf::default(),
            first_tokens: SeriesOf::default(),
            rescued: SeriesOf::default(),
            truncated: SeriesOf::default(),
            exhausted: SeriesOf::default(),
            cost_deltas: SeriesOf::default(),
            savings: SeriesOf::default(),
            cached: SeriesOf::default(),
            cache_savings: SeriesOf::default(),
        }
    }

    pub(super) fn set_prices(&mut self, prices: PriceTable) {
        self.prices = prices;
    }

    pub(super) fn set_feature_limit(&mut self, limit: u16) {
        self.features = Names::new(limit);
    }

    /// Records a request that ended. From the second request of a kind on this allocates nothing, and a success takes
    /// one lookup. Counters of successes lag behind until [`flush`](Self::flush).
    #[inline]
    pub(super) fn record(&mut self, request: &RequestEnded) {
        if request.possible_repeat {
            self.record_possible_repeat(request);
        }
        if let Some(cost) = request.cost
            && let Some(team) = request.caller.as_ref().and_then(|caller| caller.team.as_ref())
        {
            self.teams.record(team, cost, request);
        }
        let Some(refusal) = success::prior_refusal(request) else { return self.count(request) };
        if let Some(success) = self.successes.iter_mut().find(|success| success.matches(request, refusal)) {
            let switched = success.record(request);
            if let (Some(switched), Some(refusal)) = (switched, refusal) {
                self.record_cost_delta(request, refusal, switched);
            }
            return;
        }
        self.record_first(request, refusal);
    }

    #[cold]
    fn record_possible_repeat(&mut self, request: &RequestEnded) {
        let feature = self.features.name(request.feature.as_ref());
        self.registry.counter(&table::POSSIBLE_REPEATS, [self.features.text(feature)]).increment(1);
    }

    /// Records the first request of its kind.
    #[cold]
    fn record_first(&mut self, request: &RequestEnded, refusal: Option<&Attempt>) {
        self.count(request);
        if self.successes.len() < MAX_SUCCESSES {
            let series = self.success_series(request, refusal);
            self.successes.push(Success::new(request, refusal, series));
        }
    }

    /// Adds the pending counts to the counters.
    pub(super) fn flush(&mut self) {
        self.successes.iter_mut().for_each(Success::flush);
    }

    /// Returns the series of a successful request. All of them exist already.
    fn success_series(&mut self, request: &RequestEnded, refusal: Option<&Attempt>) -> SuccessSeries {
        let feature = self.features.name(request.feature.as_ref());
        let feature = self.features.text(feature);
        let (leaf, series) = self.leaves.leaf(request.tier.as_ref(), request.provider.as_ref(), request.model.as_ref());
        let (leaf_series, tier) = (series.clone(), self.leaves.tier_text(leaf.tier));
        let ending = request.outcome.name();
        let refusal = refusal.and_then(|step| Some((self.leaves.tier(step.tier.as_ref()), step.failure?)));
        let refusal = refusal.map(|(first_tier, kind)| RefusalSeries {
            refusals: self.leaves.refusals(first_tier, kind),
            rescued: rescued(&self.registry, &self.leaves, (leaf.tier, Rescue::Fallback, request.stream)),
            tiers: TierSwitch { first_tier, served: leaf.tier },
        });
        let first_token = || self.registry.histogram(&table::FIRST_TOKEN, [tier.clone()]);
        SuccessSeries {
            requests: self.registry.counter(&table::REQUESTS, [feature, ending.into()]),
            first_token: request.stream.then(first_token),
            duration: self.registry.histogram(&table::REQUEST_DURATION, [tier.clone(), ending.into()]),
            leaf: leaf_series,
            refusal,
        }
    }

    #[inline(never)]
    fn count(&mut self, request: &RequestEnded) {
        let (ending, error) = (request.outcome.name(), request.outcome.kind());
        let how = discriminant(&request.outcome);
        let feature = self.features.name(request.feature.as_ref());
        let count = || self.registry.counter(&table::REQUESTS, [self.features.text(feature), ending.into()]);
        self.outcomes.entry((feature, how)).or_insert_with(count).increment(1);
        if let Some(kind) = error {
            let count =
                || self.registry.counter(&table::REQUEST_ERRORS, [self.features.text(feature), kind.name().into()]);
            self.errors.entry((feature, kind)).or_insert_with(count).increment(1);
        }

        let tier = self.leaves.tier(request.tier.as_ref());
        let time = || {
            let labels = [self.leaves.tier_text(tier), ending.into()];
            self.registry.histogram(&table::REQUEST_DURATION, labels)
        };
        self.durations.entry((tier, how)).or_insert_with(time).record(request.took);

        let served = request.is_served();
        if served {
            self.record_served(request, tier);
        }
        if let Some(failures) = &request.failures {
            self.record_failures(request, failures, served.then_some(tier));
        }
        if let Some(route) = &request.route {
            self.record_saving(request, route);
        }
        if let Some(cached) = &request.cached {
            self.record_cached(cached, feature);
        }
    }

    /// Records a cached answer.
    fn record_cached(&mut self, CachedAnswer { why, saved, .. }: &CachedAnswer, feature: Name) {
        let count = || self.registry.counter(&table::CACHED_ANSWERS, [self.features.text(feature), why.name().into()]);
        self.cached.entry((feature, discriminant(why))).or_insert_with(count).increment(1);
        let Some(saved) = saved else { return };
        let count = || self.registry.counter(&table::CACHE_SAVED_COST, [self.features.text(feature)]);
        self.cache_savings.entry(feature).or_insert_with(count).increment(saved.nanos());
    }

    /// Records the attempt that served.
    fn record_served(&mut self, request: &RequestEnded, tier: Name) {
        let (leaf, series) = self.leaves.leaf(request.tier.as_ref(), request.provider.as_ref(), request.model.as_ref());
        let mut tally = Tally::default();
        series.record_served(request, &mut tally);
        series.count(&tally);
        let took = request.took_there();
        match request.outcome {
            RequestOutcome::Broken(kind) => {
                self.leaves.record_broken(leaf, kind, took);
                let count =
                    || self.registry.counter(&table::TRUNCATED, [self.leaves.tier_text(tier), kind.name().into()]);
                self.truncated.entry((tier, kind)).or_insert_with(count).increment(1);
            }
            _ => series.duration.record(took),
        }
        if request.stream {
            let time = || self.registry.histogram(&table::FIRST_TOKEN, [self.leaves.tier_text(tier)]);
            self.first_tokens.entry(tier).or_insert_with(time).record(request.first_token);
        }
    }

    fn record_failures(&mut self, request: &RequestEnded, steps: &[Attempt], served_by: Option<Name>) {
        for step in steps.iter().filter(|step| step.next == Next::Cancelled) {
            self.leaves.record_cancelled(step.tier.as_ref());
        }
        let mut failed = steps.iter().filter_map(|step| Some((step, step.failure?))).peekable();
        let mut by = None;
        let first = failed.peek().map(|(step, _)| *step);
        for (step, kind) in failed {
            self.leaves.record_failed(step, kind, served_by);
            if matches!(step.next, Next::Retried { .. } | Next::AskedAgain) {
                self.leaves.record_retry(step.tier.as_ref(), kind);
            }
            if step.next != Next::Skipped {
                by = by.max(Some(if step.tier == request.tier { Rescue::Retry } else { Rescue::Fallback }));
            }
        }
        let Some(tier) = served_by else { return };
        if let (Some(by), RequestOutcome::Answered) = (by, request.outcome) {
            let key = (tier, by, request.stream);
            let count = || rescued(&self.registry, &self.leaves, key);
            self.rescued.entry(key).or_insert_with(count).increment(1);
        }
        if let Some(first) = first.filter(|first| first.tier != request.tier) {
            let first_tier = self.leaves.tier(first.tier.as_ref());
            self.record_cost_delta(request, first, TierSwitch { first_tier, served: tier });
        }
    }

    /// Records the cost that the same tokens would have had at the first tier.
    fn record_cost_delta(
        &mut self,
        request: &RequestEnded,
        first: &Attempt,
        TierSwitch { first_tier, served }: TierSwitch,
    ) {
        let (Some(cost), Some(usage)) = (request.cost, &request.usage) else { return };
        let there = match (&first.provider, &first.model) {
            (Some(provider), Some(model)) => Some((provider, model)),
            _ => self.leaves.last_seen(first_tier),
        };
        let Some(there) = there.and_then(|leaf| self.price(leaf, usage)) else { return };
        let (extra, saved) = self.cost_deltas.entry(served).or_insert_with(|| {
            let tier = self.leaves.tier_text(served);
            let extra = self.registry.counter(&table::FALLBACK_EXTRA_COST, [tier.clone()]);
            (extra, self.registry.counter(&table::FALLBACK_SAVED_COST, [tier]))
        });
        extra.increment(cost.saturating_sub(there).nanos());
        saved.increment(there.saturating_sub(cost).nanos());
    }

    fn price(&self, (provider, model): (&Arc<str>, &Arc<str>), usage: &Usage) -> Option<Usd> {
        self.prices.cost(Some(provider), model, usage)
    }

    /// Records the saving of a rule that sent the request to a cheaper chain.
    fn record_saving(&mut self, request: &RequestEnded, route: &Arc<str>) {
        let (Some(cost), Some(there)) = (request.cost, request.cost_without_route) else { return };
        let route = self.routes.name(Some(route));
        let count = || self.registry.counter(&table::ROUTE_SAVED_COST, [self.routes.text(route)]);
        self.savings.entry(route).or_insert_with(count).increment(there.saturating_sub(cost).nanos());
    }

    /// Records a request that every tier failed.
    pub(super) fn record_all_failed(&mut self, feature: Option<&Arc<str>>, kind: ErrorKind) {
        let feature = self.features.name(feature);
        let count =
            || self.registry.counter(&table::ALL_TIERS_FAILED, [self.features.text(feature), kind.name().into()]);
        self.exhausted.entry((feature, kind)).or_insert_with(count).increment(1);
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("features", &self.features)
            .field("leaves", &self.leaves)
            .finish_non_exhaustive()
    }
}

fn rescued(registry: &Registry, leaves: &Leaves, (tier, by, stream): (Name, Rescue, bool)) -> Counter {
    let stream = if stream { "true" } else { "false" };
    registry.counter(&table::RESCUED, [leaves.tier_text(tier), by.name().into(), stream.into()])
}

/// The step that rescued a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Rescue {
    Retry,
    Fallback,
}

impl Rescue {
    fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Fallback => "fallback",
        }
    }
}

const MOST_ROUTES: u16 = 64;
/// The largest number of entries for which a linear search is faster than the long way.
const MAX_SUCCESSES: usize = 32;
