use std::sync::Arc;

use super::{circuit::NamedCircuit, keyed::Keyed};
use crate::{
    Events, LlmError, LlmRequest, body::admission::Permit, internal::sharded::ShardedArc, layers::caller::caller,
};

/// The state that the services and handles of one layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) circuits: Circuits,
    /// The channel of its events.
    pub(super) events: Events,
}

#[derive(Debug)]
pub(super) enum Circuits {
    One(ShardedArc<NamedCircuit>),
    Keyed(Keyed),
}

impl Shared {
    /// Keeps the orders by hand that handles have given before.
    pub(super) fn keep_orders(&self, before: &Self) {
        match (&self.circuits, &before.circuits) {
            (Circuits::One(circuit), Circuits::One(before)) => {
                circuit.value().machine.keep_order(&before.value().machine)
            }
            (Circuits::Keyed(keyed), Circuits::Keyed(before)) => keyed.keep_orders(before),
            // Other circuits than those that an order was for.
            (Circuits::One(_), Circuits::Keyed(_)) | (Circuits::Keyed(_), Circuits::One(_)) => {}
        }
    }

    /// Returns a permit on the healthy path: circuit closed, no throttle, no storm suspected.
    #[inline(always)]
    pub(super) fn free_permit(&self, request: &LlmRequest) -> Option<Permit> {
        match &self.circuits {
            Circuits::One(sharded) => {
                sharded.free_ticket(caller(request)).map(|ticket| Permit::new(sharded.shard(), ticket))
            }
            Circuits::Keyed(_) => None,
        }
    }

    /// Returns a permit in any state, or the refusal.
    pub(super) fn admit(&self, request: &mut LlmRequest) -> Result<Permit, LlmError> {
        match &self.circuits {
            // It has given no free permit a moment ago.
            Circuits::One(sharded) => sharded.value().admit_with_care(request),
            Circuits::Keyed(keyed) => admit(&keyed.of(request), request),
        }
    }
}

fn admit(circuit: &Arc<NamedCircuit>, request: &mut LlmRequest) -> Result<Permit, LlmError> {
    if let Some(ticket) = circuit.free_ticket(caller(request)) {
        return Ok(Permit::new(circuit.clone(), ticket));
    }
    circuit.admit_with_care(request)
}
