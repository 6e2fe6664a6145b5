//! The errors of calls in a storm: whose fault they are, and whether they are doubted.

use std::sync::{Arc, Weak};

use crate::{
    ErrorKind, LlmError,
    error::Evidence,
    layers::circuit_breaker::{circuit::NamedCircuit, state::Admission},
};

impl NamedCircuit {
    /// Turns a failure in a storm of invalid requests into a failure of the provider, so that other tiers are
    /// asked.
    ///
    /// Such a request was let through as a probe, or is the one that completed the storm. Without this its caller
    /// would get an error that is not their mistake.
    fn unmask_storm(&self, error: &mut LlmError) {
        if error.kind() != ErrorKind::InvalidRequest || !self.machine.is_in_storm() {
            return;
        }
        let message = format!("the provider suddenly calls most requests invalid (circuit {})", self.name);
        // A repeat here is useless: the circuit has just opened.
        let mut unmasked = LlmError::new(ErrorKind::Server, message).with_should_retry(false);
        if let Some(status) = error.status() {
            unmasked = unmasked.with_status(status);
        }
        if let (Some(provider), Some(model)) = error.names() {
            unmasked = unmasked.with_model(provider, model);
        }
        // The new kind changes nothing about the attempts further in: keep their record.
        unmasked.set_attempts(error.attempts().to_vec());
        let masked = error.clone();
        *error = unmasked.with_source(masked);
    }

    /// Corrects the kind of a settled failure, or marks it as doubted.
    pub(crate) fn unmask_or_doubt(&self, error: &mut LlmError, is_probe: bool) {
        self.unmask_storm(error);
        // A mistake that a provider reports just after being down is doubtful already.
        if error.kind() == ErrorKind::InvalidRequest && (is_probe || self.machine.doubts_the_invalid()) {
            error.doubt();
        }
    }

    /// Lets the evidence of a call that may be part of a storm be withdrawn by those who get its error.
    pub(crate) fn hold_evidence(self: &Arc<Self>, error: &mut LlmError, admission: Admission) {
        let is_suspect = admission.probe.is_some() || admission.suspect;
        if error.kind() == ErrorKind::InvalidRequest
            && is_suspect
            && let Some(prompt) = admission.prompt
        {
            let circuit = Arc::downgrade(self);
            error.hold(Arc::new(Mistake { circuit, fingerprint: prompt }));
        }
    }
}

/// A request that was called invalid.
struct Mistake {
    // A strong reference would look like a call under way.
    circuit: Weak<NamedCircuit>,
    fingerprint: u64,
}

impl Evidence for Mistake {
    fn withdraw(&self) {
        if let Some(circuit) = self.circuit.upgrade() {
            circuit.machine.withdraw(self.fingerprint);
        }
    }
}
