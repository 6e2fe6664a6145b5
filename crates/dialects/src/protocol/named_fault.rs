//! The field that an error is about, as far as its words tell: the caller can mend that one.
//!
//! A field that is seen where there is none keeps a request from another tier; one that is not seen costs a call.
//! Neither changes what others meet, so that a part of a message is enough here.

use super::ErrorBody;

/// Returns true if an error names a field of the request, or what is wrong with it.
pub(super) fn names_fault(facts: &ErrorBody) -> bool {
    facts.layers().into_iter().any(|facts| {
        let param = facts.param.as_deref().filter(|param| !is_model(param));
        let is_coded = facts.code.as_deref().is_some_and(|code| CODES.iter().any(|known| code.starts_with(known)));
        let violates = |detail: &serde_json::Value| {
            let violations = detail.get("fieldViolations").and_then(serde_json::Value::as_array);
            violations.is_some_and(|violations| violations.iter().any(|violation| violation.get("field").is_some()))
        };
        param.is_some() || is_coded || facts.details.iter().any(violates) || begins_with_field(&facts.message)
    })
}

/// The caller may not have named the model: a tier has its own.
fn is_model(param: &str) -> bool {
    param.is_empty() || param == "model"
}

/// Codes of faults in a request, or what they begin with.
const CODES: [&str; 14] = [
    "unsupported_parameter",
    "unsupported_value",
    "unknown_parameter",
    "missing_required_parameter",
    "invalid_value",
    "invalid_type",
    "invalid_image",
    "invalid_base64",
    "invalid_encrypted_content",
    "string_above",
    "integer_",
    "decimal_",
    "array_above",
    "image_",
];

/// The bytes of a message that are searched.
const BEGIN: usize = 200;

/// Returns true if a message begins with a field's place, or names one in quotes at its beginning.
fn begins_with_field(message: &str) -> bool {
    let message = message.trim_start().trim_start_matches("* ");
    let end = (0..=BEGIN.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
    let begin = message[..end].to_ascii_lowercase();
    let place = begin.split_once(": ").map(|(place, _)| place).filter(|place| !place.contains(' '));
    let quoted = begin.split(['\'', '"', '`']).skip(1).step_by(2);
    let names_one = |word: &str| {
        let name = word.split(['.', '[']).next().unwrap_or(word);
        name.len() < word.len() && is_name(name) || is_field(name)
    };
    place.is_some_and(names_one)
        || quoted.into_iter().any(is_quoted_field)
        || SAYS.iter().any(|words| begin.starts_with(words))
}

fn is_quoted_field(word: &str) -> bool {
    is_field(word.split(['.', '[']).next().unwrap_or(word))
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_field(name: &str) -> bool {
    FIELDS.contains(&name)
}

/// The words of servers before the name of a field.
const SAYS: [&str; 13] = [
    "unknown parameter",
    "unknown field",
    "unknown name",
    "unrecognized request argument",
    "unrecognized field",
    "unexpected field",
    "unsupported parameter",
    "missing required",
    "missing field",
    "invalid value at",
    "extra inputs are not permitted",
    "additional properties are not allowed",
    "property ",
];

/// Fields of requests in the four dialects, without those that say which model.
const FIELDS: &[&str] = &[
    "messages",
    "system",
    "tools",
    "tool_choice",
    "tool_calls",
    "functions",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "stop_sequences",
    "metadata",
    "thinking",
    "output_config",
    "output_format",
    "input",
    "instructions",
    "reasoning",
    "reasoning_effort",
    "text",
    "response_format",
    "stream",
    "stream_options",
    "logprobs",
    "n",
    "seed",
    "role",
    "content",
    "image_url",
    "contents",
    "generationconfig",
    "generation_config",
    "systeminstruction",
    "system_instruction",
    "toolconfig",
    "tool_config",
    "safetysettings",
    "safety_settings",
    "anthropic-beta",
    "body",
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn names(body: Value) -> bool {
        names_fault(&ErrorBody::of_error(&body).expect("an error"))
    }

    #[test]
    fn a_field_is_named_beside_the_message_or_at_its_beginning() {
        let said = |message: &str| names(json!({"error": {"message": message, "type": "invalid_request_error"}}));
        for message in [
            "messages.0.content: Input should be a valid string",
            "tools.3.custom.input_schema: JSON schema is invalid",
            "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for this model",
            "Invalid 'messages[0].content': expected a string",
            "Invalid value: 'x'. Missing required parameter: 'messages[1].content'.",
            "Unknown parameter: 'seeed'.",
            "Unrecognized request argument supplied: seed",
            "`temperature` and `top_p` cannot both be specified for this model.",
            "* GenerateContentRequest.contents: contents is not specified",
            "Invalid JSON payload received. Unknown name \"x\" at 'generation_config': Cannot find field.",
            "litellm.BadRequestError: OpenAIException - Unknown parameter: 'x'.",
        ] {
            assert!(said(message), "{message}");
        }
        assert!(names(json!({"error": {"message": "no", "param": "tools"}})));
        assert!(names(json!({"detail": [{"loc": ["body", "top_k"], "msg": "no", "input": 1}]})));
        assert!(names(json!({"error": {"message": "no", "code": "invalid_image_format"}})));
        let violation = json!({"@type": "x/google.rpc.BadRequest", "fieldViolations": [{"field": "contents", "description": "no"}]});
        assert!(names(
            json!({"error": {"message": "no", "code": 400, "status": "INVALID_ARGUMENT", "details": [violation]}})
        ));
    }

    #[test]
    fn a_refusal_without_a_reason_names_none() {
        for message in [
            "",
            "Invalid request Error",
            "Bad Request",
            "The input does not match the expected shape",
            "Something is wrong with this request: ask your provider",
            "Error: no",
            "upstream error: the model is out of cheese",
            "当前请求无法处理",
        ] {
            assert!(
                !names(json!({"error": {"message": message, "type": "invalid_request_error", "param": null}})),
                "{message}"
            );
        }
        assert!(!names(json!({"error": {"message": "no", "param": "model"}})));
        assert!(!names(json!({"error": {"message": "no", "param": "None", "code": "400"}})));
    }
}
