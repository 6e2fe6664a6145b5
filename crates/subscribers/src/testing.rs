//! Events as the layers send them, for the subscribers' tests.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use steadfast::{
    ErrorKind,
    chat::Usage,
    events::{Comparison, ComparisonSide, RequestEnded, RequestOutcome},
    ledger::{Attempt, Next},
    prices::Usd,
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a stream that this leaf served at its first attempt: a second to the first token, three in all.
pub(super) fn answered(tier: &str, provider: &str, model: &str) -> RequestEnded {
    RequestEnded {
        request_id: None,
        status: None,
        task: None,
        feature: Some("chat".into()),
        caller: None,
        chain: None,
        tier: Some(tier.into()),
        provider: Some(provider.into()),
        model: Some(model.into()),
        served_model: None,
        route: None,
        outcome: RequestOutcome::Answered,
        failures: None,
        stream: true,
        possible_repeat: false,
        degraded: None,
        first_token: SECOND,
        served_in: SECOND,
        took: SECOND * 3,
        usage: Some(Usage::new(1000, 100)),
        cost: Some(Usd::from_nanos(4_500_000)),
        cost_without_route: None,
        delivered: None,
        cached: None,
        at: Instant::now(),
    }
}

/// Returns an attempt of half a second that failed.
pub(super) fn failed(tier: &str, kind: ErrorKind, next: Next) -> Attempt {
    Attempt {
        tier: Some(tier.into()),
        deployment: None,
        provider: None,
        model: None,
        begun: Instant::now(),
        took: SECOND / 2,
        failure: Some(kind),
        status: None,
        message: "".into(),
        retry_after: None,
        timeout: None,
        usage: None,
        next,
    }
}

/// Returns a mirrored request that the primary answered in a second, and whose candidate, three times as expensive,
/// ended like this.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only the metrics count it"))]
pub(super) fn mirrored(candidate: RequestOutcome) -> Arc<Comparison> {
    let cost = |nanos| Some(Usd::from_nanos(nanos));
    let answered = candidate == RequestOutcome::Answered;
    let primary = ComparisonSide {
        outcome: RequestOutcome::Answered,
        first_token: Some(SECOND),
        cost: cost(1_000_000),
        ..ComparisonSide::nothing_yet()
    };
    let candidate = match answered {
        true => ComparisonSide { cost: cost(3_000_000), ..primary.clone() },
        false => ComparisonSide { outcome: candidate, ..ComparisonSide::nothing_yet() },
    };
    Arc::new(Comparison {
        feature: Some("chat".into()),
        session: None,
        primary,
        candidate,
        similarity: answered.then_some(1.0),
        same_tools: answered.then_some(true),
        agrees: answered.then_some(true),
        texts: None,
        at: Instant::now(),
    })
}
