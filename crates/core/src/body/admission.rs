//! Admission: a place that was taken, and the one way to give it back.

use std::{fmt, num::NonZeroU64, sync::Arc};

use super::Delivery;
use crate::{LlmError, chat::Usage, estimate, internal::sharded::Shard};

/// The end of the work for which a [`Permit`] was given.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The answer is whole.
    Answered,
    /// The call failed, or its stream broke.
    Failed(&'a LlmError),
    /// The caller left before the end.
    Dropped,
}

/// The facts about an answer that has ended, whole or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoFar<'a> {
    /// The tokens that the provider has reported, including those of answers that broke before it was restarted.
    pub usage: Option<&'a Usage>,
    /// The part that its reader has received.
    pub delivered: Delivery,
    /// The tokens that the provider has reported, or those of the text that came, if that is more.
    pub(crate) at_least: Usage,
    /// The number of answers, broken ones and this one, that have reported no tokens of their prompt.
    pub prompts: u32,
}

impl<'a> SoFar<'a> {
    /// Returns the facts about a whole answer: so many bytes, if no tokens were reported.
    pub fn whole(usage: Option<&'a Usage>, said: impl FnOnce() -> u64) -> Self {
        let at_least = usage.copied().unwrap_or_else(|| Usage::new(0, estimate::said(said())));
        Self { usage, at_least, prompts: usage.is_none().into(), ..Self::default() }
    }

    /// Returns the tokens that count: those that the provider has reported and, for the rest, at least the prompt,
    /// of about this length, and the delivered text. A caller that leaves early has received that text.
    pub fn used(&self, prompt: u32) -> Usage {
        let untold = u64::from(self.prompts) * u64::from(prompt);
        Usage { input: self.at_least.input.saturating_add(untold), ..self.at_least }
    }
}

/// The gate's record on a permit, from when it admitted the call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticket {
    /// The gate's state at that time: an outcome of an older one is late.
    pub generation: u32,
    /// The tokens that the gate has charged ahead of the answer, if it counts them.
    pub reserved: u32,
    /// The time of the admission on the gate's own clock, if it needs that.
    pub begun: Option<NonZeroU64>,
    /// The treatment of the charge.
    pub charge: Charge,
    /// The approximate number of tokens in the prompt: they count if the provider does not report them.
    pub prompt: u32,
}

impl Ticket {
    /// Creates the ticket of a gate that tells callers apart. Such a gate counts no tokens, so that the caller's number
    /// takes their place: every layer's future holds tickets, and a word more in each makes every move dearer.
    #[inline]
    pub fn of_caller(generation: u32, caller: u64) -> Self {
        Self { generation, reserved: (caller >> 32) as u32, prompt: caller as u32, ..Self::default() }
    }

    /// Returns the number of the caller that the ticket was created for.
    #[inline]
    pub fn caller(&self) -> u64 {
        (u64::from(self.reserved) << 32) | u64::from(self.prompt)
    }
}

/// The treatment of a gate's charge when the call is over.
// Wide enough to leave no gap beside the other fields: the compiler copies a ticket with a gap piece by piece wherever
// it moves.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charge {
    #[default]
    Stays,
    /// The gate takes it back: the provider has not seen the call.
    Returns,
}

/// A gate that admits calls and learns how each ended: a breaker, a bulkhead, a gauge.
pub trait Gate: Send + Sync {
    /// Takes the place back. Called exactly once for each permit, from wherever it ends: must not block, and must
    /// not call foreign code under a lock.
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>);

    /// The same with what is known of the answer, whole or not. For gates that count tokens or money, or tell of them:
    /// only they ask for it, since to work it out costs more than most gates do.
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, _so_far: &dyn Fn() -> SoFar<'a>) {
        self.settle(ticket, outcome);
    }

    /// Records that the answer's first token is there. Called only if the ticket has the time of the admission.
    fn begins(&self, _ticket: &mut Ticket) {}

    /// Corrects the kind of a call's failure, once it is settled.
    fn unmask(&self, _error: &mut LlmError) {}
}

impl<G: Gate> Gate for Shard<G> {
    #[inline]
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        (**self).settle(ticket, outcome);
    }

    #[inline]
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        (**self).settle_with(ticket, outcome, so_far);
    }

    fn begins(&self, ticket: &mut Ticket) {
        (**self).begins(ticket);
    }

    fn unmask(&self, error: &mut LlmError) {
        (**self).unmask(error);
    }
}

/// A place that a gate gave. Taken synchronously at `call`, it is owned by the future and then by the body;
/// dropping it gives it back. The default is no place.
#[derive(Default)]
pub struct Permit {
    gate: Option<Arc<dyn Gate>>,
    ticket: Ticket,
}

impl Permit {
    /// Creates a permit for a place at `gate`, which has counted it already.
    #[inline]
    pub fn new(gate: Arc<dyn Gate>, ticket: Ticket) -> Self {
        Self { gate: Some(gate), ticket }
    }

    /// Returns the gate's record, to change it before the permit moves on into a body.
    #[inline]
    pub fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }

    /// Returns whether there is a place to give back.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.gate.is_some()
    }

    /// Records that the answer begins.
    #[inline]
    pub fn begins(&mut self) {
        if let (Some(_), Some(gate)) = (self.ticket.begun, &self.gate) {
            gate.begins(&mut self.ticket);
        }
    }

    /// Gives back the place of a failed call. The gate may correct the error's kind.
    #[inline]
    #[cold]
    pub fn fail(&mut self, error: &mut LlmError) {
        if let Some(gate) = self.gate.take() {
            gate.settle(&self.ticket, Outcome::Failed(error));
            gate.unmask(error);
        }
    }

    /// Gives the place back with the outcome of the work. Only the first call has an effect.
    #[inline]
    pub fn settle(&mut self, outcome: Outcome<'_>) {
        if let Some(gate) = self.gate.take() {
            gate.settle(&self.ticket, outcome);
        }
    }

    /// Gives the place back with the facts about the answer, whole or not.
    #[inline]
    pub fn settle_with<'a>(&mut self, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
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

// By value: the compiler keeps a borrowed permit in memory, and copies it wherever it moves.
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
    fn a_ticket_gives_its_caller_back() {
        for caller in [0, 1, u64::from(u32::MAX), 1 << 32, 0x0123_4567_89ab_cdef, u64::MAX] {
            let ticket = Ticket::of_caller(7, caller);
            assert_eq!((ticket.generation, ticket.caller()), (7, caller));
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
