//! The end of a request, as its caller saw it.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::traffic::DrillRequest;
use steadfast::{ErrorKind, LlmError, LlmResponse};
use steadfast_stack::{Config, Session, Tier};

/// The longest time that a caller waits for the end of an answer.
const PATIENCE: Duration = Duration::from_secs(600);

/// The end of a request.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The time to the first token, if there was one.
    pub(super) first_token: Option<Duration>,
    /// The deployment that answered, if its tier has several.
    pub(super) deployment: Option<String>,
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// A whole answer of the tier at this index.
    Answered { tier: usize, degraded: bool, cost: f64 },
    /// A task that the tier at this index stored.
    HandedOff { tier: usize },
    /// A justified error.
    Refused,
    /// Any other error; `cut` if its answer had begun.
    Lost { cut: bool },
}

/// Waits for the whole answer.
pub(super) async fn of(
    answer: impl Future<Output = Result<LlmResponse, LlmError>>,
    ask: &DrillRequest,
    config: &Config,
) -> Outcome {
    let begun = Instant::now();
    let until = begun + ask.leaves_after.unwrap_or(PATIENCE).min(PATIENCE);
    let failed = |first_token: Option<Duration>, error: Option<LlmError>| {
        let end = match error {
            Some(error) if is_justified(ask, &error, config) => End::Refused,
            // Its caller has left.
            None if ask.leaves_after.is_some() => End::Refused,
            _ => End::Lost { cut: first_token.is_some() },
        };
        Outcome { first_token, deployment: None, end }
    };
    let response = match timeout_at(until, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return failed(None, Some(error)),
        Err(_) => return failed(None, None),
    };
    let first_token = Some(begun.elapsed());
    let served = response.served_by();
    // A cached answer names its model and not its tier.
    let made_it = |tier: &Tier| {
        let model = tier.model.as_deref().unwrap_or(&tier.name);
        (served.provider, served.model) == (Some(tier.provider.name()), Some(model))
    };
    let is_of = |tier: &Tier| served.tier.map_or_else(|| made_it(tier), |name| tier.name == name);
    let deployment = served.deployment.filter(|_| response.cached().is_none()).map(str::to_owned);
    let tier = config.tiers.iter().position(is_of).unwrap_or_default();
    let (degraded, handed_off) = (response.degraded().is_some(), response.task_id().is_some());
    let (price, known) = (response.price().cloned(), response.cost());
    match timeout_at(until, response.collect()).await {
        Ok(Ok(message)) => {
            let usage = message.usage.as_ref();
            let cost = known.or_else(|| Some(price?.cost(usage?))).map_or(0.0, |cost| cost.dollars());
            let end = if handed_off { End::HandedOff { tier } } else { End::Answered { tier, degraded, cost } };
            Outcome { first_token, deployment, end }
        }
        Ok(Err(error)) => failed(first_token, Some(error)),
        Err(_) => failed(first_token, None),
    }
}

/// Returns whether an error is justified by the request itself or by the configuration.
fn is_justified(ask: &DrillRequest, error: &LlmError, config: &Config) -> bool {
    let pinned = ask.session.is_some() && config.fallback.session == Some(Session::Pin);
    match error.kind() {
        _ if ask.wrong => true,
        // The budget is used up.
        ErrorKind::Budget => true,
        // The feature's own limits hold back a runaway feature.
        ErrorKind::BulkheadFull => ask.runaway,
        // A configured preference for a clear failure over another model in the middle of a conversation.
        _ => pinned,
    }
}
