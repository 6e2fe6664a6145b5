//! Gemini `generateContent` and `streamGenerateContent` (ai.google.dev, "Generating content").

use std::{borrow::Cow, fmt::Write};

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::check::examine;
use super::protocol::{Answer, BAD_KEY, ParsedRequest, Protocol, count_field, header, list_field, set, status_code};
use super::refusal::Refusal;
use steadfast::{Dialect, providers::simulated::RateStatus};

#[derive(Debug)]
pub(super) struct Gemini;

/// Splits `/v1beta/models/{model}:{method}` into the model and the method.
pub(super) fn split_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    let (model, method) = rest.rsplit_once(':')?;
    matches!(method, "generateContent" | "streamGenerateContent").then_some((model, method))
}

/// Returns true if the query asks for server-sent events; otherwise a stream is a JSON array.
pub(super) fn wants_sse(request: &Parts) -> bool {
    let query = request.uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair == "alt=sse")
}

impl Protocol for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn ask(&self, request: &Parts, body: &Value, _: &str) -> Result<ParsedRequest, Refusal> {
        if header(request, "x-goog-api-key") == Some(BAD_KEY) {
            return Err(Refusal::BadKey);
        }
        let (model, method) =
            split_path(request.uri.path()).ok_or_else(|| Refusal::UnknownPath(request.uri.path().to_owned()))?;
        let contents = list_field(body, "contents").ok_or_else(|| {
            Refusal::invalid("contents", "* GenerateContentRequest.contents: contents is not specified")
        })?;
        examine(Dialect::Gemini, model, body)?;
        Ok(ParsedRequest {
            model: model.to_owned(),
            stream: method == "streamGenerateContent",
            max_tokens: count_field(&body["generationConfig"], "maxOutputTokens"),
            prefilled: contents.last().is_some_and(|last| last["role"] == "model"),
            include_usage: true,
            ..ParsedRequest::default()
        })
    }

    fn refuse(&self, refusal: &Refusal, _request_id: &str) -> (StatusCode, Value) {
        if *refusal == Refusal::ContentFilter {
            return (StatusCode::OK, json!({ "promptFeedback": { "blockReason": "SAFETY" } }));
        }
        let (code, status, message) = match refusal {
            Refusal::Server => (500, "INTERNAL", "Internal error encountered.".into()),
            Refusal::Unavailable => (503, "UNAVAILABLE", "The service is currently unavailable.".into()),
            Refusal::Overloaded => (503, "UNAVAILABLE", "The model is overloaded. Please try again later.".into()),
            Refusal::RateLimited(_) => {
                (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.".into())
            }
            Refusal::Quota => (
                429,
                "RESOURCE_EXHAUSTED",
                "You exceeded your current quota, please check your plan and billing details.".into(),
            ),
            Refusal::Unauthorized => (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.".into()),
            // The real API answers a bad key with a 400.
            Refusal::BadKey => (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.".into()),
            Refusal::Denied(_) => (403, "PERMISSION_DENIED", "The caller does not have permission".into()),
            Refusal::Invalid { message, .. } => (400, "INVALID_ARGUMENT", message.clone()),
            Refusal::ContextLength => (
                400,
                "INVALID_ARGUMENT",
                "The input token count (1250074) exceeds the maximum number of tokens allowed \
                 (1048576)."
                    .into(),
            ),
            Refusal::ContentFilter | Refusal::Prefill => {
                (400, "INVALID_ARGUMENT", "Please ensure that the request ends with a user turn.".into())
            }
            Refusal::UnknownModel(model) => {
                (404, "NOT_FOUND", format!("models/{model} is not found for API version v1beta"))
            }
            Refusal::UnknownPath(path) => (404, "NOT_FOUND", format!("{path} was not found")),
            Refusal::TooLarge => {
                (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes.".into())
            }
        };
        let mut error = json!({ "code": code, "message": message, "status": status });
        if let Some(details) = details(refusal) {
            error["details"] = details;
        }
        (status_code(code), json!({ "error": error }))
    }

    fn headers(&self, headers: &mut HeaderMap, _: &str, _: &RateStatus, _: Option<&Refusal>) {
        // No header has the limits, and ids are in the body.
        set(headers, "server", "scaffolding on HTTPServer2");
    }

    fn whole(&self, answer: &Answer) -> Value {
        let part = match &answer.tool {
            Some(tool) => json!({ "functionCall": { "name": tool.name, "args": tool.input } }),
            None => json!({ "text": answer.text() }),
        };
        let mut whole = response(answer, vec![part], answer.tokens, Some(finish_reason(answer)));
        if answer.tokens == 0 {
            whole["candidates"] = json!([]);
        }
        whole
    }

    fn opening(&self, _answer: &Answer, _to: &mut String) {}

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        let part = match &answer.tool {
            // A call arrives whole.
            Some(tool) if index == 0 => {
                json!({ "functionCall": { "name": tool.name, "args": tool.input } })
            }
            Some(_) => return,
            None => json!({ "text": answer.piece(index) }),
        };
        data(to, response(answer, vec![part], index + 1, None));
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        let parts = if answer.tokens == 0 { vec![] } else { vec![json!({ "text": "" })] };
        let last = response(answer, parts, answer.tokens, Some(finish_reason(answer)));
        data(to, last);
    }

    fn end_mark(&self, _: &Answer) -> Cow<'static, str> {
        "".into()
    }

    fn error_event(&self, answer: &Answer, _: u32, to: &mut String) {
        // Bare and over many lines, without `data:`, as recorded.
        let (_, error) = self.refuse(&Refusal::Overloaded, &answer.request_id);
        let _ = write!(to, "{error:#}\n\n");
    }

    fn keep_alive(&self) -> &'static str {
        ": keep-alive\n\n"
    }
}

/// Returns the details beside a refusal's message: its limit and the wait, or the reason for a key.
fn details(refusal: &Refusal) -> Option<Value> {
    let quota = |id: &str| {
        json!({
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
                "quotaId": id,
            }],
        })
    };
    Some(match refusal {
        Refusal::RateLimited(wait) => json!([
            quota("GenerateRequestsPerMinutePerProjectPerModel"),
            {
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{}s", (*wait)?.as_secs_f64()),
            },
        ]),
        Refusal::Quota => json!([quota("GenerateRequestsPerDayPerProjectPerModel")]),
        Refusal::BadKey => json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": { "service": "generativelanguage.googleapis.com" },
        }]),
        _ => return None,
    })
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.cut_short { "MAX_TOKENS" } else { "STOP" }
}

fn response(answer: &Answer, parts: Vec<Value>, tokens: u32, finish: Option<&str>) -> Value {
    let mut candidate = json!({ "index": 0 });
    if !parts.is_empty() {
        candidate["content"] = json!({ "role": "model", "parts": parts });
    }
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": answer.prompt_tokens,
            "candidatesTokenCount": tokens,
            "totalTokenCount": answer.prompt_tokens.saturating_add(u64::from(tokens)),
        },
        "modelVersion": answer.model,
        "responseId": answer.id,
    })
}

fn data(to: &mut String, value: Value) {
    // Writing to a string cannot fail.
    let _ = write!(to, "data: {value}\r\n\r\n");
}
