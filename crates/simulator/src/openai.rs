//! OpenAI Chat Completions (platform.openai.com, "Chat", "Error codes", "Rate limits").

use std::{borrow::Cow, fmt::Write, time::Duration};

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::check::examine;
use super::protocol::{
    Answer, BAD_KEY, ParsedRequest, Protocol, bearer, count_field, list_field, set, set_named, status_code, text_field,
    whole_seconds,
};
use super::refusal::Refusal;
use steadfast::{Dialect, providers::simulated::RateStatus};

/// The backend's configuration, which the published schema of a whole answer requires as a text.
const FINGERPRINT: &str = "fp_44709d6fcb";

#[derive(Debug)]
pub(super) struct OpenAi;

impl Protocol for OpenAi {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }

    fn ask(&self, request: &Parts, body: &Value, _: &str) -> Result<ParsedRequest, Refusal> {
        if bearer(request) == Some(BAD_KEY) {
            return Err(Refusal::BadKey);
        }
        let model =
            text_field(body, "model").ok_or_else(|| Refusal::invalid("model", "you must provide a model parameter"))?;
        let messages = list_field(body, "messages")
            .ok_or_else(|| Refusal::invalid("messages", "Missing required parameter: 'messages'."))?;
        examine(Dialect::OpenAi, model, body)?;
        Ok(ParsedRequest {
            model: model.to_owned(),
            stream: body["stream"] == true,
            max_tokens: count_field(body, "max_completion_tokens").or_else(|| count_field(body, "max_tokens")),
            prefilled: messages.last().is_some_and(|last| last["role"] == "assistant"),
            include_usage: body["stream_options"]["include_usage"] == true,
            ..ParsedRequest::default()
        })
    }

    fn refuse(&self, refusal: &Refusal, _request_id: &str) -> (StatusCode, Value) {
        let invalid = "invalid_request_error";
        let (status, kind, message) = match refusal {
            Refusal::Server => {
                (500, "server_error", "The server had an error while processing your request. Sorry about that!".into())
            }
            Refusal::Unavailable => {
                (503, "server_error", "The server is temporarily unable to handle your request.".into())
            }
            Refusal::Overloaded => {
                (503, "server_error", "That model is currently overloaded with other requests.".into())
            }
            Refusal::RateLimited(wait) => {
                let mut message = String::from("Rate limit reached for requests.");
                if let Some(wait) = wait {
                    let _ = write!(message, " Please try again in {}.", go_duration(*wait));
                }
                (429, "requests", message)
            }
            Refusal::Quota => (
                429,
                "insufficient_quota",
                "You exceeded your current quota, please check your plan and billing details.".into(),
            ),
            Refusal::Unauthorized | Refusal::BadKey => (401, invalid, "Incorrect API key provided.".into()),
            Refusal::Denied(_) => (403, invalid, "Your account may not do that.".into()),
            Refusal::Invalid { message, .. } => (400, invalid, message.clone()),
            Refusal::ContextLength => (
                400,
                invalid,
                "This model's maximum context length is 128000 tokens. However, your messages \
                 resulted in 130000 tokens."
                    .into(),
            ),
            Refusal::ContentFilter => {
                (400, invalid, "Your request was rejected as a result of our safety system.".into())
            }
            Refusal::Prefill => (400, invalid, "The last message must be from the user.".into()),
            Refusal::UnknownModel(model) => {
                (404, invalid, format!("The model `{model}` does not exist or you do not have access to it."))
            }
            Refusal::UnknownPath(path) => (404, invalid, format!("Invalid URL ({path})")),
            Refusal::TooLarge => (413, invalid, "Request body is too large".into()),
        };
        let (param, code) = (param(refusal), code(refusal));
        let body = json!({
            "error": { "message": message, "type": kind, "param": param, "code": code },
        });
        (status_code(status), body)
    }

    fn headers(&self, headers: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        set(headers, "x-request-id", request_id);
        set(headers, "openai-version", "2020-10-01");
        let limits = [("requests", rate.requests), ("tokens", rate.tokens)];
        for (what, reading) in limits {
            let Some(reading) = reading else { continue };
            let mut put = |start: &str, value: String| {
                set_named(headers, &format!("x-ratelimit-{start}-{what}"), value);
            };
            put("limit", reading.limit.to_string());
            put("remaining", reading.remaining.to_string());
            put("reset", go_duration(reading.reset));
        }
        if let Some(Refusal::RateLimited(Some(wait))) = refusal {
            set(headers, "retry-after", whole_seconds(*wait));
            set(headers, "retry-after-ms", whole_milliseconds(*wait));
        }
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message = json!({
            "role": "assistant",
            "content": answer.text(),
            "refusal": null,
            "annotations": [],
        });
        if let Some(tool) = &answer.tool {
            message["content"] = Value::Null;
            message["tool_calls"] = json!([{
                "id": format!("call_{}", tool.id),
                "type": "function",
                "function": { "name": tool.name, "arguments": tool.input.to_string() },
            }]);
        }
        json!({
            "id": format!("chatcmpl-{}", answer.id),
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [{
                "index": 0,
                "message": message,
                "logprobs": null,
                "finish_reason": finish_reason(answer),
            }],
            "usage": usage(answer),
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        })
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        let mut delta = json!({ "role": "assistant", "content": "", "refusal": null });
        if let Some(tool) = &answer.tool {
            delta["content"] = Value::Null;
            delta["tool_calls"] = json!([{
                "index": 0,
                "id": format!("call_{}", tool.id),
                "type": "function",
                "function": { "name": tool.name, "arguments": "" },
            }]);
        }
        chunk(to, answer, delta, None);
    }

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        let piece = answer.piece(index);
        let delta = match &answer.tool {
            Some(_) => {
                json!({ "tool_calls": [{ "index": 0, "function": { "arguments": piece } }] })
            }
            None => json!({ "content": piece }),
        };
        chunk(to, answer, delta, None);
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        chunk(to, answer, json!({}), Some(finish_reason(answer)));
        if answer.include_usage {
            let mut last = frame(answer);
            last["choices"] = json!([]);
            last["usage"] = usage(answer);
            data(to, &last);
        }
        to.push_str(&self.end_mark(answer));
    }

    fn end_mark(&self, _: &Answer) -> Cow<'static, str> {
        "data: [DONE]\n\n".into()
    }

    fn error_event(&self, _answer: &Answer, _: u32, to: &mut String) {
        data(
            to,
            &json!({ "error": {
                "message": "The server experienced an error while processing your request.",
                "type": "server_error",
                "param": null,
                "code": null,
            } }),
        );
        to.push_str("data: [DONE]\n\n");
    }

    fn keep_alive(&self) -> &'static str {
        ": keep-alive\n\n"
    }
}

/// Returns the parameter that a refusal names.
fn param(refusal: &Refusal) -> Option<&str> {
    match refusal {
        Refusal::Invalid { field, .. } => Some(&**field).filter(|field| *field != "body"),
        Refusal::ContextLength | Refusal::Prefill => Some("messages"),
        _ => None,
    }
}

/// Returns a refusal's code.
fn code(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::RateLimited(_) => Some("rate_limit_exceeded"),
        Refusal::Quota => Some("insufficient_quota"),
        Refusal::Unauthorized | Refusal::BadKey => Some("invalid_api_key"),
        Refusal::Invalid { message, .. } => code_beside(message),
        Refusal::ContextLength => Some("context_length_exceeded"),
        Refusal::ContentFilter => Some("content_policy_violation"),
        Refusal::UnknownModel(_) => Some("model_not_found"),
        _ => None,
    }
}

/// Returns the code beside a refusal's words, as recorded.
fn code_beside(message: &str) -> Option<&'static str> {
    const CODES: &[(&str, &str)] = &[
        ("Unsupported parameter", "unsupported_parameter"),
        ("Unsupported value", "unsupported_value"),
        ("Setting 'max_tokens'", "invalid_parameter_combination"),
        ("Invalid schema for function", "invalid_function_parameters"),
        ("You uploaded an unsupported image", "invalid_image_format"),
        ("decimal above maximum", "decimal_above_max_value"),
        ("decimal below minimum", "decimal_below_min_value"),
        ("array too long", "array_above_max_length"),
        ("string too long", "string_above_max_length"),
        ("is too large:", "invalid_value"),
        ("Invalid value", "invalid_value"),
        ("Invalid 'messages[", "invalid_value"),
    ];
    CODES.iter().find(|(words, _)| message.contains(words)).map(|(_, code)| *code)
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.tool.is_some() {
        "tool_calls"
    } else if answer.cut_short {
        "length"
    } else {
        "stop"
    }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens.saturating_add(u64::from(answer.tokens)),
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    })
}

fn frame(answer: &Answer) -> Value {
    json!({
        "id": format!("chatcmpl-{}", answer.id),
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    })
}

fn chunk(to: &mut String, answer: &Answer, delta: Value, finish_reason: Option<&str>) {
    let mut chunk = frame(answer);
    chunk["choices"] = json!([{
        "index": 0,
        "delta": delta,
        "logprobs": null,
        "finish_reason": finish_reason,
    }]);
    if answer.include_usage {
        chunk["usage"] = Value::Null;
    }
    data(to, &chunk);
}

fn data(to: &mut String, value: &Value) {
    // Writing to a string cannot fail.
    let _ = write!(to, "data: {value}\n\n");
}

fn whole_milliseconds(wait: Duration) -> u128 {
    wait.as_nanos().div_ceil(1_000_000).max(1)
}

/// Formats a duration as Go does: `6ms`, `1.5s`, `6m0s`, `1h2m3s`.
fn go_duration(time: Duration) -> String {
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    if milliseconds == 0 {
        return "0s".into();
    }
    if milliseconds < 1_000 {
        return format!("{milliseconds}ms");
    }
    let (minutes, left) = (milliseconds / 60_000, milliseconds % 60_000);
    let mut text = String::new();
    if minutes >= 60 {
        let _ = write!(text, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _ = write!(text, "{}m", minutes % 60);
    }
    let fraction = format!(".{:03}", left % 1_000);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let _ = write!(text, "{}{fraction}s", left / 1_000);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (milliseconds, text) in [
            (0, "0s"),
            (6, "6ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (18_642, "18.642s"),
            (360_000, "6m0s"),
            (3_723_500, "1h2m3.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
