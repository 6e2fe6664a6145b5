//! Anthropic Messages, version 2023-06-01 (docs.anthropic.com, "Messages", "Streaming", "Errors").

use std::{borrow::Cow, fmt::Write};

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::check::examine;
use super::protocol::{
    Answer, BAD_KEY, ParsedRequest, Protocol, bearer, count_field, header, list_field, set, set_named, status_code,
    text_field, whole_seconds,
};
use super::refusal::Refusal;
use steadfast::{Dialect, providers::simulated::RateStatus};
use steadfast_internal::wall_clock;

#[derive(Debug)]
pub(super) struct Anthropic;

impl Protocol for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn ask(&self, request: &Parts, body: &Value, _: &str) -> Result<ParsedRequest, Refusal> {
        let key = header(request, "x-api-key").or_else(|| bearer(request));
        if key == Some(BAD_KEY) {
            return Err(Refusal::BadKey);
        }
        let Some(version) = header(request, "anthropic-version") else {
            let message = "anthropic-version: header is required";
            return Err(Refusal::invalid("anthropic-version", message));
        };
        // The newer version of the API has no sampling, for any model.
        let sampling = ["temperature", "top_p", "top_k"].into_iter().find(|name| !body[*name].is_null());
        if let Some(name) = sampling.filter(|_| version >= "2026-10-21") {
            return Err(Refusal::invalid("temperature", format!("{name}: Extra inputs are not permitted")));
        }
        let required = |field| Refusal::invalid(field, format!("{field}: Field required"));
        let model = text_field(body, "model").ok_or_else(|| required("model"))?;
        let messages = list_field(body, "messages").ok_or_else(|| required("messages"))?;
        let counting = request.uri.path().ends_with("/count_tokens");
        let max_tokens = count_field(body, "max_tokens");
        if max_tokens.is_none() && !counting {
            return Err(required("max_tokens"));
        }
        if !counting {
            examine(Dialect::Anthropic, model, body)?;
        }
        Ok(ParsedRequest {
            model: model.to_owned(),
            stream: body["stream"] == true,
            max_tokens,
            prefilled: messages.last().is_some_and(|last| last["role"] == "assistant"),
            include_usage: true,
            ..ParsedRequest::default()
        })
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        let (status, kind, message) = match refusal {
            Refusal::Server => (500, "api_error", "Internal server error".into()),
            Refusal::Unavailable => (503, "api_error", "Service temporarily unavailable".into()),
            Refusal::Overloaded => (529, "overloaded_error", "Overloaded".into()),
            Refusal::RateLimited(_) => {
                (429, "rate_limit_error", "This request would exceed your organization's rate limit".into())
            }
            Refusal::Quota => (429, "rate_limit_error", "You have reached your specified API usage limits".into()),
            Refusal::Unauthorized | Refusal::BadKey => (401, "authentication_error", "invalid x-api-key".into()),
            Refusal::Denied(_) => (403, "permission_error", "Your account may not do that".into()),
            Refusal::Invalid { message, .. } => (400, "invalid_request_error", message.clone()),
            Refusal::ContextLength => {
                (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum".into())
            }
            Refusal::ContentFilter => {
                (400, "invalid_request_error", "Output blocked by content filtering policy".into())
            }
            Refusal::Prefill => (
                400,
                "invalid_request_error",
                "This model does not support assistant message prefill. The conversation must end with a user message."
                    .into(),
            ),
            Refusal::UnknownModel(model) => (404, "not_found_error", format!("model: {model}")),
            Refusal::UnknownPath(_) => (404, "not_found_error", "Not found".into()),
            Refusal::TooLarge => (413, "request_too_large", "Request exceeds the maximum size".into()),
        };
        let mut body = json!({
            "type": "error",
            "error": { "type": kind, "message": message },
            "request_id": request_id,
        });
        if *refusal == Refusal::Quota {
            body["error"]["details"] = json!({ "error_code": "enforced_spend_limit_reached" });
        }
        (status_code(status), body)
    }

    fn headers(&self, headers: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        set(headers, "request-id", request_id);
        let now = wall_clock::since_1970();
        let limits = [("requests", rate.requests), ("tokens", rate.tokens)];
        for (what, reading) in limits {
            let Some(reading) = reading else { continue };
            let mut put = |end: &str, value: String| {
                set_named(headers, &format!("anthropic-ratelimit-{what}-{end}"), value);
            };
            put("limit", reading.limit.to_string());
            put("remaining", reading.remaining.to_string());
            put("reset", wall_clock::rfc3339(now.saturating_add(reading.reset)));
        }
        let Some(refusal) = refusal else { return };
        if let Refusal::RateLimited(Some(wait)) = refusal {
            set(headers, "retry-after", whole_seconds(*wait));
        }
        let passes =
            matches!(refusal, Refusal::Server | Refusal::Unavailable | Refusal::Overloaded | Refusal::RateLimited(_));
        set(headers, "x-should-retry", passes);
    }

    fn whole(&self, answer: &Answer) -> Value {
        let content = match &answer.tool {
            Some(tool) => json!([{
                "type": "tool_use",
                "id": format!("toolu_{}", tool.id),
                "name": tool.name,
                "input": tool.input,
                "caller": { "type": "direct" },
            }]),
            None if answer.tokens == 0 => json!([]),
            None => json!([{ "type": "text", "text": answer.text(), "citations": null }]),
        };
        let mut message = message(answer);
        message["content"] = content;
        message["stop_reason"] = stop_reason(answer).into();
        message["usage"]["output_tokens"] = answer.tokens.into();
        message["usage"]["output_tokens_details"] = Value::Null;
        message
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        event(to, json!({ "type": "message_start", "message": message(answer) }));
        if answer.tokens == 0 {
            return;
        }
        let block = match &answer.tool {
            Some(tool) => json!({
                "type": "tool_use",
                "id": format!("toolu_{}", tool.id),
                "name": tool.name,
                "input": {},
                "caller": { "type": "direct" },
            }),
            None => json!({ "type": "text", "text": "", "citations": null }),
        };
        event(to, json!({ "type": "content_block_start", "index": 0, "content_block": block }));
        to.push_str(self.keep_alive());
    }

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        let piece = answer.piece(index);
        let delta = match &answer.tool {
            Some(_) => json!({ "type": "input_json_delta", "partial_json": piece }),
            None => json!({ "type": "text_delta", "text": piece }),
        };
        event(to, json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        if answer.tokens > 0 {
            event(to, json!({ "type": "content_block_stop", "index": 0 }));
        }
        event(
            to,
            json!({
                "type": "message_delta",
                "delta": {
                    "stop_reason": stop_reason(answer),
                    "stop_sequence": null,
                    "stop_details": null,
                    "container": null,
                },
                "usage": { "output_tokens": answer.tokens },
            }),
        );
        to.push_str(&self.end_mark(answer));
    }

    fn end_mark(&self, _: &Answer) -> Cow<'static, str> {
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into()
    }

    fn error_event(&self, answer: &Answer, _: u32, to: &mut String) {
        event(
            to,
            json!({
                "type": "error",
                "error": { "details": null, "type": "overloaded_error", "message": "Overloaded" },
                "request_id": answer.request_id,
            }),
        );
    }

    fn keep_alive(&self) -> &'static str {
        "event: ping\ndata: {\"type\": \"ping\"}\n\n"
    }
}

fn message(answer: &Answer) -> Value {
    json!({
        "id": format!("msg_{}", answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "stop_details": null,
        "container": null,
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 },
            "output_tokens": 1,
            "server_tool_use": null,
            "service_tier": "standard",
            "inference_geo": null,
        },
    })
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.tool.is_some() {
        "tool_use"
    } else if answer.cut_short {
        "max_tokens"
    } else {
        "end_turn"
    }
}

fn event(to: &mut String, data: Value) {
    let name = data["type"].as_str().unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(to, "event: {name}\ndata: {data}\n\n");
}
