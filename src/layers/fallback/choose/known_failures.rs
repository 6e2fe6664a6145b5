//! The order of the tiers for a request whose caller some of them have failed a moment ago.

use tokio::time::Instant;

use super::{chain::Chain, config::Config};
use crate::{
    ErrorKind, LlmRequest,
    ledger::{self, Attempt, Next},
    request::KnownFailures,
};

impl Chain {
    /// Returns the tiers with those that have failed the request before behind the other models, and the steps that
    /// say so. A tier without a model stays behind them: it would keep them from being asked. A tier without calls left
    /// is no longer among them, while another model is.
    pub(crate) fn after_failures(self, config: &Config, request: &LlmRequest) -> (Self, Vec<Attempt>) {
        let Some(known) = request.known_failures() else { return (self, Vec::new()) };
        if matches!(self, Self::Pinned(_)) || !request.goes_anywhere() {
            return (self, Vec::new());
        }
        let name = |tier: usize| config.facts(tier).name();
        let is_model = |tier: usize| config.facts(tier).asks_a_model();
        let is_spent = |tier: usize| is_model(tier) && known.calls_left(name(tier)) == Some(0);
        let has_another = self.iter(config.tiers()).any(|tier| is_model(tier) && !is_spent(tier));
        let mut order: Vec<usize> =
            self.iter(config.tiers()).filter(|tier| !(has_another && is_spent(*tier))).collect();
        let (failed, mut others): (Vec<usize>, Vec<usize>) =
            order.iter().copied().partition(|tier| is_model(*tier) && known.kind_at(name(*tier)).is_some());
        if let Some(last_model) = others.iter().rposition(|tier| is_model(*tier)) {
            others.splice(last_model + 1..last_model + 1, failed);
            order = others;
        }
        let passed = self.iter(config.tiers()).take_while(|tier| Some(tier) != order.first());
        let passed = passed.map(|tier| step(config, tier, known)).collect();
        (Self::Listed(order.into()), passed)
    }
}

/// Returns the step of a tier that is asked later, or not at all.
fn step(config: &Config, tier: usize, known: &KnownFailures) -> Attempt {
    let name = config.facts(tier).name();
    Attempt {
        failure: Some(known.kind_at(name).unwrap_or(ErrorKind::Exhausted)),
        message: match known.calls_left(name) {
            Some(0) => "has just failed the same request as often as it may be asked".into(),
            _ => "has just failed the same request or session; it is asked last".into(),
        },
        ..ledger::unfailed(name, Instant::now(), Next::Skipped)
    }
}
