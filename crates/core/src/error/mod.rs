//! The one error of the crate.

mod attempt;
mod chain;
mod exchange;
mod invalid_config;
mod kind;
mod known_words;
mod limit;
mod message;
mod network;
mod reader;
mod record;

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower::BoxError;

#[doc(hidden)]
pub use self::message::Rest;
#[doc(hidden)]
pub use self::network::NetworkFacts;
#[doc(hidden)]
pub use self::reader::Told;
pub use self::{
    attempt::{Attempt, Next, Stop},
    invalid_config::InvalidConfig,
    kind::ErrorKind,
    limit::ReachedLimit,
    message::ErrorMessage,
    reader::Reader,
};
use self::{chain::Chain, exchange::Exchange, invalid_config::A_SETTING_IS_WRONG, record::Record};

/// A parameter that the request omits from here on, since its model refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct OmittedParameter {
    /// The parameter's place in a body of the provider's dialect.
    pub path: Cow<'static, str>,
    /// True if the model takes the parameter from no caller.
    pub lasting: bool,
}

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

/// A failed call to a language model.
///
/// The type is one pointer wide. Its methods answer every question; there is nothing to downcast. `Display` writes the
/// failure and what its [reader](LlmError::for_reader) can do, without prompt text or keys.
/// [`source`](StdError::source) returns the cause.
///
/// Leaves and layers of your own create one with [`LlmError::new`], or convert any error with
/// `LlmError::from(BoxError)`, which recovers the errors of this crate and of tower.
#[derive(Clone)]
pub struct LlmError(Box<Inner>);

/// The evidence that a circuit draws against a provider from one failure.
#[doc(hidden)]
pub trait Evidence: Send + Sync {
    /// Withdraws the evidence: another provider has shown that the request is at fault.
    fn withdraw(&self);
}

#[derive(Clone, Default)]
struct Inner {
    kind: Option<ErrorKind>,
    message: ErrorMessage,
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    /// Absolute, so that it stays true while the error travels.
    retry_at: Option<Instant>,
    timed_out: Option<ExpiredLimit>,
    /// The limit on this side that refused the request.
    limit: Option<ReachedLimit>,
    doubted: bool,
    accepts: Option<u8>,
    possible_repeat: bool,
    /// True if a circuit refused for a rate limit of the provider's.
    rate_limit: bool,
    /// The reader of the text.
    reader: Reader,
    /// The chain that the request took, if the tier that it asked first does not tell.
    chain: Option<Arc<str>>,
    evidence: Option<Arc<dyn Evidence>>,
    /// Apart, since most refusals on this side have none of it.
    exchange: Option<Box<Exchange>>,
    record: Record,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Inner {
    fn kind(&self) -> ErrorKind {
        self.kind.unwrap_or(ErrorKind::Other)
    }
}

impl LlmError {
    /// Creates an error of this kind. The message is lower case, without a full stop; it must not contain a key or
    /// prompt text.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_message(kind, message.into().into())
    }

    /// Creates an error whose message is made of these two. It allocates no text before somebody reads it.
    #[inline]
    #[doc(hidden)]
    pub fn with_parts(kind: ErrorKind, subject: Arc<str>, rest: Rest) -> Self {
        Self::with_message(kind, ErrorMessage::parts(subject, rest))
    }

    #[inline]
    fn with_message(kind: ErrorKind, message: ErrorMessage) -> Self {
        // Made where it stays: most of it is empty, and it is too large to be moved for nothing.
        let mut inner = Box::<Inner>::default();
        inner.kind = Some(kind);
        inner.message = message;
        Self(inner)
    }

    /// Creates an error for a limit of time that ran out.
    #[doc(hidden)]
    pub fn timed_out(limit: TimeoutLimit, phase: Phase, after: Duration) -> Self {
        let timed_out = ExpiredLimit { limit, phase, after, by_caller: false };
        let mut error = Self::new(ErrorKind::Timeout, "");
        error.0.timed_out = Some(timed_out);
        error
    }

    /// Creates an error for a call that reached the request's deadline `after` it began.
    #[doc(hidden)]
    pub fn deadline_passed(phase: Phase, after: Duration) -> Self {
        let mut error = Self::timed_out(TimeoutLimit::Deadline, phase, after);
        if phase == Phase::Readiness {
            error.0.kind = Some(ErrorKind::Deadline);
        }
        error
    }

    /// The kind of the failure.
    #[inline]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// The failure in the provider's words, if it sent any.
    pub fn message(&self) -> &str {
        self.0.message.as_str()
    }

    /// The words of the [message](Self::message) that providers and networks use of themselves, with `…` for each gap:
    /// no prompt, no key. At most 200 bytes; empty if most words are others, or if the failure is about the request.
    pub fn public_message(&self) -> ErrorMessage {
        known_words::excerpt(self.kind(), &self.0.message)
    }

    /// The provider that failed.
    pub fn provider(&self) -> Option<&str> {
        self.0.provider.as_deref()
    }

    /// The model that was asked.
    pub fn model(&self) -> Option<&str> {
        self.0.model.as_deref()
    }

    /// The wait from now until another attempt may succeed; when all tiers failed, the shortest of theirs. `None` if no
    /// provider named one; zero once the time has come.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The end of the [wait](Self::retry_after), as a moment of tokio's clock.
    #[inline]
    pub fn retry_at(&self) -> Option<Instant> {
        self.0.retry_at
    }

    /// Returns the limit of ours that ran out and the phase of the call: that of this error, or else the last in the
    /// [record](Self::attempts) of steps.
    pub fn timeout(&self) -> Option<ExpiredLimit> {
        self.0.timed_out.or_else(|| self.attempts().iter().rev().find_map(|attempt| attempt.timeout))
    }

    /// Notes that the caller set the deadline, if the error is about that.
    #[doc(hidden)]
    pub fn note_callers_deadline(&mut self) {
        if let Some(out) = self.0.timed_out.as_mut() {
            out.by_caller = out.limit == TimeoutLimit::Deadline;
        }
    }

    /// Returns true if the caller's own limit ended the request or a step of it: another caller may be answered.
    pub fn is_by_callers_deadline(&self) -> bool {
        let own = self.0.timed_out.into_iter();
        own.chain(self.attempts().iter().filter_map(|step| step.timeout)).any(|out| out.is_callers_own())
    }

    /// Returns the limit that this error itself is about, whatever other steps failed.
    #[inline]
    #[doc(hidden)]
    pub fn own_timeout(&self) -> Option<ExpiredLimit> {
        self.0.timed_out
    }

    /// Returns true if nothing was sent: a layer on this side refused, or time ran out before the service was ready.
    #[doc(hidden)]
    pub fn is_unsent(&self) -> bool {
        self.kind().is_local() || self.0.timed_out.is_some_and(|out| out.phase == Phase::Readiness)
    }

    /// Marks a caller's mistake that may be the provider's: another tier is asked for a second opinion.
    #[doc(hidden)]
    pub fn doubt(&mut self) {
        self.0.doubted = true;
    }

    #[doc(hidden)]
    pub fn repeat(&mut self) {
        self.0.possible_repeat = true;
    }

    /// Returns true if the call under the request's [idempotency key](crate::LlmRequest::with_idempotency_key) may be a
    /// second one: no store can rule out an earlier call.
    pub fn is_possible_repeat(&self) -> bool {
        self.0.possible_repeat
    }

    /// Marks a circuit's refusal as one for a rate limit: it waits for as long as the provider asked.
    #[inline]
    #[doc(hidden)]
    pub fn note_rate_limit(&mut self) {
        self.0.rate_limit = true;
    }

    /// The failure's kind for a caller, to whom a provider's rate limit is one also while a circuit keeps to it.
    #[doc(hidden)]
    pub fn kind_for_caller(&self) -> ErrorKind {
        let is_momentary =
            self.kind() == ErrorKind::Budget && self.0.limit.as_ref().is_some_and(ReachedLimit::is_momentary_cap);
        if self.0.rate_limit || is_momentary { ErrorKind::RateLimited } else { self.kind() }
    }

    /// Returns true if this one caller's limits may have ended the call: its places, rates, caps, time, attempts or
    /// key. Another caller with the same request may be served.
    #[doc(hidden)]
    pub fn is_by_callers_limits(&self) -> bool {
        use ErrorKind::{Budget, BulkheadFull, Deadline, Exhausted, IdempotencyConflict};
        let kinds = [BulkheadFull, Budget, Deadline, Exhausted, IdempotencyConflict];
        self.is_callers_own() || kinds.contains(&self.kind())
    }

    /// Returns whether the provider's statement is doubted: one request's evidence does not suffice for it.
    pub fn is_doubted(&self) -> bool {
        self.0.doubted
    }

    /// Sets the chain that the request took.
    #[doc(hidden)]
    pub fn set_chain(&mut self, chain: &Arc<str>) {
        self.0.chain = Some(chain.clone());
    }

    /// The chain that the request took, if the tier that it asked first does not tell.
    #[inline]
    #[doc(hidden)]
    pub fn chain(&self) -> Option<&Arc<str>> {
        self.0.chain.as_ref()
    }

    /// Sets the worst level that the request's feature accepts: no answer of a worse one may replace the failure.
    #[doc(hidden)]
    pub fn set_accepts(&mut self, worst_level: u8) {
        self.0.accepts = Some(worst_level);
    }

    /// The worst level that the request's feature accepts, if a fallback set it.
    #[doc(hidden)]
    pub fn accepts(&self) -> Option<u8> {
        self.0.accepts
    }

    /// Attaches a circuit's evidence against its provider.
    #[doc(hidden)]
    pub fn hold(&mut self, evidence: Arc<dyn Evidence>) {
        self.0.evidence = Some(evidence);
    }

    /// The circuit's evidence against its provider from this failure.
    #[doc(hidden)]
    pub fn evidence(&self) -> Option<&Arc<dyn Evidence>> {
        self.0.evidence.as_ref()
    }

    /// The decision record: each attempt in order, with its outcome and the reason for the next step. Refusals on this
    /// side (an open circuit) are included.
    pub fn attempts(&self) -> &[Attempt] {
        self.0.steps()
    }

    /// Sets the provider and the model.
    #[must_use]
    pub fn with_model(mut self, provider: impl Into<Arc<str>>, model: impl Into<Arc<str>>) -> Self {
        self.0.provider = Some(provider.into());
        self.0.model = Some(model.into());
        self
    }

    /// Sets the wait, from now, until the provider may work again.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        let at = Instant::now().checked_add(after);
        self.with_retry_at(at)
    }

    /// Sets the moment from which the provider may work again.
    #[must_use]
    pub fn with_retry_at(mut self, at: impl Into<Option<Instant>>) -> Self {
        self.0.retry_at = at.into();
        self
    }

    /// Sets the cause, which [`source`](std::error::Error::source) returns.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Sets the provider and model unless they are set: the code nearest to the call knows best.
    #[doc(hidden)]
    pub fn or_model(mut self, provider: &Arc<str>, model: Option<&Arc<str>>) -> Self {
        self.0.provider.get_or_insert_with(|| provider.clone());
        if self.0.model.is_none() {
            self.0.model = model.cloned();
        }
        self
    }

    #[doc(hidden)]
    pub fn names(&self) -> (Option<Arc<str>>, Option<Arc<str>>) {
        (self.0.provider.clone(), self.0.model.clone())
    }

    /// Takes the record out.
    #[inline]
    #[doc(hidden)]
    pub fn take_attempts(&mut self) -> Vec<Attempt> {
        self.0.take_steps()
    }

    #[inline]
    #[doc(hidden)]
    pub fn set_attempts(&mut self, attempts: Vec<Attempt>) {
        self.0.record.set_steps(attempts);
    }

    /// Records the error as the one step, unless it has a record.
    #[inline]
    #[doc(hidden)]
    pub fn note(&mut self, begun: Instant, now: impl FnOnce() -> Instant) {
        if self.0.record.is_empty() {
            self.0.record.set_own_step(begun, now());
        }
    }
}

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = Chain::of(self);
        if let Some(chain) = &chain {
            chain.write(self, f)?;
        } else {
            f.write_str(&self.what())?;
            if let Some(timed_out) = self.0.timed_out {
                write!(f, ": {timed_out}")?;
            }
            if !self.message().is_empty() && self.may_quote() {
                write!(f, ": {}", self.message())?;
            }
        }
        let facts: [Option<String>; 6] = [
            self.0.provider.as_deref().map(str::to_owned),
            self.0.model.as_deref().map(str::to_owned),
            self.status().filter(|_| chain.is_none()).map(|status| format!("HTTP {}", status.as_u16())),
            self.code().map(|code| format!("code {code}")),
            self.request_id().map(|id| format!("request {id}")),
            (self.attempts().len() > 1).then(|| format!("{} steps tried", self.attempts().len())),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            write!(f, " ({})", facts.join(", "))?;
        }
        if let Some(after) = self.retry_after().filter(|after| !after.is_zero()) {
            write!(f, "; worth retrying in {}", WholeSeconds(after))?;
        }
        match chain {
            Some(chain) => write!(f, "; {}", self.advice_for(&chain)),
            None => write!(f, "; {}", self.advice()),
        }
    }
}

/// A wait for people to read: in whole seconds, rounded up.
struct WholeSeconds(Duration);

impl fmt::Display for WholeSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_nanos().div_ceil(1_000_000);
        if millis < 1000 { write!(f, "{millis} ms") } else { write!(f, "{} s", millis.div_ceil(1000)) }
    }
}

impl fmt::Debug for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.debug_struct("LlmError")
            .field("kind", &self.kind())
            .field("message", &inner.message)
            .field("provider", &inner.provider)
            .field("model", &inner.model)
            .field("status", &self.status())
            .field("code", &self.code())
            .field("request_id", &self.request_id())
            .field("retry_at", &inner.retry_at)
            .field("timed_out", &inner.timed_out)
            .field("attempts", &inner.steps())
            .field("source", &inner.source)
            .finish_non_exhaustive()
    }
}

impl StdError for LlmError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<BoxError> for LlmError {
    /// Recovers an `LlmError` from any depth of the causes. Reads the errors of tower's `timeout` and `load_shed`, of
    /// tokio's `timeout` and of the network ([`std::io::Error`]: [`ErrorKind::Connect`]) by their meaning. Any other
    /// error becomes the cause of an [`ErrorKind::Other`].
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => return *own,
            Err(error) => error,
        };
        // Wrappers such as `tower::buffer`'s hide ours one level down.
        let mut cause = Some(&*error as &(dyn StdError + 'static));
        while let Some(this) = cause {
            // The `source` of an `io::Error` skips the error that it wraps: ask for that one here.
            let wrapped = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(own) = this.downcast_ref::<Self>().or_else(|| wrapped?.downcast_ref()) {
                return own.clone();
            }
            let kind = if this.is::<tower::timeout::error::Elapsed>() {
                Some((ErrorKind::Timeout, "tower's timeout layer"))
            } else if this.is::<tokio::time::error::Elapsed>() {
                Some((ErrorKind::Timeout, "a limit of time inside the leaf"))
            } else if this.is::<InvalidConfig>() {
                Some((ErrorKind::InvalidRequest, A_SETTING_IS_WRONG))
            } else if this.is::<tower::load_shed::error::Overloaded>() {
                Some((ErrorKind::Overloaded, "tower's load_shed layer refused"))
            } else if this.is::<std::io::Error>() {
                Some((ErrorKind::Connect, ""))
            } else {
                None
            };
            if let Some((kind, message)) = kind {
                return Self::new(kind, message).with_source(error);
            }
            cause = this.source();
        }
        Self::new(ErrorKind::Other, "").with_source(error)
    }
}

impl From<std::convert::Infallible> for LlmError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests;
