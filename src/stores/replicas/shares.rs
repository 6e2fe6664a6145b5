use std::sync::Arc;

use tokio::time::Instant;

use crate::{BulkheadHandle, CircuitBreakerHandle, RetryBudget, layers::bulkhead::SharedRate};

/// What a replica shares: its circuits, the rates of its features, its retry budgets.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    pub(super) circuits: Vec<(Arc<str>, CircuitBreakerHandle)>,
    pub(super) counters: Vec<(Arc<str>, Counter)>,
}

/// What is counted here, and what others' counts are charged to.
#[derive(Clone, Debug)]
pub(super) enum Counter {
    Rate(SharedRate),
    /// What first tries have put into a retry budget.
    Put(RetryBudget),
    /// What retries have taken out of it.
    Taken(RetryBudget),
}

impl Shares {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a circuit. The name says what it stands around, such as the provider, the model and the address: replicas in
    /// which it is the same share it.
    #[must_use]
    pub fn circuit(mut self, name: impl Into<Arc<str>>, circuit: CircuitBreakerHandle) -> Self {
        self.circuits.push((name.into(), circuit));
        self
    }

    /// With the rates of a bulkhead's features, where they have any. How many requests are in flight is each replica's own
    /// matter.
    #[must_use]
    pub fn rates(mut self, bulkhead: &BulkheadHandle) -> Self {
        let rates = bulkhead.shared_rates().into_iter();
        self.counters.extend(rates.map(|(name, rate)| (name, Counter::Rate(rate))));
        self
    }

    /// With a retry budget: the name says whose. One without limit is not shared.
    #[must_use]
    pub fn retry_budget(mut self, name: &str, budget: &RetryBudget) -> Self {
        if let Some(terms) = budget.terms() {
            let named = |what| format!("retries {name} {terms} {what}").into();
            self.counters.push((named("put"), Counter::Put(budget.clone())));
            self.counters.push((named("taken"), Counter::Taken(budget.clone())));
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.circuits.is_empty() && self.counters.is_empty()
    }
}

impl Counter {
    /// What was counted here so far.
    pub(super) fn total(&self) -> i64 {
        match self {
            Self::Rate(rate) => rate.used(),
            Self::Put(budget) => budget.totals().0,
            Self::Taken(budget) => budget.totals().1,
        }
    }

    /// Charges what others have counted.
    pub(super) fn charge(&self, now: Instant, others: i64) {
        match self {
            _ if others == 0 => {}
            Self::Rate(rate) => rate.charge(now, others),
            Self::Put(budget) => budget.reckon(others, 0),
            Self::Taken(budget) => budget.reckon(0, others),
        }
    }

    /// Whether both count for the same.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rate(one), Self::Rate(other)) => one.is_of(other),
            (Self::Put(one), Self::Put(other)) | (Self::Taken(one), Self::Taken(other)) => one.is(other),
            _ => false,
        }
    }
}
