use std::sync::Arc;

use tokio::time::Instant;

use steadfast::{BulkheadHandle, CircuitBreakerHandle, RetryBudget, layers::bulkhead::SharedRate};

/// A replica's shared state: its circuits, the rates of its features, its retry budgets.
#[derive(Clone, Debug, Default)]
pub struct SharedState {
    pub(super) circuits: Vec<(Arc<str>, CircuitBreakerHandle)>,
    pub(super) counters: Vec<(Arc<str>, Counter)>,
}

/// A local count, to which others' counts are charged.
#[derive(Clone, Debug)]
pub(super) enum Counter {
    Rate(SharedRate),
    /// The deposits of first tries into a retry budget.
    Deposits(RetryBudget),
    /// The withdrawals of retries from it.
    Withdrawals(RetryBudget),
}

impl SharedState {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a circuit. Its name identifies what it protects, such as the provider, the model and the address: replicas
    /// with the same name share it.
    #[must_use]
    pub fn circuit(mut self, name: impl Into<Arc<str>>, circuit: CircuitBreakerHandle) -> Self {
        self.circuits.push((name.into(), circuit));
        self
    }

    /// Adds the rates of a bulkhead's features, if they have any. The number of requests in flight is each replica's
    /// own.
    #[must_use]
    pub fn rates(mut self, bulkhead: &BulkheadHandle) -> Self {
        let rates = bulkhead.shared_rates().into_iter();
        self.counters.extend(rates.map(|(name, rate)| (name, Counter::Rate(rate))));
        self
    }

    /// Adds a retry budget under its owner's name. One without a limit is not shared.
    #[must_use]
    pub fn retry_budget(mut self, name: &str, budget: &RetryBudget) -> Self {
        if let Some(terms) = budget.terms() {
            let named = |what| format!("retries {name} {terms} {what}").into();
            self.counters.push((named("put"), Counter::Deposits(budget.clone())));
            self.counters.push((named("taken"), Counter::Withdrawals(budget.clone())));
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.circuits.is_empty() && self.counters.is_empty()
    }
}

impl Counter {
    /// Returns the local count so far.
    pub(super) fn total(&self) -> i64 {
        match self {
            Self::Rate(rate) => rate.used(),
            Self::Deposits(budget) => budget.totals().0,
            Self::Withdrawals(budget) => budget.totals().1,
        }
    }

    /// Charges the counts of others.
    pub(super) fn charge(&self, now: Instant, others: i64) {
        match self {
            _ if others == 0 => {}
            Self::Rate(rate) => rate.charge(now, others as f64),
            Self::Deposits(budget) => budget.reckon(others, 0),
            Self::Withdrawals(budget) => budget.reckon(0, others),
        }
    }

    /// Returns whether both count for the same budget or rate.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rate(one), Self::Rate(other)) => one.is_of(other),
            (Self::Deposits(one), Self::Deposits(other)) | (Self::Withdrawals(one), Self::Withdrawals(other)) => {
                one.is(other)
            }
            _ => false,
        }
    }
}
