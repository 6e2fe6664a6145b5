//! Events as the layers send them, for the subscribers' tests.

use std::time::Duration;

use tokio::time::Instant;

use super::{RequestEnded, RequestOutcome};
use crate::{
    ErrorKind,
    chat::Usage,
    ledger::{Attempt, Next},
    prices::Usd,
};

const SECOND: Duration = Duration::from_secs(1);

/// A stream that this leaf served at its first attempt: a second to the first token, three in all.
pub(super) fn answered(tier: &str, provider: &str, model: &str) -> RequestEnded {
    RequestEnded {
        feature: Some("chat".into()),
        tier: Some(tier.into()),
        provider: Some(provider.into()),
        model: Some(model.into()),
        route: None,
        outcome: RequestOutcome::Answered,
        failures: None,
        stream: true,
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

/// An attempt of half a second that failed.
pub(super) fn failed(tier: &str, kind: ErrorKind, next: Next) -> Attempt {
    Attempt {
        tier: Some(tier.into()),
        provider: None,
        model: None,
        begun: Instant::now(),
        took: SECOND / 2,
        failure: Some(kind),
        status: None,
        message: String::new(),
        retry_after: None,
        usage: None,
        next,
    }
}
