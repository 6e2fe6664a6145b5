//! The error.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower::BoxError;

use super::{
    Attempt, ErrorKind, ErrorMessage, ExpiredLimit, Next, Phase, ReachedLimit, Reader, Rest, TimeoutLimit,
    exchange::{self, Exchange},
    known_words,
    record::{OwnStep, Record},
};

/// A failed call to a language model.
///
/// The type is one pointer wide. Its methods answer every question; there is nothing to downcast. `Display` writes the
/// failure and what its [reader](LlmError::for_reader) can do, without prompt text or keys.
/// [`source`](StdError::source) returns the cause.
///
/// Leaves and layers of your own create one with [`LlmError::new`], or convert any error with
/// `LlmError::from(BoxError)`, which recovers the errors of this crate and of tower.
#[derive(Clone)]
pub struct LlmError(pub(super) Box<Inner>);

/// The evidence that a circuit draws against a provider from one failure.
#[doc(hidden)]
pub trait Evidence: Send + Sync {
    /// Withdraws the evidence: another provider has shown that the request is at fault.
    fn withdraw(&self);
}

#[derive(Clone, Default)]
pub(super) struct Inner {
    kind: Option<ErrorKind>,
    pub(super) message: ErrorMessage,
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
    pub(super) reader: Reader,
    /// The chain that the request took, if the tier that it asked first does not tell.
    chain: Option<Arc<str>>,
    evidence: Option<Arc<dyn Evidence>>,
    /// Apart, since most refusals on this side have none of it.
    pub(super) exchange: Option<Box<Exchange>>,
    record: Record,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Inner {
    fn kind(&self) -> ErrorKind {
        self.kind.unwrap_or(ErrorKind::Other)
    }

    pub(super) fn exchange(&self) -> &Exchange {
        self.exchange.as_deref().unwrap_or(&exchange::NONE)
    }

    pub(super) fn exchange_mut(&mut self) -> &mut Exchange {
        self.exchange.get_or_insert_default()
    }

    fn steps(&self) -> &[Attempt] {
        self.record.steps(|own| self.step(own))
    }

    fn take_steps(&mut self) -> Vec<Attempt> {
        let (steps, own) = self.record.take();
        match (steps, own) {
            (Some(steps), _) => steps,
            (None, Some(own)) => {
                // Room for the step that answers in the end.
                let mut steps = Vec::with_capacity(2);
                steps.push(self.step(own));
                steps
            }
            (None, None) => Vec::new(),
        }
    }

    /// Returns the step whose failure is this error.
    fn step(&self, OwnStep { begun, took }: OwnStep) -> Attempt {
        let now = begun + took;
        Attempt {
            tier: None,
            deployment: None,
            provider: self.provider.clone(),
            model: self.model.clone(),
            begun,
            took,
            failure: Some(self.kind()),
            status: self.exchange().status,
            message: match self.timed_out {
                Some(timeout) => timeout.to_string().into(),
                None => self.message.clone(),
            },
            retry_after: self.retry_at.map(|at| at.saturating_duration_since(now)),
            timeout: self.timed_out,
            usage: self.exchange().usage,
            next: Next::GaveUp,
        }
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

impl LlmError {
    /// Returns the limit on this side that refused the request, if one did.
    pub fn reached_limit(&self) -> Option<&ReachedLimit> {
        self.0.limit.as_ref()
    }

    /// Sets the limit that refused the request.
    #[inline]
    #[doc(hidden)]
    pub fn reach(&mut self, limit: ReachedLimit) {
        self.0.limit = Some(limit);
    }

    /// Replaces the beginning of a bulkhead's message, which names a feature, by the caller.
    #[doc(hidden)]
    pub fn of_callers_limit(mut self) -> Self {
        let load = self.message().rsplit_once(": ").map_or_else(|| self.message(), |(_, load)| load);
        self.0.message = format!("the caller's own limit: {load}").into();
        self
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
