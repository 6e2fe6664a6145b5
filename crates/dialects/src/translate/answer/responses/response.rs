//! The response object: its status, its usage, its error.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{super::json_of, echo::RequestEcho, item::Status};
use crate::{
    LlmError,
    chat::{FinishReason, Usage},
    internal::wall_clock,
    translate::answer::error,
};

/// The fields of a response object that stay the same from its begin to its end.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created_at: u64,
}

impl Head {
    pub(super) fn new(id: &str, model: &str) -> Self {
        Self { id: id.to_owned(), model: model.to_owned(), created_at: wall_clock::since_1970().as_secs() }
    }
}

/// The end of a response.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: Status,
    /// The reason that the response is incomplete.
    pub(super) reason: Option<String>,
    /// The error of a failed response.
    pub(super) error: Option<Value>,
}

impl Outcome {
    pub(super) fn in_progress() -> Self {
        Self { status: Status::InProgress, reason: None, error: None }
    }

    pub(super) fn failed(error: &LlmError) -> Self {
        let (code, message) = error::code_and_message(error);
        Self { status: Status::Failed, reason: None, error: Some(json!({"code": code, "message": message})) }
    }

    /// Returns the outcome of an answer that ended for this reason. `declined`: it contains the model's own refusal.
    #[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its outcome")]
    pub(super) fn of(finish: Option<&FinishReason>, declined: bool) -> Self {
        let reason = match finish {
            None | Some(FinishReason::Stop | FinishReason::ToolUse) => None,
            Some(FinishReason::Refusal) if declined => None,
            Some(FinishReason::Length | FinishReason::ContextFull | FinishReason::Paused) => Some("max_output_tokens"),
            Some(FinishReason::Filtered | FinishReason::Refusal) => Some("content_filter"),
            Some(other @ FinishReason::Other(_)) => return Self::of(Some(other.nearest()), declined),
            Some(FinishReason::ModelError(reason)) => {
                let message = format!("the model failed: {reason}; try again");
                let error = Some(json!({"code": "server_error", "message": message}));
                return Self { status: Status::Failed, reason: None, error };
            }
            Some(_) => Some("max_output_tokens"),
        };
        let status = if reason.is_some() { Status::Incomplete } else { Status::Completed };
        Self { status, reason: reason.map(str::to_owned), error: None }
    }

    /// Returns the status of an item at which the response ended.
    pub(super) fn last_item(&self) -> Status {
        if self.status == Status::Completed { Status::Completed } else { Status::Incomplete }
    }
}

/// Writes a response object.
pub(super) fn write<'a>(
    head: &Head,
    outcome: &Outcome,
    items: impl IntoIterator<Item = &'a str>,
    used: Option<Usage>,
    echo: &RequestEcho,
    to: &mut String,
) {
    let ended = (outcome.status == Status::Completed).then(|| wall_clock::since_1970().as_secs());
    let details = outcome.reason.as_ref().map(|reason| json!({ "reason": reason }));
    let own = json_of(&json!({
        "id": head.id,
        "object": "response",
        "created_at": head.created_at,
        "completed_at": ended,
        "status": outcome.status.name(),
        "model": head.model,
        "error": outcome.error,
        "incomplete_details": details,
        "usage": used.map(usage),
    }));
    to.push_str(&own[..own.len() - 1]);
    // Writing to a string cannot fail.
    let _ = write!(to, ",{},\"output\":[", echo.fields());
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            to.push(',');
        }
        to.push_str(item);
    }
    to.push_str("]}");
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total(),
    })
}
