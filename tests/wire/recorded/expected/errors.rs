//! The kind of failure that an error answer is, and the wait that it asks for: the tables of the providers' references,
//! by the exact names first, then by status.

use std::time::Duration;

use serde_json::Value;
use steadfast::{Dialect, ErrorKind};

use crate::recordings::Exchange;

/// The kind of an error answer.
pub(super) fn kind(dialect: Dialect, status: u16, body: &str, waits: bool) -> ErrorKind {
    let is_known = |json: &Value| {
        let json = json.as_array().and_then(|list| list.first()).unwrap_or(json);
        ["error", "message", "detail", "errors"].iter().any(|name| !json[*name].is_null()) || json["object"] == "error"
    };
    let Some(json) = serde_json::from_str::<Value>(body).ok().filter(is_known) else {
        return match status {
            // No API wrote it.
            429 if !waits => ErrorKind::Overloaded,
            403 => ErrorKind::Blocked,
            status => by_status(status),
        };
    };
    let error = Error::of(&json);
    error.kind(dialect, status)
}

/// The kind of an error that came under a 200.
pub(super) fn kind_inside(dialect: Dialect, json: &str) -> ErrorKind {
    let Ok(json) = serde_json::from_str::<Value>(json) else { return ErrorKind::Malformed };
    let error = Error::of(&json);
    error.kind(dialect, error.number.filter(|number| (400..600).contains(number)).unwrap_or(200))
}

struct Error<'a> {
    /// The code and the type, as far as they are texts.
    names: Vec<&'a str>,
    number: Option<u16>,
    message: String,
    details: String,
}

impl<'a> Error<'a> {
    fn of(json: &'a Value) -> Self {
        let json =
            json.as_array().map_or(json, |list| list.iter().find(|one| one["error"].is_object()).unwrap_or(json));
        let error = if json["error"].is_object() { &json["error"] } else { json };
        let names = [
            &error["details"]["error_code"],
            &error["innererror"]["code"],
            &error["code"],
            &error["type"],
            &error["status"],
        ];
        let number =
            [&error["code"], &error["status_code"], &error["raw_status_code"]].into_iter().find_map(|number| {
                let number = number.as_u64().or_else(|| number.as_str()?.parse().ok())?;
                u16::try_from(number).ok()
            });
        let mut message = [&error["message"], &json["error"], &error["detail"]]
            .into_iter()
            .find(|message| message.is_string())
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_lowercase();
        message.push_str(&error["metadata"]["raw"].to_string().to_lowercase());
        Self {
            names: names.into_iter().filter_map(Value::as_str).collect(),
            number,
            message,
            details: error["details"].to_string(),
        }
    }

    fn says(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.message.contains(phrase))
    }

    fn is(&self, names: &[&str]) -> bool {
        self.names.iter().any(|name| names.contains(name))
    }

    fn kind(&self, dialect: Dialect, status: u16) -> ErrorKind {
        match dialect {
            Dialect::Gemini => self.google(status),
            _ => self.by_name(status).or_else(|| self.by_words(status)).unwrap_or_else(|| by_status(status)),
        }
    }

    fn by_name(&self, status: u16) -> Option<ErrorKind> {
        if matches!(status, 413 | 429) && self.says(&["request too large for"]) {
            return Some(ErrorKind::TooLarge);
        }
        if self.says(&["service tier capacity"]) {
            return Some(ErrorKind::Overloaded);
        }
        let table: &[(ErrorKind, &[&str])] = &[
            (
                ErrorKind::QuotaExhausted,
                &[
                    "insufficient_quota",
                    "billing_error",
                    "credit_balance_exhausted",
                    "billing_hard_limit_reached",
                    "billing_not_active",
                    "enforced_spend_limit_reached",
                    "contract_spend_limit_reached",
                    "exceeded_current_quota_error",
                ],
            ),
            (
                ErrorKind::ContextLength,
                &["context_length_exceeded", "exceed_context_size_error", "too_many_prompt_tokens"],
            ),
            (
                ErrorKind::ContentPolicy,
                &["content_filter", "content_policy_violation", "invalid_prompt", "ResponsibleAIPolicyViolation"],
            ),
            (ErrorKind::Malformed, &["tool_use_failed"]),
            (
                ErrorKind::Overloaded,
                &[
                    "overloaded_error",
                    "engine_overloaded_error",
                    "service_unavailable_error",
                    "server_is_overloaded",
                    "unavailable_error",
                    "capacity_exceeded",
                ],
            ),
            (
                ErrorKind::RateLimited,
                &["rate_limit_error", "rate_limit_exceeded", "rate_limited", "1300", "slow_down", "RateLimitReached"],
            ),
            (ErrorKind::Auth, &["invalid_api_key", "authentication_error", "permission_error"]),
            (
                ErrorKind::NotFound,
                &[
                    "model_not_found",
                    "model_decommissioned",
                    "model_not_supported",
                    "model_not_available",
                    "unknown_model",
                    "invalid_model",
                    "ModelDeprecated",
                    "resource_not_found_error",
                    "not_found_error",
                    "DeploymentNotFound",
                    // The state of Responses is at another account, or gone.
                    "previous_response_not_found",
                ],
            ),
            (ErrorKind::TooLarge, &["request_too_large"]),
            (ErrorKind::Timeout, &["timeout_error"]),
        ];
        // The code comes before the type, for it is the more exact one. What a quota is comes in words too.
        let found = self
            .names
            .iter()
            .find_map(|name| table.iter().find(|(_, names)| names.contains(name)).map(|(kind, _)| *kind))?;
        let anthropics = found == ErrorKind::RateLimited && self.names == ["rate_limit_error"];
        if anthropics && self.says(&["usage limit", "spend limit", "spending limit"]) {
            return Some(ErrorKind::QuotaExhausted);
        }
        Some(found)
    }

    fn by_words(&self, status: u16) -> Option<ErrorKind> {
        let table: &[(ErrorKind, &[u16], &[&str])] = &[
            (
                ErrorKind::ContextLength,
                &[200, 400, 413, 422, 500],
                &[
                    "context length",
                    "context size",
                    "context window",
                    "context limit",
                    "exceeds the context",
                    "exceeds the available context",
                    "prompt is too long",
                    "prompt too long",
                    "exceeds the maximum number of tokens",
                    "reduce the length of the messages",
                ],
            ),
            (
                ErrorKind::ContentPolicy,
                &[200, 400, 403],
                &[
                    "content filtering policy",
                    "content management policy",
                    "requires moderation",
                    "safety system",
                    "content exists risk",
                    "content violates usage guidelines",
                ],
            ),
            (ErrorKind::Auth, &[400], &["incorrect api key", "invalid api key", "api key not valid", "invalid token"]),
            (
                ErrorKind::NotFound,
                &[400],
                &[
                    "model not found",
                    "model not exist",
                    "invalid model",
                    "not a valid model",
                    "unknown model",
                    "supported api model names are",
                ],
            ),
            (
                ErrorKind::QuotaExhausted,
                &[400, 403, 429],
                &[
                    "insufficient balance",
                    "exceeded your current quota",
                    "credit balance",
                    "usage limit",
                    "spend limit",
                    "spending limit",
                    "insufficient credits",
                    "monthly included credits",
                    "have any credits yet",
                    "used all available credits",
                ],
            ),
            (ErrorKind::Overloaded, &[429], &["overloaded", "capacity"]),
            (ErrorKind::Overloaded, &[500], &["overloaded"]),
        ];
        let found = table.iter().find(|(_, statuses, words)| statuses.contains(&status) && self.says(words));
        found.map(|(kind, ..)| *kind).or_else(|| match status {
            400 if ["the model ", "the requested model "].iter().any(|words| self.message.starts_with(words))
                && self.says(&[" does not exist", " has been deprecated", " has been decommissioned"]) =>
            {
                Some(ErrorKind::NotFound)
            }
            // OpenAI says overload with this name too, under a 503.
            status if status != 503 && self.is(&["server_error"]) => Some(ErrorKind::Server),
            200 if self.is(&["invalid_request_error", "BadRequestError"]) => Some(ErrorKind::InvalidRequest),
            // No API wrote it: it names no limit.
            429 if self.names.is_empty()
                && self.number.is_none()
                && !self.says(&["rate", "limit", "quota", "too many"]) =>
            {
                Some(ErrorKind::Overloaded)
            }
            _ => None,
        })
    }

    fn google(&self, status: u16) -> ErrorKind {
        let name = self.names.iter().copied().find(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        match (name, self.number.unwrap_or(status)) {
            _ if self.details.contains("API_KEY_INVALID") || self.details.contains("SERVICE_DISABLED") => {
                ErrorKind::Auth
            }
            (Some("RESOURCE_EXHAUSTED"), _) | (None, 429) => {
                let daily = self.details.contains("PerDay") || self.details.contains("Daily");
                if daily || self.says(&["limit: 0,", "limit: 0\n"]) || self.message.ends_with("limit: 0") {
                    ErrorKind::QuotaExhausted
                } else {
                    ErrorKind::RateLimited
                }
            }
            (Some("INVALID_ARGUMENT"), _) if self.says(&["api key not valid", "api key expired"]) => ErrorKind::Auth,
            (Some("INVALID_ARGUMENT"), _)
                if self.says(&["exceeds the maximum number of tokens", "input token count", "token limit"]) =>
            {
                ErrorKind::ContextLength
            }
            (Some("INVALID_ARGUMENT"), _) if self.says(&["unexpected model name format"]) => ErrorKind::NotFound,
            (Some("INVALID_ARGUMENT"), _) if self.says(&["payload size"]) => ErrorKind::TooLarge,
            (Some("INVALID_ARGUMENT"), _) => ErrorKind::InvalidRequest,
            (Some("FAILED_PRECONDITION"), _) => ErrorKind::QuotaExhausted,
            (Some("UNAUTHENTICATED" | "PERMISSION_DENIED"), _) => ErrorKind::Auth,
            (Some("NOT_FOUND"), _) => ErrorKind::NotFound,
            (Some("UNAVAILABLE"), _) => ErrorKind::Overloaded,
            (Some("CANCELLED" | "DEADLINE_EXCEEDED"), _) => ErrorKind::Timeout,
            (Some("INTERNAL" | "UNKNOWN"), _) => ErrorKind::Server,
            (_, number) => by_status(number),
        }
    }
}

fn by_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Auth,
        402 => ErrorKind::QuotaExhausted,
        404 => ErrorKind::NotFound,
        408 | 499 | 504 | 524 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        498 | 503 | 529 => ErrorKind::Overloaded,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::Server,
    }
}

/// Returns the wait that the answer asks for: its headers, then Google's `RetryInfo`, then the words of its message.
pub(crate) fn wait(exchange: &Exchange) -> Option<Duration> {
    let header = |name: &str| {
        let number = exchange.headers.get(name)?.to_str().ok()?.parse::<f64>().ok()?;
        (number > 0.0).then_some(number)
    };
    if let Some(milliseconds) = header("retry-after-ms") {
        return Some(Duration::from_secs_f64(milliseconds / 1000.0));
    }
    if let Some(seconds) = header("retry-after") {
        return Some(Duration::from_secs_f64(seconds));
    }
    // OpenRouter's: in milliseconds since 1970.
    if let Some(reset) = header("x-ratelimit-reset").filter(|reset| *reset > 1e12)
        && header("x-ratelimit-remaining").is_none()
    {
        let date = |value: &http::HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
        let sent = exchange.headers.get("date").and_then(date).unwrap_or_else(now);
        let since = sent.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        return Some(Duration::from_secs_f64(reset / 1000.0).saturating_sub(since));
    }
    let json: Value = serde_json::from_slice(&exchange.body).ok()?;
    let json = json.as_array().map_or(&json, |list| list.first().unwrap_or(&json));
    let error = if json["error"].is_object() { &json["error"] } else { json };
    let info = error["details"].as_array().into_iter().flatten().find_map(|detail| detail["retryDelay"].as_str());
    if exchange.dialect == Dialect::Gemini
        && let Some(delay) = info.and_then(spelled)
    {
        return Some(delay);
    }
    let message = error["message"].as_str()?;
    let lower = message.to_lowercase();
    ["try again in ", "retry after ", "retry in "].iter().find_map(|phrase| {
        let rest = &lower[lower.find(phrase)? + phrase.len()..];
        spelled(rest.split([' ', ',']).next()?).or_else(|| {
            let mut words = rest.split(' ');
            let number: f64 = words.next()?.parse().ok()?;
            words.next()?.starts_with("second").then(|| Duration::from_secs_f64(number))
        })
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a leaf has no other clock for an answer that does not say when it was sent"
)]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// A duration such as `36s`, `644ms` or `114h18m0s`, whatever dot follows it.
fn spelled(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut number = String::new();
    let mut letters = text.trim_end_matches('.').chars().peekable();
    while let Some(letter) = letters.next() {
        let each = match letter {
            '0'..='9' | '.' => {
                number.push(letter);
                continue;
            }
            'm' if letters.next_if_eq(&'s').is_some() => 1e-3,
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * each;
        number.clear();
    }
    (number.is_empty() && total > 0.0).then(|| Duration::from_secs_f64(total))
}
