//! The way of a request whose answer broke, to a call that goes on with it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::failover::{Failover, Step};
use crate::{
    ErrorKind, LlmError, LlmRequest,
    layers::{call::BoxedCall, fallback::choose::Chain},
    models::snapshot::is_same,
    request::GoOn,
};

/// The ways in which calls can go on with an answer to a request.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    by_instruction: bool,
}

impl Failover {
    /// Leaves the current tier for the next one, in a body. Returns the error that ends the body, reported, if there is
    /// none.
    pub(super) fn leave_for_body(&mut self, error: LlmError) -> Result<(), LlmError> {
        match self.failed(error) {
            Step::Ask => Ok(()),
            Step::GiveUp(error) => {
                self.report_all_failed(&error);
                Err(error)
            }
        }
    }

    /// Calls the current tier from a body, which does not hold the primary.
    pub(super) fn call_for_body(&self, request: LlmRequest) -> BoxedCall {
        let again = self.plan.config().primary_again.as_deref();
        let tier = self.tier().or(again).expect("a primary that is not at hand is passed by");
        BoxedCall::elsewhere(tier.fresh(), request)
    }

    /// Returns the ways in which a call can go on with an answer to the request; `None` if none can.
    pub(super) fn ways_to_go_on(&self) -> Option<Ways> {
        let stands = |way| self.whole_request().begun_answer_stands(way).is_none();
        let by_instruction = self.plan.terms.goes_on_by_instruction();
        stands(GoOn::Prefill).then(|| Ways { by_instruction: by_instruction && stands(GoOn::Instruction) })
    }

    /// Plans the way after the first break: the tiers of the same model, then those of other models, then the one that
    /// broke, once more. One with several deployments comes first.
    pub(super) fn plan_to_go_on(&mut self, ways: Ways) {
        let at = self.at();
        let model = |tier: usize| self.plan.config().settings(tier).model.as_deref();
        let is_same = |tier: usize| model(at).zip(model(tier)).is_some_and(|(one, other)| is_same(one, other));
        let can = |tier: &usize| self.way_to_go_on(*tier, ways).is_some();
        let (same, others): (Vec<usize>, Vec<usize>) =
            self.plan.tiers().filter(|tier| *tier != at).filter(can).partition(|tier| is_same(*tier));
        let again = Some(at).filter(can);
        // A session that is pinned has seen the beginning of this tier's answer.
        let order: Arc<[usize]> = match self.plan.chain {
            Chain::Pinned(_) => again.into_iter().collect(),
            _ if self.plan.config().settings(at).is_spread => again.into_iter().chain(same).chain(others).collect(),
            _ => same.into_iter().chain(others).chain(again).collect(),
        };
        self.plan.chain = Chain::Listed(order);
        (self.revisits, self.goes_on) = (again, true);
        // The first tier has answered the request: the rest of its answer is no switch.
        self.plan.first = None;
    }

    /// Returns the error of a request with whose answer no further call goes on.
    pub(super) fn give_up_to_go_on(&mut self, error: LlmError) -> LlmError {
        self.plan.chain = Chain::Listed(Arc::default());
        match self.failed(error) {
            Step::GiveUp(error) => error,
            Step::Ask => unreachable!("there is no tier"),
        }
    }

    /// Returns the way in which a tier can go on with an answer.
    fn way_to_go_on(&self, tier: usize, ways: Ways) -> Option<GoOn> {
        let facts = self.plan.config().facts(tier);
        if !facts.asks_a_model() {
            return None;
        }
        if facts.settings.goes_on && !self.plan.shared.refuses_to_go_on[tier].load(Relaxed) {
            return Some(GoOn::Prefill);
        }
        ways.by_instruction.then_some(GoOn::Instruction)
    }

    /// Takes the failure of a call that was to go on. A model that refuses a begun answer is asked for none again; that
    /// is no mistake of the caller's, nor a failure of the tier.
    pub(super) fn refused_to_go_on(&self, mut error: LlmError) -> LlmError {
        if error.kind() != ErrorKind::InvalidRequest {
            return error;
        }
        let said = error.message().to_ascii_lowercase();
        if said.contains("prefill") || said.contains("must end with") && said.contains("user") {
            self.plan.shared.refuses_to_go_on[self.at()].store(true, Relaxed);
        }
        error.evidence().into_iter().for_each(|evidence| evidence.withdraw());
        let (attempts, (provider, model)) = (error.take_attempts(), error.names());
        let mut refused = LlmError::new(ErrorKind::UnsupportedFeature, error.message().to_owned());
        refused.set_attempts(attempts);
        match provider {
            Some(provider) => refused.or_model(&provider, model.as_ref()),
            None => refused,
        }
    }

    /// Calls the current tier to go on with this text, as the `hop`th call that does.
    pub(super) fn ask_to_go_on(&mut self, text: &str, ways: Ways, hop: u16) -> (GoOn, BoxedCall) {
        let way = self.way_to_go_on(self.at(), ways).unwrap_or(GoOn::Prefill);
        let call = match self.whole_request().going_on(text, way, hop) {
            Ok(request) => {
                let asked = std::mem::replace(&mut self.plan.request, request);
                let (request, _) = self.request();
                self.plan.request = asked;
                self.call_for_body(request)
            }
            Err(error) => BoxedCall::failed(error),
        };
        (way, call)
    }
}
