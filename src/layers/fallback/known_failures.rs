//! The order and the patience of a request whose tiers have failed its caller a moment ago.

use std::time::Duration;

use tokio::time::Instant;

use super::{chain::Chain, progress::Plan, shared::Shared};
use crate::{
    ErrorKind, LlmRequest,
    ledger::{self, Attempt, Next},
};

/// The longest wait for a tier that has left the same caller waiting before.
const PATIENCE: Duration = Duration::from_secs(10);

impl Chain {
    /// Returns the tiers with those that have failed the request before behind the other models, and the steps that
    /// say so. A tier without a model stays behind them: it would keep them from being asked.
    pub(super) fn after_failures(self, shared: &Shared, request: &LlmRequest) -> (Self, Vec<Attempt>) {
        let Some(known) = request.known_failures() else { return (self, Vec::new()) };
        if matches!(self, Self::Pinned(_)) || !request.goes_anywhere() {
            return (self, Vec::new());
        }
        let kind_at = |tier: &usize| known.kind_at(shared.facts(*tier).name());
        let is_model = |tier: &usize| shared.facts(*tier).asks_a_model();
        let (failed, mut order): (Vec<usize>, Vec<usize>) =
            self.iter(shared).partition(|tier| is_model(tier) && kind_at(tier).is_some());
        let Some(last_model) = order.iter().rposition(is_model) else { return (self, Vec::new()) };
        let first = self.iter(shared).position(|tier| Some(&tier) == order.first()).unwrap_or_default();
        let passed = self.iter(shared).take(first);
        let passed = passed.filter_map(|tier| Some(step(shared, tier, kind_at(&tier)?))).collect();
        order.splice(last_model + 1..last_model + 1, failed);
        (Self::Listed(order.into()), passed)
    }
}

/// Returns the step of a tier that is asked later.
fn step(shared: &Shared, tier: usize, kind: ErrorKind) -> Attempt {
    Attempt {
        failure: Some(kind),
        message: "has just failed the same request or session; it is asked last".into(),
        ..ledger::unfailed(shared.facts(tier).name(), Instant::now(), Next::Skipped)
    }
}

impl Plan {
    /// Returns the time limit of a tier begun now, while other models are left.
    pub(super) fn patience(&self, tier: usize, begun: Instant, limit: Option<Instant>) -> Option<Instant> {
        let Some(known) = self.request.known_failures() else { return limit };
        // The silence of a whole answer, or of thought, may be work.
        if !self.request.is_stream()
            || self.request.asks_to_reason()
            || !known.is_silent(self.shared.facts(tier).name())
        {
            return limit;
        }
        limit.into_iter().chain(begun.checked_add(PATIENCE)).min()
    }

    /// Returns the failure of a tier of a better level than this one that is asked last for it.
    pub(super) fn known_failure(&self, level: u8) -> Option<ErrorKind> {
        let known = self.request.known_failures()?;
        let better = self.tiers().filter(|tier| self.shared.settings(*tier).level < level);
        better.filter_map(|tier| known.kind_at(self.shared.facts(tier).name())).next()
    }
}
