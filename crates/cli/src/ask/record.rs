//! A request's decision record, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use steadfast::{
    Attempt, LlmError, LlmResponse,
    chat::{Message, Usage},
    error::Reader,
};
use steadfast_stack::TierInfo;

/// Returns the decision record, a line for each step.
pub(super) fn text(attempts: &[Attempt]) -> String {
    attempts.iter().enumerate().fold(String::new(), |mut lines, (place, attempt)| {
        let _ = writeln!(lines, "{:>2}. {attempt}", place + 1);
        lines
    })
}

/// Returns the summary: the tier that answered, the tokens and the cost.
pub(super) fn summary(response: &LlmResponse) -> String {
    let mut line = format!("served by {}", response.served_by());
    if let Some(degraded) = response.degraded() {
        let _ = write!(line, "; degraded to level {} ({})", degraded.level, degraded.reason);
    }
    if let Some(usage) = response.usage() {
        let _ = write!(line, "; {} tokens in, {} out", usage.input, usage.output);
    }
    if let Some(cost) = response.cost() {
        let _ = write!(line, "; {cost}");
    }
    for note in response.notes() {
        let _ = write!(line, "\nnote: {note}");
    }
    line
}

/// Adds the tier that answered to the object.
pub(super) fn served(object: &mut Value, response: &LlmResponse, tiers: &[TierInfo], explain: bool) {
    let served = response.served_by();
    object["task_id"] = json!(response.task_id());
    object["served_by"] = json!({
        "tier": served.tier,
        "tier_number": number(served.tier, tiers),
        "provider": served.provider,
        "model": served.model,
        "attempts": served.attempts,
    });
    object["degraded"] = json!(response.degraded());
    object["cost_usd"] = json!(response.cost().map(steadfast::prices::Usd::dollars));
    object["notes"] = json!(response.notes());
    if explain {
        object["record"] = steps(response.attempts(), tiers);
    }
}

/// Returns a tier's number in the configuration, from 1.
fn number(tier: Option<&str>, tiers: &[TierInfo]) -> Option<usize> {
    tiers.iter().position(|info| Some(&*info.name) == tier).map(|place| place + 1)
}

/// Adds the answer to the object.
pub(super) fn answer(object: &mut Value, message: &Message) {
    object["text"] = message.text().into();
    object["usage"] =
        json!(message.usage.map(|Usage { input, output, cache_read, cache_write, reasoning, .. }| {
            json!({
                "input": input,
                "output": output,
                "cache_read": cache_read,
                "cache_write": cache_write,
                "reasoning": reasoning,
            })
        }));
}

/// Adds the failure to the object.
pub(super) fn failed(object: &mut Value, error: &LlmError, tiers: &[TierInfo], explain: bool) {
    object["error"] = json!({
        "kind": error.kind().name(),
        "message": error.for_reader(Reader::Operator).to_string(),
        "status": error.status().map(|status| status.as_u16()),
        "retry_after_ms": error.retry_after().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
    });
    if explain {
        object["record"] = steps(error.attempts(), tiers);
    }
}

fn steps(attempts: &[Attempt], tiers: &[TierInfo]) -> Value {
    let step = |attempt: &Attempt| {
        json!({
            "tier": attempt.tier.as_deref(),
            "tier_number": number(attempt.tier.as_deref(), tiers),
            "provider": attempt.provider.as_deref(),
            "model": attempt.model.as_deref(),
            "took_ms": attempt.took.as_secs_f64() * 1e3,
            "failure": attempt.failure.map(steadfast::ErrorKind::name),
            "status": attempt.status.map(|status| status.as_u16()),
            "message": attempt.message.as_str(),
            "next": attempt.next.to_string(),
        })
    };
    attempts.iter().map(step).collect()
}
