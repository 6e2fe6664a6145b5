//! Vertex AI: Claude by `rawPredict` and `streamRawPredict`, Gemini by `generateContent` and `streamGenerateContent`
//! (cloud.google.com, "Claude models", "Generate content"; the answers as recorded).

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{Door, betas, mark_ids, mark_opening, messages_of, plain_model, with_headers};
use crate::{
    anthropic::Anthropic,
    gemini::Gemini as GeminiApi,
    protocol::{Answer, ParsedRequest, Protocol, count_field, header, list_field, set, status_code},
    refusal::{Denial, Refusal},
};
use steadfast::providers::simulated::RateStatus;

/// The parts of `/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}:{method}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModelPath<'a> {
    pub(super) project: &'a str,
    pub(super) location: &'a str,
    pub(super) publisher: &'a str,
    pub(super) model: &'a str,
    pub(super) method: &'a str,
}

/// Splits the path of a model; an API key goes without a project and a location.
pub(super) fn split_path(path: &str) -> Option<ModelPath<'_>> {
    let rest = ["/v1/", "/v1beta1/"].iter().find_map(|version| path.strip_prefix(version))?;
    let (project, location, rest) = match rest.strip_prefix("projects/") {
        Some(rest) => {
            let (project, rest) = rest.split_once("/locations/")?;
            let (location, rest) = rest.split_once("/publishers/")?;
            (project, location, rest)
        }
        None => ("", "global", rest.strip_prefix("publishers/")?),
    };
    let (publisher, rest) = rest.split_once("/models/")?;
    let (model, method) = rest.rsplit_once(':')?;
    let methods: &[&str] = match publisher {
        "anthropic" => &["rawPredict", "streamRawPredict"],
        "google" => &["generateContent", "streamGenerateContent"],
        _ => return None,
    };
    methods.contains(&method).then_some(ModelPath { project, location, publisher, model, method })
}

/// Requires the host of the location, where the host is one of Google's.
fn check_host(request: &Parts, place: ModelPath<'_>) -> Result<(), Refusal> {
    let host = super::host(request);
    let right = match place.location {
        "global" => "aiplatform.googleapis.com".to_owned(),
        area @ ("us" | "eu") => format!("aiplatform.{area}.rep.googleapis.com"),
        region => format!("{region}-aiplatform.googleapis.com"),
    };
    let elsewhere = super::cloud_of_host(&host).is_some() && host != right;
    if elsewhere || place.location.is_empty() {
        return Err(Refusal::UnknownPath(request.uri.path().to_owned()));
    }
    Ok(())
}

fn place_of(request: &Parts) -> Result<ModelPath<'_>, Refusal> {
    let path = request.uri.path();
    let place = split_path(path).ok_or_else(|| Refusal::UnknownPath(path.to_owned()))?;
    check_host(request, place)?;
    // A project is named by the path, or by an API key.
    if place.project.is_empty() && header(request, "x-goog-api-key").is_none() {
        return Err(Refusal::UnknownPath(path.to_owned()));
    }
    Ok(place)
}

/// Returns an error of Google's front, or `None` where the model's own server refuses.
fn front(refusal: &Refusal) -> Option<(StatusCode, Value)> {
    let (code, status, words) = match refusal {
        Refusal::RateLimited(_) => (
            429,
            "RESOURCE_EXHAUSTED",
            "Resource exhausted. Please try again later. Please refer to \
             https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."
                .to_owned(),
        ),
        Refusal::Quota => (
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model. Please submit a \
             quota increase request."
                .to_owned(),
        ),
        Refusal::Server => (500, "INTERNAL", "Internal error encountered.".to_owned()),
        Refusal::Unavailable => (503, "UNAVAILABLE", "The service is currently unavailable.".to_owned()),
        Refusal::Unauthorized | Refusal::BadKey | Refusal::Denied(Denial::Unknown | Denial::Expired) => (
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
             authentication credential."
                .to_owned(),
        ),
        Refusal::Denied(Denial::Missing | Denial::Signature(_)) => (
            401,
            "UNAUTHENTICATED",
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or \
             other valid authentication credential."
                .to_owned(),
        ),
        Refusal::Denied(Denial::Model(model)) => (
            403,
            "PERMISSION_DENIED",
            format!("Permission 'aiplatform.endpoints.predict' denied on resource 'models/{model}' (or it may not exist)."),
        ),
        Refusal::UnknownModel(model) => (
            404,
            "NOT_FOUND",
            format!("Publisher Model `{model}` was not found or your project does not have access to it."),
        ),
        Refusal::UnknownPath(path) => (404, "NOT_FOUND", format!("{path} was not found")),
        _ => return None,
    };
    let mut error = json!({ "code": code, "message": words, "status": status });
    let reason = match refusal {
        Refusal::Denied(Denial::Expired) => Some("ACCESS_TOKEN_EXPIRED"),
        Refusal::Denied(Denial::Missing) => Some("CREDENTIALS_MISSING"),
        Refusal::Denied(Denial::Unknown) => Some("ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        Refusal::Denied(Denial::Model(_)) => Some("IAM_PERMISSION_DENIED"),
        _ => None,
    };
    if let Some(reason) = reason {
        error["details"] = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": { "service": "aiplatform.googleapis.com" },
        }]);
    }
    Some((status_code(code), json!({ "error": error })))
}

/// Claude at Vertex.
#[derive(Debug)]
pub(super) struct Claude;

impl Door for Claude {
    fn inner(&self) -> &'static dyn Protocol {
        &Anthropic
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        let place = place_of(request)?;
        let (mut body, version) = messages_of(body, &betas(request), "vertex-2023-10-16")?;
        let model = super::decoded(place.model);
        // Its own ids have the date behind `@`.
        if model.contains("anthropic.") || !model.starts_with("claude-") {
            return Err(Refusal::UnknownModel(model));
        }
        body["model"] = model.as_str().into();
        let mut ask = Anthropic.ask(&with_headers(request, &[version]), &body, account)?;
        ask.spoken = Some(plain_model(&model));
        ask.dialect_body = Some(body);
        Ok(ask)
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        front(refusal).unwrap_or_else(|| Anthropic.refuse(refusal, &request_id.replace("req_", "req_vrtx_")))
    }

    fn headers(&self, to: &mut HeaderMap, request_id: &str, _: &RateStatus, refusal: Option<&Refusal>) {
        // No header has the limits, or a wait.
        set(to, "server", "scaffolding on HTTPServer2");
        if refusal.is_none_or(|refusal| front(refusal).is_none()) {
            set(to, "request-id", request_id.replace("req_", "req_vrtx_"));
        }
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message = Anthropic.whole(answer);
        mark_ids(&mut message, "vrtx");
        message
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        let mut text = String::new();
        Anthropic.opening(answer, &mut text);
        to.push_str(&mark_opening(&text, "vrtx"));
    }
}

/// Gemini at Vertex.
#[derive(Debug)]
pub(super) struct Gemini;

impl Door for Gemini {
    fn inner(&self) -> &'static dyn Protocol {
        &GeminiApi
    }

    fn ask(&self, request: &Parts, body: &Value, _: &str) -> Result<ParsedRequest, Refusal> {
        let place = place_of(request)?;
        let contents = list_field(body, "contents").ok_or_else(|| {
            Refusal::invalid("contents", "Unable to submit request because it must have at least one contents field.")
        })?;
        // The other door takes a turn without a role.
        if contents.iter().any(|turn| !matches!(turn["role"].as_str(), Some("user" | "model" | "function"))) {
            return Err(Refusal::invalid("contents", "Please use a valid role: user, model."));
        }
        crate::check::examine(self.inner().dialect(), place.model, body)?;
        Ok(ParsedRequest {
            model: super::decoded(place.model),
            stream: place.method == "streamGenerateContent",
            max_tokens: count_field(&body["generationConfig"], "maxOutputTokens"),
            prefilled: contents.last().is_some_and(|last| last["role"] == "model"),
            include_usage: true,
            ..ParsedRequest::default()
        })
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        front(refusal).unwrap_or_else(|| GeminiApi.refuse(refusal, request_id))
    }

    fn headers(&self, to: &mut HeaderMap, _: &str, _: &RateStatus, _: Option<&Refusal>) {
        set(to, "server", "scaffolding on HTTPServer2");
    }
}
