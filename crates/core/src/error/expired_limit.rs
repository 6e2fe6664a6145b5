//! A limit of time that ran out.

use std::{fmt, time::Duration};

/// The limit of a `Timeout` that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutLimit {
    /// The limit of the `Timeout` itself.
    Total,
    /// The limit for the first token of a stream.
    FirstToken,
    /// Several times the usual time at this tier, after other calls had waited as long in vain, while another model was
    /// left.
    Silence,
    /// The request's deadline, set further out.
    Deadline,
    /// The limit for a stream that sends nothing at all.
    ByteIdle,
    /// The limit for a stream that sends no content.
    ProgressIdle,
}

/// The phase of a call in which its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for the inner service to become ready: a limiter, a queue, a connection.
    Readiness,
    /// Waiting for the answer, or its first token.
    Answer,
    /// Waiting for the rest of a stream.
    Body,
}

/// A limit of time that ran out, and the phase of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpiredLimit {
    /// The limit that ran out.
    pub limit: TimeoutLimit,
    /// The phase of the call.
    pub phase: Phase,
    /// The length of the limit.
    pub after: Duration,
    /// True if the request's caller set the deadline, nearer than any limit of the stack's own, or this is a share of
    /// it.
    pub by_caller: bool,
}

/// The time within which a healthy model has nearly always begun to answer. A shorter silence is paid for by nobody,
/// and many a model thinks as long.
#[doc(hidden)]
pub const SHORT_WAIT: Duration = Duration::from_secs(10);

impl ExpiredLimit {
    /// Returns true if the caller left too little time for a healthy model: nobody else is at fault.
    pub fn is_callers_own(&self) -> bool {
        self.by_caller && self.after < SHORT_WAIT
    }
}

impl fmt::Display for ExpiredLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after;
        let phase = match self.phase {
            Phase::Readiness => "waiting for readiness",
            Phase::Answer => "waiting for the answer",
            Phase::Body => "in the middle of the stream",
        };
        match self.limit {
            TimeoutLimit::Total => write!(f, "the limit of {after:?} passed {phase}"),
            TimeoutLimit::FirstToken => write!(f, "no first token within {after:?} {phase}"),
            TimeoutLimit::Silence => write!(f, "abandoned after {after:?} {phase}, far beyond the usual time"),
            TimeoutLimit::Deadline => write!(f, "the request's deadline passed after {after:?} {phase}"),
            TimeoutLimit::ByteIdle => write!(f, "nothing came for {after:?} {phase}"),
            TimeoutLimit::ProgressIdle => write!(f, "no content came for {after:?} {phase}"),
        }
    }
}
