//! The live check: a tiny call to each tier.

use std::time::Duration;

use steadfast::{Chat, ErrorKind, LlmError, LlmRequest, chat::Message, error::Reader};
use steadfast_stack::{Config, ConfigError, Provider, Retry, Stack, Tier};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::{table::Table, terminal::on_a_line};

/// The outcome of a tier's call.
pub(super) struct TierCheck {
    tier: String,
    outcome: Result<Duration, CheckError>,
}

enum CheckError {
    /// No call was made.
    Config(ConfigError),
    /// The call failed.
    Call(LlmError),
}

impl TierCheck {
    /// Returns whether the tier answered.
    pub(super) fn works(&self) -> bool {
        match &self.outcome {
            Ok(_) => true,
            Err(CheckError::Config(_)) => false,
            Err(CheckError::Call(error)) => answered(error.kind()),
        }
    }
}

/// Returns whether a failure proves that the model works: it spent its few tokens before the first word.
fn answered(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::EmptyAnswer)
}

/// Calls each tier once, without retry or fallback, and one after the other, so that latencies are comparable.
pub(super) async fn check(config: &Config) -> Vec<TierCheck> {
    let mut checks = Vec::new();
    // People need no live check.
    for tier in config.tiers.iter().filter(|tier| tier.provider != Provider::Handoff).flat_map(Tier::endpoints) {
        let begun = Instant::now();
        let outcome = match alone(config, &tier) {
            Err(error) => Err(CheckError::Config(error)),
            Ok(stack) => {
                let chat = Chat::new([Message::user("Say ok.")]).max_tokens(16);
                match stack.service().oneshot(LlmRequest::from(chat)).await {
                    Ok(response) => response.collect().await.map(|_| begun.elapsed()).map_err(CheckError::Call),
                    Err(error) => Err(CheckError::Call(error)),
                }
            }
        };
        checks.push(TierCheck { tier: tier.name.clone(), outcome });
    }
    checks
}

/// Returns a stack of this tier alone.
fn alone(config: &Config, tier: &Tier) -> Result<Stack, ConfigError> {
    let tier = Tier { retry: Some(Retry { max_attempts: Some(1), ..Retry::default() }), ..tier.clone() };
    let (families, same_model) = (config.families.clone(), config.same_model.clone());
    Stack::from_config(Config { tiers: vec![tier], timeout: config.timeout, families, same_model, ..Config::default() })
}

/// Returns a table with a row for each tier.
pub(super) fn table(checks: &[TierCheck]) -> String {
    let mut table = Table::new(["tier", "key", "reachable", "model", "latency", "problem"]);
    for TierCheck { tier, outcome } in checks {
        let yes_no = |yes: bool| if yes { "yes" } else { "NO" };
        let unknown = "?";
        let (key, reachable, model, latency, problem) = match outcome {
            Ok(took) => ("accepted", "yes", "yes", format!("{} ms", took.as_millis()), String::new()),
            Err(CheckError::Config(error)) => ("MISSING", unknown, unknown, "-".to_owned(), error.to_string()),
            Err(CheckError::Call(error)) => {
                let kind = error.kind();
                let reached = !matches!(kind, ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Credentials);
                let key = match kind {
                    ErrorKind::Auth => "REFUSED",
                    ErrorKind::Credentials => "NO TOKEN",
                    _ if reached => "accepted",
                    _ => unknown,
                };
                let model = match kind {
                    ErrorKind::NotFound => "NO",
                    _ if answered(kind) => "yes",
                    _ => unknown,
                };
                (key, yes_no(reached), model, "-".to_owned(), error.for_reader(Reader::Operator).to_string())
            }
        };
        table.row([
            tier.clone(),
            key.to_owned(),
            reachable.to_owned(),
            model.to_owned(),
            latency,
            // The message may contain a provider's words.
            on_a_line(problem.lines().next().unwrap_or_default()),
        ]);
    }
    table.to_string()
}
