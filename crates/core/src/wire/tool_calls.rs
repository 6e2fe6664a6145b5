//! Arguments of tool calls, which need not be JSON.

use crate::{LlmError, fields, raw_json::RawJson};

/// The key for a tool call's arguments that are no JSON object, where an object must be.
pub const INVALID_ARGUMENTS: &str = "invalid_arguments";

/// Returns the arguments of a call that a caller sends back.
pub(crate) fn arguments_of(input: Option<RawJson<'_>>) -> Result<String, LlmError> {
    let Some(input) = input else { return Ok("{}".to_owned()) };
    if memchr::memmem::find(input.get().as_bytes(), INVALID_ARGUMENTS.as_bytes()).is_some()
        && let Some((name, value)) = fields::only_field(input)?
        && name == INVALID_ARGUMENTS
        && let Some(text) = fields::text(value)?
    {
        return Ok(text);
    }
    Ok(input.get().to_owned())
}
