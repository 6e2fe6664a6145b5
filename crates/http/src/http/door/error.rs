//! The errors of doors: their names and sentences, and the remedies.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use steadfast_dialects::gemini;

use super::{Door, Place};
use crate::{
    Dialect, ErrorKind, cloud_error,
    protocol::{ErrorBody, Meaning},
    sentences::KnownMessage,
};

/// The part of a credential that a door refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The token or key: it has ended, or it is unknown.
    Token,
    /// The signature, or the time in it.
    Signature,
}

/// Returns the refused part of the credential, if that is what an answer says. A right that is missing is none: another
/// token has the same rights.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Refused> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(name) = aws_exception(headers, &body) {
        return match cloud_error::aws_name(&name).trim_end_matches("Exception") {
            "ExpiredToken" | "UnrecognizedClient" | "InvalidClientTokenId" | "MissingAuthenticationToken" => {
                Some(Refused::Token)
            }
            "InvalidSignature"
            | "SignatureDoesNotMatch"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "IncompleteSignature" => Some(Refused::Signature),
            _ if BAD_KEY.is(&message(&body)) => Some(Refused::Token),
            _ => None,
        };
    }
    if status != StatusCode::UNAUTHORIZED {
        return (status == StatusCode::FORBIDDEN && BAD_KEY.is(&message(&body))).then_some(Refused::Token);
    }
    // Azure writes 401 for a missing role too.
    let code = body.get("error").and_then(|error| error.get("code")).and_then(Value::as_str);
    (code != Some("PermissionDenied")).then_some(Refused::Token)
}

/// Returns the name of an AWS exception, from the header or the body.
fn aws_exception(headers: &HeaderMap, body: &Value) -> Option<String> {
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let name = header.or_else(|| body.get("__type").and_then(Value::as_str))?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns the message of an AWS error. Its front spells the field in upper case.
fn message(body: &Value) -> String {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let text = text("message").or_else(|| text("Message")).unwrap_or_default();
    text.strip_prefix("The model returned the following errors: ").unwrap_or(text).to_owned()
}

impl Door {
    /// Returns the meaning of an error answer; `None` if its dialect's own rules say all.
    pub(in crate::http) fn meaning(
        &self,
        dialect: Dialect,
        model: Option<&str>,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Meaning> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let mut meaning = match &self.place {
            Place::Own => return None,
            Place::Aws { .. } => aws(dialect, status, headers, &body)?,
            Place::Azure { .. } => azure(&body)?,
            Place::Vertex { .. } => vertex(dialect, status, &body)?,
        };
        let is_about_the_model = matches!(meaning.kind, Some(ErrorKind::NotFound)) || status == StatusCode::NOT_FOUND;
        if is_about_the_model && let Some(doubt) = model.and_then(|model| self.doubt(dialect, model)) {
            meaning.advice = Some(doubt);
        }
        Some(meaning)
    }
}

fn aws(dialect: Dialect, status: StatusCode, headers: &HeaderMap, body: &Value) -> Option<Meaning> {
    let in_dialect = ErrorBody::of_answer(body);
    let Some(name) = aws_exception(headers, body) else {
        // Mantle's own answers are of the dialect; the front of AWS writes a bare message.
        let facts = match in_dialect {
            Some(facts) => facts,
            None => ErrorBody { message: message(body), ..ErrorBody::default() },
        };
        if facts.message.is_empty() && !facts.is_named() {
            return None;
        }
        let (kind, advice) = by_sentence(&facts, status);
        return Some(Meaning { kind, facts: typed(facts, dialect, status), advice });
    };
    let known = cloud_error::aws(&name);
    let mut facts = in_dialect.unwrap_or_else(|| ErrorBody { message: message(body), ..ErrorBody::default() });
    facts.code = Some(cloud_error::aws_name(&name).to_owned());
    let (by_sentence, advice) = by_sentence(&facts, status);
    let kind = by_sentence.or_else(|| known.map(|known| known.kind));
    // The dialect knows the sentences of a request that is at fault.
    if kind == Some(ErrorKind::InvalidRequest) && facts.kind.is_none() {
        let facts = ErrorBody { code: None, ..facts };
        let facts = typed(facts, dialect, status);
        return Some(Meaning { kind: None, facts, advice });
    }
    Some(Meaning { kind, facts, advice })
}

/// Adds the dialect's own name of a request that is at fault.
fn typed(mut facts: ErrorBody, dialect: Dialect, status: StatusCode) -> ErrorBody {
    if facts.kind.is_none() && status == StatusCode::BAD_REQUEST && dialect == Dialect::Anthropic {
        facts.kind = Some("invalid_request_error".to_owned());
    }
    facts
}

/// Returns the kind and the remedy of AWS's sentences whose exception is too coarse.
fn by_sentence(facts: &ErrorBody, status: StatusCode) -> (Option<ErrorKind>, Option<String>) {
    let is = |known: &KnownMessage| known.is(&facts.message);
    if is(&NO_ACCESS) {
        let advice = "request access to the model in the console of Amazon Bedrock, in this region";
        (Some(ErrorKind::NotFound), Some(advice.to_owned()))
    } else if is(&NEEDS_PROFILE) {
        let advice = "name an inference profile of the model, such as its id behind `us.`, `eu.` or `global.`";
        (Some(ErrorKind::NotFound), Some(advice.to_owned()))
    } else if is(&NO_MODEL) {
        (Some(ErrorKind::NotFound), Some("check the model's id, and that this region has it".to_owned()))
    } else if is(&PER_DAY) {
        (Some(ErrorKind::QuotaExhausted), Some("raise the account's quota in Service Quotas".to_owned()))
    } else if is(&BAD_KEY) {
        (Some(ErrorKind::Auth), Some("set an API key of Amazon Bedrock that has not ended".to_owned()))
    } else if status == StatusCode::FORBIDDEN && facts.message.contains(" is not authorized to perform: bedrock") {
        (Some(ErrorKind::Auth), Some("allow the action for this identity in IAM".to_owned()))
    } else {
        (facts.kind_by_sentence(status), None)
    }
}

/// Access to a model that the account has not asked for, or cannot pay: a setting, and no outage.
const NO_ACCESS: KnownMessage = KnownMessage {
    first: &[
        "you don't have access to the model with the specified model id",
        "you don't have access to the model with the specified model id @",
        "model access is denied due to @",
        "model use case details have not been submitted for this account",
        "access to this model is not available for channel program accounts",
    ],
    then: &[
        "fill out the anthropic use case details form before using the model",
        "if you have already filled out the form try again in # minutes",
        "reach out to your aws solution provider or aws distributor for more information",
        "your aws account @ has an invalid payment instrument",
        "a valid payment instrument must be provided",
    ],
};

const NEEDS_PROFILE: KnownMessage = KnownMessage {
    first: &[
        "invocation of model id @ with on-demand throughput isn't supported",
        "invocation of model id @ with on-demand throughput isn\u{2019}t supported",
    ],
    then: &["retry your request with the id or arn of an inference profile that contains this model"],
};

const NO_MODEL: KnownMessage = KnownMessage {
    first: &[
        "the provided model identifier is invalid",
        "the model id is not supported",
        "the requested model is not available in this region",
        "this model version has reached the end of its life",
    ],
    then: &["please refer to the aws documentation for more details"],
};

const PER_DAY: KnownMessage = KnownMessage {
    first: &["too many tokens per day", "too many requests per day"],
    then: &["please wait before trying again"],
};

const BAD_KEY: KnownMessage = KnownMessage {
    first: &["authentication failed", "invalid api key format", "bearer token has expired", "api key has expired"],
    then: &["please make sure your api key is valid", "must start with pre-defined prefix"],
};

fn azure(body: &Value) -> Option<Meaning> {
    // Without an `error`, the front writes the status into the body: `{"statusCode": 401, "message": ..}`.
    let facts = ErrorBody::of_error(body)?;
    let kind = facts.code.as_deref().and_then(cloud_error::azure)?;
    let advice = match (kind, facts.code.as_deref()) {
        (ErrorKind::NotFound, Some("DeploymentNotFound")) => {
            Some("create the deployment, wait some minutes after that, or name another one")
        }
        (ErrorKind::Auth, Some("PermissionDenied")) => {
            Some("give this identity the role `Cognitive Services User`, or `Cognitive Services OpenAI User`")
        }
        _ => None,
    };
    Some(Meaning { kind: Some(kind), facts, advice: advice.map(Into::into) })
}

fn vertex(dialect: Dialect, status: StatusCode, body: &Value) -> Option<Meaning> {
    let facts = ErrorBody::of_error(body)?;
    // Claude's own errors are of its dialect.
    if facts.kind.is_some() && facts.status.is_none() {
        return None;
    }
    let kind = match dialect {
        Dialect::Anthropic => Some(gemini::google_kind(status, &facts)),
        _ => None,
    };
    let named = facts.status.as_deref();
    let is_denied = named == Some("PERMISSION_DENIED") || status == StatusCode::FORBIDDEN;
    let advice = if gemini::is_disabled(&facts) {
        Some("enable the Vertex AI API for the project, and wait some minutes")
    } else if is_denied {
        Some("give this identity the role `roles/aiplatform.user` in the project")
    } else if named == Some("NOT_FOUND") {
        Some("enable the model in Model Garden, and check that the location has it")
    } else {
        None
    };
    Some(Meaning { kind, facts, advice: advice.map(Into::into) })
}
