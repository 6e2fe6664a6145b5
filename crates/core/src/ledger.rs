//! The attempt ledger: the attempts and time that a request has left, and the record of its steps.
//!
//! The remainder goes *down* by value in the request's [`Context`]; the record comes *up* in the error's or the
//! response's list of [`Attempt`]s. A request shares no mutable state, so a request without failures allocates nothing,
//! a cloned request is a new request, and a dropped future leaves no trace.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

#[doc(no_inline)]
pub use crate::error::{Attempt, Next, Stop};
use crate::{Context, DegradedReason, ErrorKind, LlmError, LlmResponse, classify::Count, error::TimeoutLimit};

impl Attempt {
    /// Returns true if the failure counts as the tier's, for example in its error rate. The request was sent, and the
    /// failure does not show that the request itself is at fault (invalid, too long, against a policy), which any tier
    /// may say.
    pub fn is_tiers_failure(&self) -> bool {
        let of_request = |kind: ErrorKind| matches!(kind.circuit_counts(), Count::Success | Count::FailureInStorm);
        !self.is_local() && !self.is_by_callers_deadline() && self.failure.is_some_and(|kind| !of_request(kind))
    }

    /// Returns true if the caller's own limit ended it: the tier is not at fault.
    pub fn is_by_callers_deadline(&self) -> bool {
        self.timeout.is_some_and(|out| out.is_callers_own())
    }
}

/// The steps before a request reached the tier where people take over: a value
/// among its [extensions](crate::LlmRequest::extensions).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PriorAttempts {
    /// The reason that no better tier answered.
    pub reason: DegradedReason,
    /// Each step in order, with its failure.
    pub attempts: Arc<[Attempt]>,
}

impl PriorAttempts {
    /// Creates the record of these steps.
    pub fn new(reason: DegradedReason, attempts: impl Into<Arc<[Attempt]>>) -> Self {
        Self { reason, attempts: attempts.into() }
    }
}

/// The caller's deadline, where the call itself may run longer: an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct CallersDeadline(pub Instant);

/// The ledger of one call of a layer that tries more than once: the failures so far.
///
/// An empty ledger owns no memory.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct Ledger {
    record: Vec<Attempt>,
    /// The chain of the first step that has named its own.
    chain: Option<Arc<str>>,
}

impl Ledger {
    /// Takes the record of a failed step out of its error. A failure that no layer below recorded becomes one attempt
    /// from `begun` to `now`. [`Self::next`] sets the decision that follows.
    pub fn failed(&mut self, error: &mut LlmError, begun: Instant, now: Instant) {
        error.note(begun, || now);
        if self.chain.is_none() {
            self.chain = error.chain().cloned();
        }
        if self.record.is_empty() {
            self.record = error.take_attempts();
        } else {
            self.record.append(&mut error.take_attempts());
        }
    }

    /// Sets the decision after the newest step.
    pub fn next(&mut self, next: Next) {
        if let Some(last) = self.record.last_mut() {
            last.next = next;
        }
    }

    /// Names the tier of the entries from `from` on that have no name yet.
    pub fn name_tier(&mut self, from: usize, tier: &Arc<str>) {
        for attempt in self.record.iter_mut().skip(from) {
            attempt.tier.get_or_insert_with(|| tier.clone());
        }
    }

    /// Notes that the caller set the deadline that ended the entries from `from` on.
    pub fn note_callers_deadline(&mut self, from: usize) {
        for out in self.record.iter_mut().skip(from).filter_map(|attempt| attempt.timeout.as_mut()) {
            out.by_caller |= out.limit == TimeoutLimit::Deadline;
        }
    }

    /// Names the deployment of the entries from `from` on that have no name yet.
    pub fn name_deployment(&mut self, from: usize, deployment: &Arc<str>) {
        for attempt in self.record.iter_mut().skip(from) {
            attempt.deployment.get_or_insert_with(|| deployment.clone());
        }
    }

    /// Creates a ledger that continues a record.
    pub fn of(record: &[Attempt]) -> Self {
        Self { record: record.to_vec(), chain: None }
    }

    /// Adds a step that is no failure of the call: skipped, cancelled, or reported by an answer.
    pub fn push(&mut self, attempt: Attempt) {
        self.record.push(attempt);
    }

    /// Puts steps before the newest one, whose decision ends the record.
    pub fn insert_before_last(&mut self, steps: Vec<Attempt>) {
        let last = self.record.len().saturating_sub(1);
        self.record.splice(last..last, steps);
    }

    /// All steps so far.
    pub fn record(&self) -> &[Attempt] {
        &self.record
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Returns true before the first entry.
    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }

    /// The number of attempts made. Refusals on this side cost none.
    pub fn spent(&self) -> u16 {
        spent(&self.record)
    }

    /// The number of attempts that failed with this kind.
    pub fn failures(&self, kind: ErrorKind) -> usize {
        self.record.iter().filter(|attempt| attempt.failure == Some(kind)).count()
    }

    /// Returns the context for one more step, with the spent attempts deducted.
    pub fn context(&self, mut first: Context) -> Context {
        self.deduct(&mut first);
        first
    }

    /// Deducts the spent attempts from the context for one more step.
    pub fn deduct(&self, context: &mut Context) {
        let spent = self.spent();
        context.attempts_left = context.attempts_left.saturating_sub(spent);
        context.attempts_made = context.attempts_made.saturating_add(spent);
    }

    /// Moves the record into the error that goes up.
    pub fn give_up(self, error: &mut LlmError) {
        error.set_attempts(self.record);
        if let Some(chain) = &self.chain {
            error.set_chain(chain);
        }
    }

    /// Moves the record into the response that goes up.
    pub fn answered(self, response: &mut LlmResponse) {
        if !self.record.is_empty() {
            response.prepend_attempts(self.record);
        }
        if let Some(chain) = &self.chain {
            response.set_chain(chain);
        }
    }
}

/// Records a failure as one attempt, unless a layer below has done so.
#[doc(hidden)]
pub fn note(error: &mut LlmError, begun: Instant) {
    error.note(begun, Instant::now);
}

/// Returns the end of the last failure and of the wait after it.
#[doc(hidden)]
pub fn last_end<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Option<Instant> {
    let failures = attempts.into_iter().filter(|attempt| attempt.failure.is_some());
    let ends = failures.filter_map(|attempt| {
        let wait = if let Next::Retried { after } = attempt.next { after } else { Duration::ZERO };
        attempt.begun.checked_add(attempt.took)?.checked_add(wait)
    });
    ends.max()
}

/// Records the failure of an answer behind the steps before it. If there were none, the layer further out knows best
/// when it began.
pub(crate) fn note_after(error: &mut LlmError, before: &[Attempt]) {
    // An answer that broke is recorded by its failure.
    let tried = before.iter().filter(|attempt| attempt.next != Next::Answered);
    let Some(last) = tried.clone().next_back() else { return };
    note(error, last_end(before).unwrap_or(last.begun));
    let steps = tried.cloned().chain(error.take_attempts()).collect();
    error.set_attempts(steps);
}

/// The record of a call that was ended in favour of another.
#[doc(hidden)]
pub fn cancelled(tier: &Arc<str>, begun: Instant) -> Attempt {
    unfailed(tier, begun, Next::Cancelled)
}

/// The record of a call to a tier that ends now, and has not failed.
#[inline]
#[doc(hidden)]
pub fn unfailed(tier: &Arc<str>, begun: Instant, next: Next) -> Attempt {
    Attempt {
        tier: Some(tier.clone()),
        deployment: None,
        provider: None,
        model: None,
        begun,
        took: begun.elapsed(),
        failure: None,
        status: None,
        message: "".into(),
        retry_after: None,
        timeout: None,
        usage: None,
        next,
    }
}

/// Replaces the record by one step, for a request that made no call and shares another's failure: that request's
/// attempts and tokens count once.
#[doc(hidden)]
pub fn of_another(error: &mut LlmError) {
    let (provider, model) = error.names();
    let step = Attempt {
        tier: error.attempts().last().and_then(|step| step.tier.clone()),
        deployment: None,
        provider,
        model,
        begun: Instant::now(),
        took: Duration::ZERO,
        failure: Some(error.kind()),
        status: error.status(),
        message: "the call of another request with the same idempotency key failed".into(),
        retry_after: error.retry_after(),
        timeout: None,
        usage: None,
        next: Next::Skipped,
    };
    error.set_attempts(vec![step]);
}

fn spent(record: &[Attempt]) -> u16 {
    let sent = record.iter().filter(|attempt| attempt.is_wasted()).count();
    u16::try_from(sent).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn failure(kind: ErrorKind) -> LlmError {
        LlmError::new(kind, "it failed")
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_noted_once_by_whoever_is_nearest() {
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        let mut error = failure(ErrorKind::Server)
            .with_model("openai", "gpt")
            .with_status(StatusCode::BAD_GATEWAY)
            .with_retry_after(Duration::from_secs(9));
        note(&mut error, begun);
        tokio::time::advance(Duration::from_secs(2)).await;
        note(&mut error, begun);
        let [attempt] = error.attempts() else { panic!("{:?}", error.attempts()) };
        assert_eq!((attempt.begun, attempt.took), (begun, Duration::from_secs(2)));
        assert_eq!((attempt.provider.as_deref(), attempt.model.as_deref()), (Some("openai"), Some("gpt")));
        assert_eq!((attempt.failure, attempt.status), (Some(ErrorKind::Server), Some(StatusCode::BAD_GATEWAY)));
        assert_eq!((attempt.message.as_str(), attempt.retry_after), ("it failed", Some(Duration::from_secs(9))));
        assert_eq!(attempt.next, Next::GaveUp);
        assert_eq!(attempt.to_string(), "gpt: server (HTTP 502) after 2s; gave up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tier_is_charged_with_its_own_trouble_and_not_with_the_requests() {
        let noted = |kind: ErrorKind| {
            let mut error = failure(kind);
            note(&mut error, Instant::now());
            error.attempts()[0].is_tiers_failure()
        };
        assert!(noted(ErrorKind::Server) && noted(ErrorKind::Timeout) && noted(ErrorKind::RateLimited));
        assert!(!noted(ErrorKind::InvalidRequest) && !noted(ErrorKind::ContextLength) && !noted(ErrorKind::Refusal));
        assert!(!noted(ErrorKind::CircuitOpen), "nothing was sent");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_is_no_longer_left_and_refusals_cost_nothing() {
        let first = Context { attempts_left: 8, attempts_made: 1, ..Context::default() };
        let mut ledger = Ledger::default();
        assert_eq!((ledger.len(), ledger.spent(), ledger.context(first).attempts_left), (0, 0, 8));
        for kind in [ErrorKind::Server, ErrorKind::CircuitOpen, ErrorKind::Timeout, ErrorKind::BulkheadFull] {
            ledger.failed(&mut failure(kind), Instant::now(), Instant::now());
        }
        let left = ledger.context(first);
        assert_eq!((ledger.len(), ledger.spent()), (4, 2));
        assert_eq!((left.attempts_left, left.attempts_made), (6, 3));

        let poor = ledger.context(Context { attempts_left: 1, attempts_made: u16::MAX, ..first });
        assert_eq!((poor.attempts_left, poor.attempts_made), (0, u16::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn next_is_said_of_the_newest_step_and_of_nothing_when_there_is_none() {
        let mut ledger = Ledger::default();
        ledger.next(Next::FailedOver);
        ledger.failed(&mut failure(ErrorKind::Server), Instant::now(), Instant::now());
        ledger.next(Next::Retried { after: Duration::from_secs(1) });
        ledger.failed(&mut failure(ErrorKind::Server), Instant::now(), Instant::now());
        ledger.next(Next::Stopped(Stop::Attempts));
        let mut error = failure(ErrorKind::Server);
        ledger.give_up(&mut error);
        let next: Vec<String> = error.attempts().iter().map(|attempt| attempt.next.to_string()).collect();
        assert_eq!(next, ["retried after 1s", "stopped: no attempt is left"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nested_ledgers_keep_the_order_of_the_steps() {
        let at = Instant::now();
        let tier = |steps: [ErrorKind; 2]| {
            let mut inner = Ledger::default();
            let mut last = failure(steps[0]);
            for kind in steps {
                last = failure(kind);
                inner.failed(&mut last, at, at);
            }
            inner.give_up(&mut last);
            last
        };
        let mut outer = Ledger::default();
        for (name, steps) in
            [("a", [ErrorKind::Server, ErrorKind::Timeout]), ("b", [ErrorKind::Connect, ErrorKind::CircuitOpen])]
        {
            let from = outer.len();
            outer.failed(&mut tier(steps), at, at);
            outer.name_tier(from, &name.into());
        }
        let mut response = LlmResponse::from_text("hello");
        response.prepend_attempts(vec![outer.record[0].clone()]);
        outer.answered(&mut response);
        let steps: Vec<_> = response.attempts().iter().map(|step| (step.tier.as_deref(), step.failure)).collect();
        let (a, b) = (Some("a"), Some("b"));
        let kinds =
            [ErrorKind::Server, ErrorKind::Timeout, ErrorKind::Connect, ErrorKind::CircuitOpen, ErrorKind::Server];
        assert_eq!(steps, [a, a, b, b, a].into_iter().zip(kinds.map(Some)).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_ledger_owns_no_memory_and_leaves_the_response_alone() {
        let mut response = LlmResponse::from_text("hello");
        let measured = allocation_counter::measure(|| Ledger::default().answered(&mut response));
        assert_eq!(measured.count_total, 0);
        assert!(response.attempts().is_empty());
    }
}
