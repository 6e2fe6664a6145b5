//! What the file says of failures, as the table that the layers ask.

use http::StatusCode;

use super::{Config, OnError};
use crate::{
    Classifier, ErrorKind, LlmError,
    classify::{Class, Count, Failover},
};

/// The table of what goes on to the next tier and what counts against a circuit, with the file's `fallback.on_error` in
/// it: for the fallback, and for the circuit breaker of each tier.
///
/// Without `on_error` it is the default table. With it, a failure that the list names goes on to the next tier and
/// counts against the circuit; any other does neither. So it is the list alone that takes a model away. What is refused
/// on this side (an open circuit, a full bulkhead) stays as it is, and so does what a failure means that only some tiers
/// can help with: a request that is too long goes to larger windows unless its kind is named.
pub fn classifier(config: &Config) -> Classifier {
    match &config.fallback.on_error {
        None => Classifier::default(),
        Some(listed) => {
            let listed = listed.clone();
            Classifier::overridden(move |error, class| listed_only(&listed, error, class))
        }
    }
}

fn listed_only(listed: &[OnError], error: &LlmError, mut class: Class) -> Class {
    let kind = error.kind();
    if kind.is_local() {
        return class;
    }
    let named = listed.iter().any(|error| matches!(error, OnError::Kind(name) if name == kind.name()));
    let by_status = listed.iter().any(|one| matches!(one, OnError::Status(status) if has_status(error, *status)));
    if !named && !by_status {
        class.failover = Failover::No;
        class.circuit = match class.circuit {
            Count::Failure | Count::FailureInStorm | Count::Latch | Count::LatchIfWorked => Count::Neutral,
            other => other,
        };
        return class;
    }
    class.failover = match class.failover {
        Failover::LargerWindow | Failover::IfRouted if !named => class.failover,
        _ => Failover::Yes,
    };
    if class.circuit == Count::Neutral {
        class.circuit = Count::Failure;
    }
    class
}

/// Whether a failure came with this status or, where it had none, would have if a proxy had told of it.
fn has_status(error: &LlmError, status: u16) -> bool {
    match error.status().map(|status| status.as_u16()).filter(|status| *status >= 400) {
        Some(own) => own == status,
        None => usual_statuses(error.kind()).contains(&status),
    }
}

/// The statuses that a kind of failure usually has.
fn usual_statuses(kind: ErrorKind) -> &'static [u16] {
    match kind {
        ErrorKind::RateLimited => &[429],
        ErrorKind::Overloaded => &[503, 529],
        ErrorKind::Timeout => &[408, 504],
        ErrorKind::Connect => &[502, 503],
        ErrorKind::Server => &[500, 502],
        ErrorKind::StreamBroken | ErrorKind::Malformed | ErrorKind::EmptyAnswer | ErrorKind::InvalidOutput => &[502],
        ErrorKind::QuotaExhausted => &[402, 429],
        ErrorKind::TooLarge => &[413],
        ErrorKind::InvalidRequest => &[400, 422],
        ErrorKind::ContextLength | ErrorKind::ContentPolicy => &[400],
        ErrorKind::Auth => &[401, 403],
        ErrorKind::NotFound => &[404],
        ErrorKind::Other => &[500],
        _ => &[],
    }
}

/// The failures of a kind that the file's table may tell apart: without a status and, where it lists statuses, with each
/// that the kind usually has.
pub(super) fn samples(kind: ErrorKind, config: &Config) -> Vec<(Option<u16>, LlmError)> {
    let by_status = config.fallback.on_error.iter().flatten().any(|error| matches!(error, OnError::Status(_)));
    let statuses = if by_status { usual_statuses(kind) } else { &[] };
    let with =
        |status: &u16| Some((Some(*status), LlmError::new(kind, "").with_status(StatusCode::from_u16(*status).ok()?)));
    std::iter::once((None, LlmError::new(kind, ""))).chain(statuses.iter().filter_map(with)).collect()
}
