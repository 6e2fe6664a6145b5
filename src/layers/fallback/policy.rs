//! What may be chosen of a fallback's conduct.

use std::time::Duration;

/// What a session may see of a switch of tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionPolicy {
    /// Every request takes the best tier, whatever its session.
    #[default]
    Free,
    /// A session stays with the tier that first answered it; when that fails, the request fails, clearly.
    Pin,
    /// A session that was switched stays with the tier that it was switched to, even when the primary is back.
    Sticky,
}

/// What happens when a stream breaks after its first token was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamBreak {
    /// The body ends with the error. The reader decides.
    #[default]
    Fail,
    /// The body goes on with the next tier's whole answer, after a
    /// [`StreamEvent::Restarted`](crate::StreamEvent::Restarted) that tells the reader to discard what came before.
    /// An [`AnswerReader`](crate::agent::AnswerReader) makes one signal of it.
    Restart,
    /// The answer is held back until it is whole, so that a broken stream can still fail over: the caller sees only
    /// complete answers, and its first token later.
    Buffer,
}

/// What happens when every tier refused because its circuit is open, or is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllOpen {
    /// The request fails at once; the error's `retry_after` is the earliest probe.
    #[default]
    Fail,
    /// The request waits for the earliest probe, and follows the first that succeeds, if its deadline allows; a request without
    /// a deadline waits at most this long. Each circuit still admits only its probes: there is no stampede.
    Wait(Duration),
    /// The request is queued: it waits for as long as no tier that may serve it works, and asks again at each probe, until
    /// its deadline and at most this long. Also after failures that opened no circuit, a second later; what is wrong with
    /// the request itself fails at once. It is for work that must not be done by anything less, such as code generation
    /// with [`worst_level`](super::FallbackLayer::feature_worst_level) 1.
    ///
    /// When that time is over it fails, at most a second early, with the earliest probe as the error's `retry_after` where
    /// the circuits say one; so it does when it has no [attempts](crate::LlmRequest::max_attempts) left. What was drained by hand is not waited for:
    /// nobody knows how long. A [bulkhead](crate::layers::bulkhead) further out bounds how many wait, and how many go on
    /// together when a tier is back.
    Queue(Duration),
}
