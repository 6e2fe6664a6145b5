#![doc = include_str!("classify.md")]

use std::{fmt, sync::Arc};

use crate::{ErrorKind, LlmError, error::ReachedLimit};

/// The row of the table for one failure: the action of each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Class {
    /// The decision to ask the same provider again.
    pub retry: Retry,
    /// The decision to ask the next tier.
    pub failover: Failover,
    /// The failure's weight in a circuit breaker.
    pub circuit: Count,
}

impl Class {
    /// Creates a row of these three decisions.
    pub const fn new(retry: Retry, failover: Failover, circuit: Count) -> Self {
        Self { retry, failover, circuit }
    }
}

/// A decision to ask the same provider again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Never: the same request fails again.
    No,
    /// Yes, within the attempts, the budget and the deadline.
    Yes,
    /// At most once.
    Once,
    /// At most once, and only where no other tier is left. A silent provider is not asked again while another can be.
    OnceIfLast,
}

/// A decision to ask the next tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// Never: the request would fail there too.
    No,
    /// Yes, at once.
    Yes,
    /// Only at a tier with a larger context window.
    LargerWindow,
    /// Only where another tier's failure came first. A chain that a failure began goes on over a tier's own faults.
    AfterAnother,
    /// One more model, once: the provider calls the request invalid and names no fault in it.
    SecondOpinion,
    /// Only on a route that is configured for this kind.
    IfRouted,
}

/// A failure's weight in a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The provider is at fault.
    Failure,
    /// The failure proves that the provider is alive.
    Success,
    /// The failure says nothing about the provider.
    Neutral,
    /// The provider refuses the account until an operator acts (quota). The circuit opens at once and probes by itself.
    Latch,
    /// The key was refused. A latch if the key has worked here before; else the caller's mistake, and neutral.
    LatchIfWorked,
    /// The caller's mistake. If many different requests meet it at once, it is the provider's.
    FailureInStorm,
}

type Override = dyn Fn(&LlmError, Class) -> Class + Send + Sync;

/// The table from a failure to each layer's action: retry, fail over, count against the breaker.
///
/// The default is the [module's](self) table. [`overridden`](Self::overridden) changes rows for the layer that it is
/// given to. Clones share the override.
///
/// ```
/// use steadfast::{Classifier, ErrorKind, LlmError, classify::{Failover, Retry}};
///
/// let table = Classifier::default();
/// let class = table.classify(&LlmError::new(ErrorKind::InvalidRequest, "no such field"));
/// assert_eq!((class.retry, class.failover), (Retry::No, Failover::No));
///
/// // a product that would rather ask another model when one refuses
/// let table = Classifier::overridden(|error, mut class| {
///     if error.kind() == ErrorKind::Refusal {
///         class.failover = Failover::Yes;
///     }
///     class
/// });
/// assert_eq!(table.classify(&LlmError::new(ErrorKind::Refusal, "")).failover, Failover::Yes);
/// ```
#[derive(Clone, Default)]
pub struct Classifier {
    change: Option<Arc<Override>>,
}

impl Classifier {
    /// Creates a table that differs from the default by `change`, which gets the failure and its default row and
    /// returns the row to use.
    pub fn overridden(change: impl Fn(&LlmError, Class) -> Class + Send + Sync + 'static) -> Self {
        Self { change: Some(Arc::new(change)) }
    }

    /// Returns true if a refusal may be retried or sent to another tier. The default table does neither.
    #[doc(hidden)]
    pub fn acts_on_refusals(&self) -> bool {
        let class = self.classify(&LlmError::new(ErrorKind::Refusal, ""));
        class.retry != Retry::No || class.failover != Failover::IfRouted
    }

    /// Returns the row for this failure.
    pub fn classify(&self, error: &LlmError) -> Class {
        let class = row_of(error);
        match &self.change {
            Some(change) => change(error, class),
            None => class,
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.change.is_some() { "Classifier(overridden)" } else { "Classifier" })
    }
}

impl ErrorKind {
    /// Returns the weight of a failure of this kind by the default table.
    #[doc(hidden)]
    pub const fn circuit_counts(self) -> Count {
        row(self).circuit
    }
}

/// Returns the row of a failure. A request that the provider accepts with a 200 and then calls invalid is as likely the
/// provider's fault as the caller's: it is not repeated there, and another tier may be asked. The same holds for a
/// request that a circuit doubts. One that is called invalid without a reason gets one other opinion.
fn row_of(error: &LlmError) -> Class {
    let class = row(error.kind());
    match (error.kind(), error.status()) {
        // The provider has answered, and every other answer would find as little room.
        _ if error.reached_limit() == Some(&ReachedLimit::Memory) => {
            Class::new(Retry::No, Failover::No, Count::Neutral)
        }
        (ErrorKind::InvalidRequest, Some(status)) if status.is_success() => Class { failover: Failover::Yes, ..class },
        // The translation or the table of models is wrong here: neither the caller nor the provider is at fault.
        (ErrorKind::InvalidRequest, _) if !error.refused().is_empty() => {
            Class::new(Retry::Yes, Failover::Yes, Count::Neutral)
        }
        _ if error.is_lack() => Class::new(Retry::No, Failover::Yes, Count::Neutral),
        (ErrorKind::InvalidRequest, _) if error.is_doubted() => Class { failover: Failover::Yes, ..class },
        (ErrorKind::InvalidRequest, _) if error.is_unexplained() => {
            Class { failover: Failover::SecondOpinion, ..class }
        }
        // An outage, as that of a tier's own key. The circuit is for callers with other keys too.
        _ if error.is_of_worked_key() => Class::new(Retry::No, Failover::Yes, Count::Neutral),
        // The caller has to mend it. A key of the stack's must not pay for a caller without one.
        _ if error.is_callers_own() => Class::new(Retry::No, Failover::No, Count::Neutral),
        // Nothing was sent: the failure says nothing about the provider, and there is nothing to repeat.
        (ErrorKind::Timeout, _) if error.is_unsent() => Class::new(Retry::No, Failover::Yes, Count::Neutral),
        _ => class,
    }
}

/// Returns the default row of a kind. The rows follow the providers' documentation of errors and their own clients.
const fn row(kind: ErrorKind) -> Class {
    use Count::{Failure, FailureInStorm, Latch, LatchIfWorked, Neutral, Success};
    match kind {
        // The provider's limit on this account: the breaker only marks it throttled for the delay that came with the
        // error.
        ErrorKind::RateLimited => Class::new(Retry::Yes, Failover::Yes, Neutral),
        ErrorKind::Overloaded => Class::new(Retry::Yes, Failover::Yes, Failure),
        ErrorKind::Server | ErrorKind::Connect | ErrorKind::StreamBroken | ErrorKind::Other => {
            Class::new(Retry::Yes, Failover::Yes, Failure)
        }
        ErrorKind::Timeout => Class::new(Retry::OnceIfLast, Failover::Yes, Failure),
        ErrorKind::Malformed => Class::new(Retry::Once, Failover::Yes, Failure),
        ErrorKind::EmptyAnswer => Class::new(Retry::Once, Failover::Yes, Failure),
        ErrorKind::InvalidOutput => Class::new(Retry::No, Failover::Yes, Success),
        ErrorKind::CircuitOpen
        | ErrorKind::BulkheadFull
        | ErrorKind::Budget
        | ErrorKind::OutOfService
        | ErrorKind::Store
        | ErrorKind::Credentials
        | ErrorKind::Exhausted => Class::new(Retry::No, Failover::Yes, Neutral),
        // Every tier would refuse the same request under the same key.
        ErrorKind::IdempotencyConflict => Class::new(Retry::No, Failover::No, Neutral),
        ErrorKind::UnsupportedFeature => Class::new(Retry::No, Failover::Yes, Neutral),
        // A tier's share of the time may be over while other tiers have time reserved. Once the request's deadline has
        // passed, the fallback starts no tier.
        ErrorKind::Deadline => Class::new(Retry::No, Failover::Yes, Neutral),
        ErrorKind::QuotaExhausted => Class::new(Retry::No, Failover::Yes, Latch),
        ErrorKind::ContextLength => Class::new(Retry::No, Failover::LargerWindow, Success),
        ErrorKind::TooLarge => Class::new(Retry::No, Failover::Yes, Success),
        ErrorKind::ContentPolicy | ErrorKind::Refusal => Class::new(Retry::No, Failover::IfRouted, Success),
        ErrorKind::InvalidRequest => Class::new(Retry::No, Failover::No, FailureInStorm),
        // The key is ours, so the caller can mend nothing. It is alerted, and another tier serves meanwhile.
        ErrorKind::Auth => Class::new(Retry::No, Failover::Yes, LatchIfWorked),
        // The failure is about this request's words; another provider's filter may pass them.
        ErrorKind::NotFound | ErrorKind::Blocked => Class::new(Retry::No, Failover::Yes, Neutral),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_row_and_what_is_wrong_is_never_retried() {
        let table = Classifier::default();
        for kind in ErrorKind::ALL {
            let class = table.classify(&LlmError::new(*kind, ""));
            if kind.is_local() {
                assert_eq!(class.retry, Retry::No, "{kind}");
                assert_eq!(class.circuit, Count::Neutral, "{kind}");
            }
        }
        for kind in [
            ErrorKind::InvalidRequest,
            ErrorKind::Auth,
            ErrorKind::NotFound,
            ErrorKind::Blocked,
            ErrorKind::QuotaExhausted,
            ErrorKind::ContextLength,
            ErrorKind::ContentPolicy,
        ] {
            assert_eq!(row(kind).retry, Retry::No, "{kind}");
        }
    }

    #[test]
    fn the_table_of_the_documentation_is_the_one_in_force() {
        let retry = |retry| match retry {
            Retry::No => "no",
            Retry::Yes => "yes",
            Retry::Once => "once",
            Retry::OnceIfLast => "once, if no tier is left",
        };
        let failover = |failover| match failover {
            Failover::No => "no",
            Failover::Yes => "yes",
            Failover::LargerWindow => "one with a larger window",
            Failover::AfterAnother => "at a further tier",
            Failover::SecondOpinion => "one more, once",
            Failover::IfRouted => "if routed",
        };
        let circuit = |count| match count {
            Count::Failure => "failure",
            Count::Success => "success",
            Count::Neutral => "neutral",
            Count::Latch => "latch",
            Count::LatchIfWorked => "latch if the key has worked",
            Count::FailureInStorm => "failure in a storm",
        };
        let line = |kind: &ErrorKind| {
            let class = row(*kind);
            let (retry, failover, circuit) = (retry(class.retry), failover(class.failover), circuit(class.circuit));
            format!("| `{}` | {retry} | {failover} | {circuit} |", kind.name())
        };
        let written: Vec<&str> = include_str!("classify.md").lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(written, ErrorKind::ALL.iter().map(line).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_that_is_wrong_stops_at_once_unless_it_was_accepted_before() {
        let failover = |error: &LlmError| Classifier::default().classify(error).failover;
        let wrong = LlmError::new(ErrorKind::InvalidRequest, "");
        assert_eq!(failover(&wrong), Failover::No);
        assert_eq!(failover(&wrong.clone().with_status(http::StatusCode::BAD_REQUEST)), Failover::No);
        assert_eq!(failover(&wrong.clone().with_status(http::StatusCode::OK)), Failover::Yes);
        let mut unexplained = wrong.with_status(http::StatusCode::BAD_REQUEST);
        unexplained.note_unexplained();
        assert_eq!(failover(&unexplained), Failover::SecondOpinion);
    }
}
