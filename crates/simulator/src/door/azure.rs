//! Azure: OpenAI's Chat and Responses at `/openai/v1` and at deployments, and Claude on Foundry (learn.microsoft.com,
//! "Azure OpenAI reference", "Claude in Foundry"; the answers as recorded).

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{Door, with_headers};
use crate::{
    anthropic::Anthropic,
    openai::OpenAi,
    protocol::{Answer, ParsedRequest, Protocol, set, status_code, whole_seconds},
    refusal::{Denial, Refusal},
    responses::Responses,
};
use steadfast::{Dialect, providers::simulated::RateStatus};

/// Returns the deployment in `/openai/deployments/{deployment}/chat/completions`.
pub(super) fn deployment(path: &str) -> Option<&str> {
    let (deployment, rest) = path.strip_prefix("/openai/deployments/")?.split_once('/')?;
    (rest == "chat/completions" && !deployment.is_empty()).then_some(deployment)
}

/// OpenAI's protocols at a resource.
#[derive(Debug)]
pub(super) struct Resource(&'static dyn Protocol);

pub(super) static CHAT: Resource = Resource(&OpenAi);
pub(super) static RESPONSES: Resource = Resource(&Responses);

/// Returns an error of Azure's front, or `None` where the model's own server refuses.
fn front(refusal: &Refusal) -> Option<(StatusCode, Value)> {
    let (status, code, message): (u16, &str, String) = match refusal {
        Refusal::RateLimited(wait) => {
            let seconds = wait.map(whole_seconds);
            let after = seconds.map_or_else(String::new, |wait| format!(" Please retry after {wait} seconds."));
            let words = "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded \
                         call rate limit of your current OpenAI S0 pricing tier.";
            (429, "429", format!("{words}{after}"))
        }
        Refusal::Quota => (
            429,
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.".into(),
        ),
        Refusal::Unauthorized
        | Refusal::BadKey
        | Refusal::Denied(Denial::Unknown | Denial::Missing | Denial::Signature(_)) => (
            401,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an \
             active subscription and use a correct regional API endpoint for your resource."
                .into(),
        ),
        Refusal::Denied(Denial::Expired) => (
            401,
            "Unauthorized",
            "Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have \
             expired."
                .into(),
        ),
        Refusal::Denied(Denial::Model(_)) => (
            403,
            "PermissionDenied",
            "The principal lacks the required data action to perform this operation.".into(),
        ),
        Refusal::UnknownModel(_) => (
            404,
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
             minutes, please wait a moment and try again."
                .into(),
        ),
        Refusal::UnknownPath(_) => (404, "404", "Resource not found".into()),
        _ => return None,
    };
    Some((status_code(status), json!({ "error": { "code": code, "message": message } })))
}

fn front_headers(to: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
    set(to, "apim-request-id", request_id);
    set(to, "x-ms-region", "Sweden Central");
    if let Some(requests) = rate.requests {
        set(to, "x-ratelimit-limit-requests", requests.limit);
        set(to, "x-ratelimit-remaining-requests", requests.remaining);
    }
    if let Some(tokens) = rate.tokens {
        set(to, "x-ratelimit-limit-tokens", tokens.limit);
        set(to, "x-ratelimit-remaining-tokens", tokens.remaining);
    }
    if let Some(Refusal::RateLimited(Some(wait))) = refusal {
        set(to, "retry-after", whole_seconds(*wait));
        set(to, "retry-after-ms", wait.as_nanos().div_ceil(1_000_000).max(1));
    }
}

impl Door for Resource {
    fn inner(&self) -> &'static dyn Protocol {
        self.0
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        let path = request.uri.path();
        let query = request.uri.query().unwrap_or_default();
        let version = query.split('&').find_map(|pair| pair.strip_prefix("api-version="));
        // `/openai/v1` has no version, or one of its own.
        let right = match path.strip_prefix("/openai/v1/") {
            Some(_) => matches!(version, None | Some("v1" | "preview" | "latest")),
            None => version.is_some_and(|version| version.starts_with("20")),
        };
        if !right {
            return Err(Refusal::UnknownPath(path.to_owned()));
        }
        let mut body = body.clone();
        if let Some(deployment) = deployment(path) {
            body["model"] = super::decoded(deployment).into();
        }
        let mut ask = self.0.ask(&with_headers(request, &[]), &body, account)?;
        ask.dialect_body = Some(body);
        Ok(ask)
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        if let Some(refused) = front(refusal) {
            return refused;
        }
        let (status, mut body) = self.0.refuse(refusal, request_id);
        if *refusal == Refusal::ContentFilter {
            body["error"]["code"] = "content_filter".into();
            body["error"]["param"] = "prompt".into();
            body["error"]["status"] = 400.into();
            body["error"]["message"] = "The response was filtered due to the prompt triggering Azure OpenAI's content \
                                        management policy. Please modify your prompt and retry."
                .into();
            body["error"]["innererror"] = json!({
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": { "violence": { "filtered": true, "severity": "medium" } },
            });
        }
        (status, body)
    }

    fn headers(&self, to: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        front_headers(to, request_id, rate, refusal);
        set(to, "x-request-id", request_id);
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut whole = self.0.whole(answer);
        if self.0.dialect() == Dialect::OpenAi {
            whole["choices"][0]["content_filter_results"] = harmless();
            whole["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": harmless() }]);
        }
        whole
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        if self.0.dialect() == Dialect::OpenAi {
            let results = json!([{ "prompt_index": 0, "content_filter_results": harmless() }]);
            let first = json!({ "choices": [], "created": 0, "id": "", "model": "", "object": "",
                "prompt_filter_results": results });
            to.push_str(&format!("data: {first}\n\n"));
        }
        self.0.opening(answer, to);
    }
}

fn harmless() -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe })
}

/// Claude on Foundry.
#[derive(Debug)]
pub(super) struct Foundry;

impl Door for Foundry {
    fn inner(&self) -> &'static dyn Protocol {
        &Anthropic
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        let ask = Anthropic.ask(&with_headers(request, &[]), body, account)?;
        // Deployments have the models' own names, or others, but none of Bedrock's or Vertex's.
        if ask.model.contains("anthropic.") || ask.model.contains('@') {
            return Err(Refusal::UnknownModel(ask.model));
        }
        Ok(ask)
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        match refusal {
            Refusal::RateLimited(_) | Refusal::Quota => Anthropic.refuse(refusal, request_id),
            _ => front(refusal).unwrap_or_else(|| Anthropic.refuse(refusal, request_id)),
        }
    }

    fn headers(&self, to: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        front_headers(to, request_id, rate, refusal);
    }
}
