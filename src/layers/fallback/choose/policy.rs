//! The policies of a fallback.

use std::time::Duration;

use crate::LlmRequest;

/// The policy for sessions in a switch of tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionPolicy {
    /// Every request takes the best tier, whatever its session.
    #[default]
    Free,
    /// A session stays with the tier that first answered it; if that fails, the request fails, clearly.
    Pin,
    /// A session that was switched stays with its new tier, even when the primary is back.
    Sticky,
}

/// The settings of a fallback's sessions: their [policy](SessionPolicy), and how many of them it keeps. A policy alone
/// stands for its settings with the default capacity.
///
/// ```
/// use steadfast::{
///     FallbackLayer,
///     layers::fallback::{SessionPolicy, SessionSettings},
/// };
///
/// let usual = FallbackLayer::new("sonnet").session(SessionPolicy::Sticky);
/// let small = FallbackLayer::new("sonnet").session(SessionSettings::new(SessionPolicy::Sticky).capacity(500));
/// # drop([usual, small]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    pub(crate) policy: SessionPolicy,
    pub(crate) capacity: usize,
}

/// The default of [`SessionSettings::capacity`].
const SESSIONS: usize = 10_000;

impl SessionSettings {
    /// Creates the settings of this policy, with the default capacity.
    pub fn new(policy: SessionPolicy) -> Self {
        Self { policy, capacity: SESSIONS }
    }

    /// Sets how many sessions are kept. A session belongs to its request's [tenant](crate::LlmRequest::tenant); the
    /// least recently used of the tenant that has the most goes first. Default: 10,000.
    #[must_use]
    pub fn capacity(mut self, sessions: usize) -> Self {
        self.capacity = sessions;
        self
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self::new(SessionPolicy::default())
    }
}

impl From<SessionPolicy> for SessionSettings {
    fn from(policy: SessionPolicy) -> Self {
        Self::new(policy)
    }
}

/// The policy for a stream that breaks after its first token was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamBreak {
    /// The body ends with the error. The reader decides.
    #[default]
    Fail,
    /// The body goes on with the next tier's whole answer. Before it comes a
    /// [`StreamEvent::Restarted`](crate::StreamEvent::Restarted), which tells the reader to discard the earlier
    /// part. `steadfast_agent::AnswerReader` makes one signal of it.
    Restart,
    /// Another call goes on with the text where it ends, and the reader keeps what it has. A
    /// [`StreamEvent::Continued`](crate::StreamEvent::Continued) says where, for who wants to know.
    ///
    /// The calls go to tiers that [go on with answers](super::TierSettings::goes_on): those of the same model first,
    /// and the one that broke last, unless it is [spread](super::TierSettings::spread). They are two at most. The
    /// stream ends with its error, as with `Fail`, once it has more than text (a call of a tool, a signed thought), if
    /// the request asks for a form such as JSON, or if no such tier is left. So does one whose rest is a refusal, or
    /// empty. The tokens of all calls add up.
    Continue,
    /// The answer is held back until it is whole, so that a broken stream can still fail over: the caller sees only
    /// complete answers, and its first token later.
    Buffer,
}

impl StreamBreak {
    /// Sets the policy for one request, in place of its [feature's](super::FeaturePolicy::stream_break).
    #[must_use]
    pub fn for_request(self, request: LlmRequest) -> LlmRequest {
        let mut request = request.with_extension(self);
        request.context_mut().prospects.note_stream_break();
        request
    }
}

/// The policy for the case that every tier refused because its circuit is open, or is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllOpen {
    /// The request fails at once; the error's `retry_after` is the earliest probe. It waits for a probe that is due
    /// within a second, as long as no more than 1,000 others do.
    #[default]
    Fail,
    /// The request waits for the earliest probe, and follows the first that succeeds, if its deadline allows; a
    /// request without a deadline waits at most this long. Each circuit still admits only its probes: there is no
    /// stampede.
    Wait(Duration),
    /// The request is queued: it waits as long as no tier that may serve it works, and asks again at each probe,
    /// until its deadline and at most this long. It also waits after failures that opened no circuit, and asks
    /// again a second later; an invalid request fails at once. Use it for work that no lesser tier may do, such as
    /// code generation with [`worst_level`](super::FeaturePolicy::worst_level) 1.
    ///
    /// At the end of that time it fails, at most a second early, with the earliest probe as the error's `retry_after`
    /// if the circuits know one. It also fails if it has no [attempts](crate::LlmRequest::with_max_attempts) left. It
    /// does not wait for a drained tier: the end of a drain is unknown. A [bulkhead](crate::layers::bulkhead) further
    /// out bounds how many requests wait, and how many go on together when a tier is back.
    Queue(Duration),
}
