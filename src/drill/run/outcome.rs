//! How a request ended, as its caller saw it.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::traffic::DrillRequest;
use crate::{
    ErrorKind, LlmError, LlmResponse,
    config::{Config, Session, Tier},
};

/// A caller's patience with an answer that has begun and does not end.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a request ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// To the first token, where there was one.
    pub(super) first_token: Option<Duration>,
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// A whole answer, of the tier at this place.
    Answered { tier: usize, degraded: bool, cost: f64 },
    /// A task that the tier at this place has written down.
    HandedOff { tier: usize },
    /// An error that it deserves.
    Refused,
    /// Any other; `cut` where its answer had begun.
    Lost { cut: bool },
}

/// Waits for the whole answer.
pub(super) async fn of(
    answer: impl Future<Output = Result<LlmResponse, LlmError>>,
    ask: &DrillRequest,
    config: &Config,
) -> Outcome {
    let begun = Instant::now();
    let until = begun + PATIENCE;
    let failed = |first_token: Option<Duration>, error: Option<LlmError>| {
        let end = match error {
            Some(error) if is_justified(ask, &error, config) => End::Refused,
            _ => End::Lost { cut: first_token.is_some() },
        };
        Outcome { first_token, end }
    };
    let response = match timeout_at(until, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return failed(None, Some(error)),
        Err(_) => return failed(None, None),
    };
    let first_token = Some(begun.elapsed());
    let served = response.served_by();
    // What the cache gives again says who made it, and not in which tier.
    let made_it = |tier: &Tier| {
        let model = tier.model.as_deref().unwrap_or(&tier.name);
        (served.provider, served.model) == (Some(tier.provider.name()), Some(model))
    };
    let is_of = |tier: &Tier| served.tier.map_or_else(|| made_it(tier), |name| tier.name == name);
    let tier = config.tiers.iter().position(is_of).unwrap_or_default();
    let (degraded, handed_off) = (response.degraded().is_some(), response.task_id().is_some());
    let (price, known) = (response.price().cloned(), response.cost());
    match timeout_at(until, response.collect()).await {
        Ok(Ok(message)) => {
            let usage = message.usage.as_ref();
            let cost = known.or_else(|| Some(price?.cost(usage?))).map_or(0.0, |cost| cost.dollars());
            let end = if handed_off { End::HandedOff { tier } } else { End::Answered { tier, degraded, cost } };
            Outcome { first_token, end }
        }
        Ok(Err(error)) => failed(first_token, Some(error)),
        Err(_) => failed(first_token, None),
    }
}

/// Whether an error is the request's own doing, or what the configuration says is to be refused.
fn is_justified(ask: &DrillRequest, error: &LlmError, config: &Config) -> bool {
    let pinned = ask.session.is_some() && config.fallback.session == Some(Session::Pin);
    match error.kind() {
        _ if ask.wrong => true,
        // What may be spent is spent.
        ErrorKind::Budget => true,
        // Its feature's own limits hold back what runs away.
        ErrorKind::BulkheadFull => ask.runaway,
        // Better a clear failure than another model in the middle of a conversation: so it is configured.
        _ => pinned,
    }
}
