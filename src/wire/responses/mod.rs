//! A request of OpenAI's Responses.

pub(crate) mod sealed;
pub(crate) mod tool_names;

use serde_json::value::RawValue;

use crate::{LlmError, chat::Chat, fields::bad, wire::Meter};

/// Decodes a caller's request.
pub(crate) fn decode(_body: &RawValue, _meter: &mut Meter<'_>) -> Result<Chat, LlmError> {
    Err(bad("input", "a text or a list"))
}
