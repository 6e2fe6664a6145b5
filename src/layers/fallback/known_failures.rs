//! The order, the patience and the attempts of a request whose tiers have failed its caller a moment ago.

use tokio::time::Instant;

use super::{chain::Chain, progress::Plan, shared::Shared};
use crate::{
    ErrorKind, LlmRequest,
    layers::patience::{SHORT_WAIT, begins_soon},
    ledger::{self, Attempt, Next},
    request::KnownFailures,
};

impl Chain {
    /// Returns the tiers with those that have failed the request before behind the other models, and the steps that
    /// say so. A tier without a model stays behind them: it would keep them from being asked. A tier without calls left
    /// is no longer among them, while another model is.
    pub(super) fn after_failures(self, shared: &Shared, request: &LlmRequest) -> (Self, Vec<Attempt>) {
        let Some(known) = request.known_failures() else { return (self, Vec::new()) };
        if matches!(self, Self::Pinned(_)) || !request.goes_anywhere() {
            return (self, Vec::new());
        }
        let name = |tier: usize| shared.facts(tier).name();
        let is_model = |tier: usize| shared.facts(tier).asks_a_model();
        let is_spent = |tier: usize| is_model(tier) && known.calls_left(name(tier)) == Some(0);
        let has_another = self.iter(shared).any(|tier| is_model(tier) && !is_spent(tier));
        let mut order: Vec<usize> = self.iter(shared).filter(|tier| !(has_another && is_spent(*tier))).collect();
        let (failed, mut others): (Vec<usize>, Vec<usize>) =
            order.iter().copied().partition(|tier| is_model(*tier) && known.kind_at(name(*tier)).is_some());
        if let Some(last_model) = others.iter().rposition(|tier| is_model(*tier)) {
            others.splice(last_model + 1..last_model + 1, failed);
            order = others;
        }
        let passed = self.iter(shared).take_while(|tier| Some(tier) != order.first());
        let passed = passed.map(|tier| step(shared, tier, known)).collect();
        (Self::Listed(order.into()), passed)
    }
}

/// Returns the step of a tier that is asked later, or not at all.
fn step(shared: &Shared, tier: usize, known: &KnownFailures) -> Attempt {
    let name = shared.facts(tier).name();
    Attempt {
        failure: Some(known.kind_at(name).unwrap_or(ErrorKind::Exhausted)),
        message: match known.calls_left(name) {
            Some(0) => "has just failed the same request as often as it may be asked".into(),
            _ => "has just failed the same request or session; it is asked last".into(),
        },
        ..ledger::unfailed(name, Instant::now(), Next::Skipped)
    }
}

impl Plan {
    /// Returns the time limit of a tier begun now, while other models are left.
    pub(super) fn patience(&self, tier: usize, begun: Instant, limit: Option<Instant>) -> Option<Instant> {
        let Some(known) = self.request.known_failures() else { return limit };
        if !begins_soon(&self.request) || !known.is_silent(self.shared.facts(tier).name()) {
            return limit;
        }
        limit.into_iter().chain(begun.checked_add(SHORT_WAIT)).min()
    }

    /// Returns the failure of a tier of a better level than this one that is asked last for it.
    pub(super) fn known_failure(&self, level: u8) -> Option<ErrorKind> {
        let known = self.request.known_failures()?;
        let better = self.tiers().filter(|tier| self.shared.settings(*tier).level < level);
        better.filter_map(|tier| known.kind_at(self.shared.facts(tier).name())).next()
    }

    /// Returns the most attempts at a tier, of those that the request has left.
    pub(super) fn most_attempts(&self, tier: usize, left: u16) -> u16 {
        let known = self.request.known_failures();
        let most = known.and_then(|known| known.calls_left(self.shared.facts(tier).name()));
        most.map_or(left, |most| left.min(most.max(1)))
    }
}
