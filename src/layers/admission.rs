//! Admission: a place that was taken, and the one way to give it back.

use std::{fmt, num::NonZeroU64, sync::Arc};

use super::estimate;
use crate::{LlmError, body::Delivered, chat::Usage};

/// How the work ended that a [`Permit`] was given for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    /// The answer is whole.
    Answered,
    /// The call failed, or its stream broke.
    Failed(&'a LlmError),
    /// The caller left before the end.
    Dropped,
}

/// What is known of an answer that has ended, whole or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SoFar<'a> {
    /// The tokens that it has told, those of answers that broke before it began anew included.
    pub(crate) usage: Option<&'a Usage>,
    /// What its reader has had.
    pub(crate) delivered: Delivered,
    /// The tokens that it has told, or what came of it where that is more.
    pub(crate) at_least: Usage,
    /// How many answers, of those that broke and this one, have told nothing of their prompt.
    pub(crate) prompts: u32,
}

impl<'a> SoFar<'a> {
    /// An answer that is whole: so many bytes, where it tells no tokens.
    pub(crate) fn whole(usage: Option<&'a Usage>, said: impl FnOnce() -> u64) -> Self {
        let at_least = usage.copied().unwrap_or_else(|| Usage::new(0, estimate::said(said())));
        Self { usage, at_least, prompts: usage.is_none().into(), ..Self::default() }
    }

    /// The tokens that count: what the provider has told, and of what it has told nothing of, at least the prompt, which is
    /// about so long, and what was delivered. Whoever leaves early has had that.
    pub(crate) fn used(&self, prompt: u32) -> Usage {
        let untold = u64::from(self.prompts) * u64::from(prompt);
        Usage { input: self.at_least.input.saturating_add(untold), ..self.at_least }
    }
}

/// What a gate wrote on a permit when it admitted the call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticket {
    /// The gate's state at that time: an outcome of an older one is late.
    pub(crate) generation: u32,
    /// The tokens that the gate has charged ahead of the answer, where it counts them.
    pub(crate) reserved: u32,
    /// When the call was admitted, on the gate's own clock, where it goes by that.
    pub(crate) begun: Option<NonZeroU64>,
    /// What becomes of the charge.
    pub(crate) charge: Charge,
    /// The tokens of the prompt, about: they count where the provider does not tell them.
    pub(crate) prompt: u32,
}

/// What becomes of what a gate has charged when the call is over.
// It leaves no gap with what stands beside it: a ticket with one is copied piece by piece wherever it moves.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Charge {
    #[default]
    Stays,
    /// The gate takes it back: the provider has seen nothing of the call.
    Returns,
}

/// Something that admits calls and hears of each how it ended: a breaker, a bulkhead, a gauge.
pub(crate) trait Gate: Send + Sync {
    /// Takes the place back. Called exactly once for each permit, from wherever it ends: must not block, and must
    /// not call foreign code under a lock.
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>);

    /// The same with what is known of the answer, whole or not. For gates that count tokens or money, or tell of them: only
    /// they ask for it, since to work it out costs more than most gates do.
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, _so_far: &dyn Fn() -> SoFar<'a>) {
        self.settle(ticket, outcome);
    }

    /// The answer's first token is there. Called only where the ticket says when the call was admitted.
    fn begins(&self, _ticket: &mut Ticket) {}

    /// What the failure of a call really is, once it is settled.
    fn unmask(&self, _error: &mut LlmError) {}
}

/// A place that a gate gave. Taken synchronously at `call`, it is owned by the future and then by the body; dropping
/// it is giving it back. The default is no place.
#[derive(Default)]
pub(crate) struct Permit {
    gate: Option<Arc<dyn Gate>>,
    ticket: Ticket,
}

impl Permit {
    /// A place at `gate`, which has counted it already.
    #[inline]
    pub(crate) fn new(gate: Arc<dyn Gate>, ticket: Ticket) -> Self {
        Self { gate: Some(gate), ticket }
    }

    /// What the gate wrote, to change it before the permit moves on into a body.
    #[inline]
    pub(crate) fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }

    /// Whether there is a place to give back.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.gate.is_some()
    }

    /// The answer begins.
    #[inline]
    pub(crate) fn begins(&mut self) {
        if let (Some(_), Some(gate)) = (self.ticket.begun, &self.gate) {
            gate.begins(&mut self.ticket);
        }
    }

    /// Gives the place of a call back that has failed. The gate may know better what it is.
    #[cold]
    pub(crate) fn fail(&mut self, error: &mut LlmError) {
        if let Some(gate) = self.gate.take() {
            gate.settle(&self.ticket, Outcome::Failed(error));
            gate.unmask(error);
        }
    }

    /// Gives the place back and says how the work ended; the first time, and then no more.
    #[inline]
    pub(crate) fn settle(&mut self, outcome: Outcome<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.settle(&self.ticket, outcome);
        }
    }

    /// The same with what is known of the answer, whole or not.
    #[inline]
    pub(crate) fn settle_with<'a>(&mut self, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        if let Some(gate) = self.gate.take() {
            gate.settle_with(&self.ticket, outcome, so_far);
        }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if self.is_held() {
            leave(Self { gate: self.gate.take(), ticket: self.ticket });
        }
    }
}

// By value: a permit whose address is given away is kept in memory, and copied wherever it moves.
#[cold]
#[inline(never)]
fn leave(mut permit: Permit) {
    permit.settle(Outcome::Dropped);
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ErrorKind;

    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);

    impl Gate for Heard {
        fn settle(&self, _: &Ticket, outcome: Outcome<'_>) {
            self.0.lock().unwrap().push(match outcome {
                Outcome::Answered => "answered",
                Outcome::Failed(_) => "failed",
                Outcome::Dropped => "dropped",
            });
        }
    }

    #[test]
    fn each_permit_is_settled_exactly_once() {
        let gate = Arc::new(Heard::default());
        let permit = || Permit::new(gate.clone(), Ticket::default());
        permit().settle(Outcome::Answered);
        permit().settle(Outcome::Failed(&LlmError::new(ErrorKind::Server, "")));
        drop(permit());
        assert_eq!(*gate.0.lock().unwrap(), ["answered", "failed", "dropped"]);
    }
}
