//! Encodes answers in each dialect's own form: whole, as a stream, and errors.

mod anthropic;
mod error;
mod free_text;
mod gemini;
mod openai;
mod responses;
mod stream;

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

pub use self::{error::encode_error, responses::RequestEcho, stream::StreamEncoder};
use super::{request::Report, rules::Feature};
use crate::{
    Dialect,
    chat::{ExtraOf, Message, Part, ToolCall},
    surrogates,
    wire::tool_calls::INVALID_ARGUMENTS,
};

/// A translated answer, with notes on its changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Translation {
    /// The bytes in the requested dialect.
    pub body: Bytes,
    /// The parts that were changed or left out, as in [`LlmResponse::notes`](crate::LlmResponse::notes).
    pub notes: Vec<Cow<'static, str>>,
}

/// Encodes a whole answer as the body that a caller of `dialect` expects.
///
/// If the answer came in the same dialect, prefer its own bytes: see [`LlmBody::wire`](crate::LlmBody::wire).
///
/// ```
/// use steadfast::{Dialect, chat::Message, translate::encode_message};
///
/// let body = encode_message(&Message::assistant("hello"), Dialect::OpenAi).body;
/// assert!(std::str::from_utf8(&body).unwrap().contains(r#""content":"hello""#));
/// ```
pub fn encode_message(message: &Message, dialect: Dialect) -> Translation {
    encode_answer(message, dialect, &RequestEcho::default())
}

/// Encodes a whole answer as the body that a caller of `dialect` expects, with the parts of the request that it
/// repeats.
///
/// Only OpenAI's dialects have such parts; see [`RequestEcho`].
pub fn encode_answer(message: &Message, dialect: Dialect, echo: &RequestEcho) -> Translation {
    let mut report = Report::new(dialect, None);
    let body = match dialect {
        Dialect::Anthropic => json_of(&anthropic::whole(message, &mut report)),
        Dialect::OpenAi => json_of(&openai::whole(message, echo, &mut report)),
        Dialect::Gemini => json_of(&gemini::whole(message, &mut report)),
        Dialect::Responses => responses::whole(message, echo, &mut report),
    };
    Translation { body: body.into(), notes: report.finish(false).unwrap_or_default() }
}

/// Writes a value as JSON: its `Display` formats each piece, at three times the cost. All of its keys are texts, so
/// that this cannot fail.
fn json_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Reports a part that the dialect has no place for in an answer.
fn left_out(part: &Part, report: &mut Report) {
    let kind = match part {
        Part::Extra { of: ExtraOf::Part, extra } if extra.dialect == Dialect::Responses => {
            if !responses::annotations(extra).is_empty() {
                report.record_field(Feature::Citations, "annotations");
            }
            return;
        }
        Part::Image(_) => "image".to_owned(),
        Part::Document(_) => "document".to_owned(),
        Part::ToolResult(_) => "tool_result".to_owned(),
        Part::Other { value, .. } => super::kind_of(value),
        _ => return,
    };
    report.record_field(Feature::OwnPart, kind);
}

/// Returns the arguments as an object. Text that is none goes under a key, so that the caller sees the model's output.
fn arguments(call: &ToolCall, report: &mut Report) -> Value {
    // Some models write `null` for a tool without arguments.
    if matches!(call.arguments.trim(), "" | "null") {
        return json!({});
    }
    // A model may write half of a character as an escape of its own.
    match serde_json::from_slice(&surrogates::mended(call.arguments.as_bytes())) {
        Ok(object @ Value::Object(_)) => object,
        _ => {
            report.record(Feature::Arguments);
            json!({ INVALID_ARGUMENTS: call.arguments })
        }
    }
}

/// Creates an id for an answer without one.
fn new_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}
