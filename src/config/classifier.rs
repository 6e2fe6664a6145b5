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
    let own_timeout = kind == ErrorKind::Timeout && status_of(error).is_none();
    let named = listed.iter().any(|error| match error {
        OnError::Kind(name) => name == kind.name(),
        OnError::OwnTimeout => own_timeout,
        OnError::Status(_) => false,
    });
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
    match status_of(error) {
        Some(own) => own == status,
        None => usual_statuses(error.kind()).contains(&status),
    }
}

/// The status that tells of the failure. One inside of a 200 has none.
fn status_of(error: &LlmError) -> Option<u16> {
    error.status().map(|status| status.as_u16()).filter(|status| *status >= 400)
}

/// The statuses that a kind of failure usually has.
fn usual_statuses(kind: ErrorKind) -> &'static [u16] {
    match kind {
        ErrorKind::RateLimited => &[429],
        ErrorKind::Overloaded => &[503, 529],
        ErrorKind::Timeout => &[408, 504],
        ErrorKind::Connect => &[502, 503],
        ErrorKind::Server => &[500, 502, 520],
        ErrorKind::StreamBroken | ErrorKind::Malformed | ErrorKind::EmptyAnswer | ErrorKind::InvalidOutput => &[502],
        ErrorKind::QuotaExhausted => &[402, 429],
        ErrorKind::TooLarge => &[413],
        ErrorKind::InvalidRequest => &[400, 422],
        ErrorKind::ContextLength | ErrorKind::ContentPolicy => &[400],
        ErrorKind::Auth => &[401, 403],
        ErrorKind::NotFound => &[404],
        ErrorKind::Blocked => &[403],
        ErrorKind::Other => &[500],
        _ => &[],
    }
}

/// The failures of a kind that the file's table may tell apart: without a status and, where it lists statuses, with each
/// that the kind usually has.
pub(super) fn samples(kind: ErrorKind, config: &Config) -> Vec<(Option<u16>, LlmError)> {
    let apart = |error: &OnError| matches!(error, OnError::Status(_) | OnError::OwnTimeout);
    let by_status = config.fallback.on_error.iter().flatten().any(apart);
    let statuses = if by_status { usual_statuses(kind) } else { &[] };
    let with =
        |status: &u16| Some((Some(*status), LlmError::new(kind, "").with_status(StatusCode::from_u16(*status).ok()?)));
    std::iter::once((None, LlmError::new(kind, ""))).chain(statuses.iter().filter_map(with)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;

    /// What a list makes of a failure with or without a status.
    fn class(on_error: &str, kind: ErrorKind, status: Option<u16>) -> Class {
        let text = format!("tiers: [{{ name: main, provider: simulated }}]\nfallback: {{ on_error: {on_error} }}");
        let config = Config::from_str(&text, Format::Yaml).unwrap();
        let error = LlmError::new(kind, "");
        let error = match status {
            Some(status) => error.with_status(StatusCode::from_u16(status).unwrap()),
            None => error,
        };
        classifier(&config).classify(&error)
    }

    #[test]
    fn only_what_is_listed_goes_on_and_counts() {
        let list = "[429, 500, 502, 503, timeout]";
        for (kind, status, goes_on) in [
            (ErrorKind::RateLimited, Some(429), true),
            (ErrorKind::Server, Some(500), true),
            (ErrorKind::Server, Some(520), false),
            (ErrorKind::Overloaded, Some(503), true),
            (ErrorKind::Overloaded, Some(529), false),
            // In a stream that began with 200.
            (ErrorKind::Overloaded, Some(200), true),
            (ErrorKind::Connect, None, true),
            (ErrorKind::StreamBroken, None, true),
            (ErrorKind::Timeout, None, true),
            (ErrorKind::Timeout, Some(504), true),
            (ErrorKind::Timeout, Some(408), true),
            (ErrorKind::Auth, Some(401), false),
            (ErrorKind::QuotaExhausted, Some(402), false),
            (ErrorKind::InvalidRequest, Some(400), false),
        ] {
            let class = class(list, kind, status);
            let (failover, count) =
                if goes_on { (Failover::Yes, Count::Failure) } else { (Failover::No, Count::Neutral) };
            assert_eq!((class.failover, class.circuit), (failover, count), "{kind} {status:?}");
        }
    }

    #[test]
    fn a_timeout_of_our_own_is_not_one_that_a_provider_tells_of() {
        for (list, status, goes_on) in [
            ("[own_timeout]", None, true),
            ("[own_timeout]", Some(504), false),
            ("[own_timeout, 504]", Some(504), true),
            ("[504]", None, true),
            ("[500]", None, false),
        ] {
            let failover = if goes_on { Failover::Yes } else { Failover::No };
            assert_eq!(class(list, ErrorKind::Timeout, status).failover, failover, "{list} {status:?}");
        }
    }

    #[test]
    fn a_refusal_on_this_side_goes_on_whatever_is_listed() {
        for kind in ErrorKind::ALL.iter().filter(|kind| kind.is_local()) {
            let default = Classifier::default().classify(&LlmError::new(*kind, ""));
            assert_eq!(class("[]", *kind, None), default, "{kind}");
        }
    }

    #[test]
    fn a_kind_that_is_named_goes_anywhere_and_one_that_has_the_status_where_it_helps() {
        assert_eq!(class("[refusal]", ErrorKind::Refusal, None).failover, Failover::Yes);
        assert_eq!(class("[context_length]", ErrorKind::ContextLength, Some(400)).failover, Failover::Yes);
        assert_eq!(class("[400]", ErrorKind::ContextLength, Some(400)).failover, Failover::LargerWindow);
        assert_eq!(class("[400]", ErrorKind::ContentPolicy, Some(400)).failover, Failover::IfRouted);
        assert_eq!(class("[400]", ErrorKind::InvalidRequest, Some(400)).failover, Failover::Yes);
        assert_eq!(class("[401]", ErrorKind::Auth, Some(401)).failover, Failover::Yes);
    }

    #[test]
    fn without_a_list_the_table_is_the_default() {
        let table = classifier(&Config::default());
        for kind in ErrorKind::ALL {
            let error = LlmError::new(*kind, "");
            assert_eq!(table.classify(&error), Classifier::default().classify(&error));
        }
    }
}
