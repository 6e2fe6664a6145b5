#![doc = include_str!("classify.md")]

use std::{fmt, sync::Arc};

use crate::{ErrorKind, LlmError};

/// What the layers do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Class {
    /// Whether the same provider is asked again.
    pub retry: Retry,
    /// Whether the next tier is asked.
    pub failover: Failover,
    /// What the failure means to a circuit breaker.
    pub circuit: Count,
}

impl Class {
    /// These three answers.
    pub const fn new(retry: Retry, failover: Failover, circuit: Count) -> Self {
        Self { retry, failover, circuit }
    }
}

/// Whether the same provider is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Never: the same request fails again.
    No,
    /// Yes, within the attempts, the budget and the deadline.
    Yes,
    /// At most once.
    Once,
    /// At most once, and only where no other tier is left: what is silent is not asked again while there is
    /// somewhere else to go.
    OnceIfLast,
}

/// Whether the next tier is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failover {
    /// Never: it would fail there too.
    No,
    /// Yes, at once.
    Yes,
    /// Only at a tier with a larger context window.
    LargerWindow,
    /// At a request's first tier only if that has ever answered: then a refused key is the provider's outage, else a mistake
    /// of the configuration. At a further tier always.
    IfWorked,
    /// Only on a route that is configured for this kind.
    IfRouted,
}

/// What a failure means to a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Count {
    /// The provider is at fault.
    Failure,
    /// It proves that the provider lives.
    Success,
    /// It says nothing about the provider.
    Neutral,
    /// The provider refuses us until something is mended (quota): the circuit opens at once and looks again by
    /// itself.
    Latch,
    /// The key was refused: a latch if the key has ever worked here, else a mistake of the caller and neutral.
    LatchIfWorked,
    /// The caller's mistake, unless many different requests meet it at once: then it is the provider's.
    FailureInStorm,
}

type Override = dyn Fn(&LlmError, Class) -> Class + Send + Sync;

/// The table from a failure to what each layer does: retry here? fail over? count against the breaker?
///
/// The default is the [module's](self) table; [`overridden`](Self::overridden) changes rows of it for the layer that it is
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
    /// The default table with this change: the function sees the failure and its row, and gives the row to use.
    pub fn overridden(change: impl Fn(&LlmError, Class) -> Class + Send + Sync + 'static) -> Self {
        Self { change: Some(Arc::new(change)) }
    }

    /// Whether a refusal is retried or sent to another tier of its own accord, as the default table has it for none.
    pub(crate) fn acts_on_refusals(&self) -> bool {
        let class = self.classify(&LlmError::new(ErrorKind::Refusal, ""));
        class.retry != Retry::No || class.failover != Failover::IfRouted
    }

    /// What the layers do about this failure.
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
    /// What a failure of this kind says of the provider, by the default table.
    pub(crate) const fn circuit_counts(self) -> Count {
        row(self).circuit
    }
}

/// The row of a failure. What a provider has accepted with a 200 and calls invalid then is as likely its own trouble as the
/// caller's mistake: it is not repeated there, and may be asked elsewhere. So is what a circuit has reason to doubt.
fn row_of(error: &LlmError) -> Class {
    let class = row(error.kind());
    match (error.kind(), error.status()) {
        (ErrorKind::InvalidRequest, Some(status)) if status.is_success() => Class { failover: Failover::Yes, ..class },
        // The translation's mistake, or a table's that does not know the model: neither the caller's nor the provider's.
        (ErrorKind::InvalidRequest, _) if error.refused().is_some() => {
            Class::new(Retry::Yes, Failover::Yes, Count::Neutral)
        }
        (ErrorKind::InvalidRequest, _) if error.is_doubted() => Class { failover: Failover::Yes, ..class },
        // Nothing was sent: that says nothing of the provider, and there is nothing to do again.
        (ErrorKind::Timeout, _) if error.is_unsent() => Class::new(Retry::No, Failover::Yes, Count::Neutral),
        _ => class,
    }
}

/// The default table. Its rows follow what the providers document of their errors and what their own clients do.
const fn row(kind: ErrorKind) -> Class {
    use Count::{Failure, FailureInStorm, Latch, LatchIfWorked, Neutral, Success};
    match kind {
        // A limit of ours: the breaker marks the provider throttled by the delay that came with it, no more.
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
        | ErrorKind::Exhausted => Class::new(Retry::No, Failover::Yes, Neutral),
        // The same request under the same key is refused everywhere.
        ErrorKind::IdempotencyConflict => Class::new(Retry::No, Failover::No, Neutral),
        ErrorKind::UnsupportedFeature => Class::new(Retry::No, Failover::Yes, Neutral),
        // A tier's own slice of the time may be over while others have time kept back for them; where the request's is
        // over, no tier is begun.
        ErrorKind::Deadline => Class::new(Retry::No, Failover::Yes, Neutral),
        ErrorKind::QuotaExhausted => Class::new(Retry::No, Failover::Yes, Latch),
        ErrorKind::ContextLength => Class::new(Retry::No, Failover::LargerWindow, Success),
        ErrorKind::TooLarge => Class::new(Retry::No, Failover::Yes, Success),
        ErrorKind::ContentPolicy | ErrorKind::Refusal => Class::new(Retry::No, Failover::IfRouted, Success),
        ErrorKind::InvalidRequest => Class::new(Retry::No, Failover::No, FailureInStorm),
        ErrorKind::Auth => Class::new(Retry::No, Failover::IfWorked, LatchIfWorked),
        // It is about this request's words; what stands before another provider may let them pass.
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
            Failover::IfWorked => "if the key has worked, or at a further tier",
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
        assert_eq!(failover(&wrong.with_status(http::StatusCode::OK)), Failover::Yes);
    }
}
