//! The table from a recorded failure to the fault that plays it again.

use std::time::Duration;

use crate::scenario::file::FaultSpec;
use steadfast::ErrorKind;
use steadfast_stack::Span;

/// The tokens of an answer before it breaks: the log does not count them.
pub(crate) const BROKEN_AFTER: u32 = 4;

/// Returns the fault that fails a call in this way; `None` for a refusal on this side, which called nobody.
///
/// An answer of the wrong shape is played as one that cannot be read, a model's refusal as one by the policy, ended
/// credentials as a refused key, and a failure without a name as the provider's.
pub(super) fn fault(kind: ErrorKind, status: Option<u16>, retry_after: Option<Duration>) -> Option<FaultSpec> {
    // A page of this status, if it means the same.
    let page = |kind: ErrorKind| {
        let means = |status: &u16| http_kind(*status) == Some(kind);
        status.filter(means).map(FaultSpec::Status)
    };
    Some(match kind {
        ErrorKind::RateLimited => match retry_after {
            Some(wait) => FaultSpec::RateLimitedFor(Span(wait)),
            None => FaultSpec::RateLimited,
        },
        ErrorKind::Overloaded => match status {
            Some(429) => FaultSpec::ComeBackLater,
            Some(503) => FaultSpec::Unavailable,
            _ => FaultSpec::Overloaded,
        },
        ErrorKind::Timeout => page(kind).unwrap_or(FaultSpec::Hang),
        ErrorKind::Connect => FaultSpec::Refused,
        ErrorKind::Server => match status {
            Some(502) => FaultSpec::BadGateway,
            Some(500) | None => FaultSpec::ServerError,
            Some(_) => page(kind).unwrap_or(FaultSpec::ServerError),
        },
        ErrorKind::StreamBroken => FaultSpec::CutAfter(BROKEN_AFTER),
        ErrorKind::Malformed | ErrorKind::InvalidOutput => FaultSpec::Html,
        ErrorKind::EmptyAnswer => FaultSpec::Empty,
        ErrorKind::QuotaExhausted => FaultSpec::QuotaExhausted,
        ErrorKind::ContextLength => FaultSpec::ContextLength,
        ErrorKind::TooLarge => FaultSpec::Status(413),
        ErrorKind::ContentPolicy | ErrorKind::Refusal => FaultSpec::ContentFilter,
        ErrorKind::InvalidRequest => FaultSpec::BadRequest,
        ErrorKind::Auth | ErrorKind::Credentials => FaultSpec::Unauthorized,
        ErrorKind::NotFound => FaultSpec::Status(404),
        ErrorKind::Blocked => FaultSpec::Status(403),
        kind if kind.is_local() => return None,
        // Also a kind that is younger than this table.
        _ => FaultSpec::ServerError,
    })
}

/// Returns the kind of a page with this status, where a provider may send one.
fn http_kind(status: u16) -> Option<ErrorKind> {
    let status = http::StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 300)?;
    Some(ErrorKind::of_page(status, false, true))
}

/// Returns the fault of a stream that ended in this way after its first token.
pub(super) fn late_fault(kind: ErrorKind) -> FaultSpec {
    match kind {
        ErrorKind::Timeout => FaultSpec::StallAfter(BROKEN_AFTER),
        _ => FaultSpec::CutAfter(BROKEN_AFTER),
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use steadfast::{LlmRequest, providers::Simulated};

    /// The kinds whose fault fails in another way, as the table says.
    const PLAYED_AS: [(ErrorKind, ErrorKind); 4] = [
        (ErrorKind::InvalidOutput, ErrorKind::Malformed),
        (ErrorKind::Refusal, ErrorKind::ContentPolicy),
        (ErrorKind::Credentials, ErrorKind::Auth),
        (ErrorKind::Other, ErrorKind::Server),
    ];

    #[tokio::test(start_paused = true)]
    async fn every_kind_fails_again_as_it_did_and_a_refusal_on_this_side_is_none() {
        for kind in ErrorKind::ALL {
            let Some(spec) = fault(*kind, None, None) else {
                assert!(kind.is_local(), "{kind:?} has no row");
                continue;
            };
            let request = LlmRequest::prompt("hello").with_extension(spec.fault());
            let call = Simulated::new("m").oneshot(request);
            let failed = tokio::time::timeout(Duration::from_secs(3600), call).await;
            let met = failed.map_or(ErrorKind::Timeout, |answer| answer.unwrap_err().kind());
            let played = PLAYED_AS.iter().find(|(own, _)| own == kind).map_or(*kind, |(_, other)| *other);
            assert_eq!(met, played, "{kind:?} as {spec}");
        }
    }

    #[test]
    fn a_status_and_a_wait_are_kept_where_they_mean_the_same() {
        let with = |kind, status| fault(kind, Some(status), None).unwrap();
        assert_eq!(with(ErrorKind::Timeout, 504), FaultSpec::Status(504));
        assert_eq!(with(ErrorKind::Timeout, 200), FaultSpec::Hang);
        assert_eq!(with(ErrorKind::Server, 520), FaultSpec::Status(520));
        assert_eq!(with(ErrorKind::Server, 200), FaultSpec::ServerError);
        assert_eq!(with(ErrorKind::Overloaded, 429), FaultSpec::ComeBackLater);
        let wait = Duration::from_secs(7);
        let limited = fault(ErrorKind::RateLimited, Some(429), Some(wait));
        assert_eq!(limited, Some(FaultSpec::RateLimitedFor(Span(wait))));
    }
}
