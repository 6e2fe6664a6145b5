//! The same dialects at clouds: other paths, other credentials, other errors.
//!
//! A door changes a request into its dialect's own form for the checks ([`crate::check`]), and the answer back. What a
//! door refuses is what its documentation and its users' issues say, and nothing comes from the library: this module
//! judges that.

mod accounts;
mod aws;
mod azure;
mod converse;
mod sigv4;
#[cfg(test)]
mod tests;
mod vertex;

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderValue, StatusCode, header::HeaderName, request::Parts};
use serde_json::Value;

pub(crate) use self::accounts::State;
pub use self::accounts::{Accounts, Cloud, TokenFault};
use crate::{
    event_stream::Framing,
    protocol::{Answer, ParsedRequest, Protocol, bearer, header},
    refusal::{Denial, Refusal},
};
use steadfast::{Dialect, providers::simulated::RateStatus};

/// A dialect's protocol at a cloud. Answers are the inner protocol's unless a door says otherwise.
trait Door: fmt::Debug + Send + Sync {
    fn inner(&self) -> &'static dyn Protocol;

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal>;

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value);

    fn headers(&self, headers: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>);

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    fn whole(&self, answer: &Answer) -> Value {
        self.inner().whole(answer)
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        self.inner().opening(answer, to);
    }

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        self.inner().token(answer, index, to);
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        self.inner().ending(answer, to);
    }

    fn end_mark(&self, answer: &Answer) -> Cow<'static, str> {
        self.inner().end_mark(answer)
    }

    fn error_event(&self, answer: &Answer, tokens: u32, to: &mut String) {
        self.inner().error_event(answer, tokens, to);
    }
}

impl<D: Door> Protocol for D {
    fn dialect(&self) -> Dialect {
        self.inner().dialect()
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        Door::ask(self, request, body, account)
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        Door::refuse(self, refusal, request_id)
    }

    fn headers(&self, headers: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        Door::headers(self, headers, request_id, rate, refusal);
    }

    fn framing(&self) -> Framing {
        Door::framing(self)
    }

    fn whole(&self, answer: &Answer) -> Value {
        Door::whole(self, answer)
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        Door::opening(self, answer, to);
    }

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        Door::token(self, answer, index, to);
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        Door::ending(self, answer, to);
    }

    fn end_mark(&self, answer: &Answer) -> Cow<'static, str> {
        Door::end_mark(self, answer)
    }

    fn error_event(&self, answer: &Answer, tokens: u32, to: &mut String) {
        Door::error_event(self, answer, tokens, to);
    }

    fn keep_alive(&self) -> &'static str {
        self.inner().keep_alive()
    }
}

/// The place at which a request arrives.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) protocol: &'static dyn Protocol,
    pub(super) cloud: Cloud,
    /// The services of AWS for which a signature may be.
    services: &'static [&'static str],
    /// The region in the host's name.
    region: Option<String>,
}

impl Place {
    /// Refuses a request without a good credential.
    pub(super) fn admit(&self, request: &Parts, body: &[u8], accounts: &Accounts) -> Result<(), Denial> {
        let key = |name: &str| header(request, name).filter(|value| !value.is_empty());
        match self.cloud {
            Cloud::Aws if sigv4::is_signed(request) => {
                let region = self.region.as_deref();
                let scope = sigv4::Scope { services: self.services, region, now: accounts.now() };
                sigv4::verify(request, body, &scope, |id| accounts.pair(id))
            }
            Cloud::Aws => accounts.judge(Cloud::Aws, bearer(request).or_else(|| key("x-api-key"))),
            Cloud::Azure => {
                let token = bearer(request).or_else(|| key("api-key")).or_else(|| key("x-api-key"));
                accounts.judge(Cloud::Azure, token)
            }
            Cloud::Google => accounts.judge(Cloud::Google, bearer(request).or_else(|| key("x-goog-api-key"))),
        }
    }

    /// Refuses a model to which the account has no access.
    pub(super) fn admit_model(&self, model: &str, accounts: &Accounts) -> Result<(), Denial> {
        accounts.judge_model(self.cloud, model)
    }
}

/// Returns the place for a request; `None` for paths of no cloud.
///
/// Paths of several clouds go by the host, the restriction, the form of the credential and the model's id.
pub(super) fn find(request: &Parts, body: &[u8], only: Option<Cloud>) -> Option<Place> {
    let path = request.uri.path();
    let host = host(request);
    let named = cloud_of_host(&host).or(only);
    let is = |cloud: Cloud| named.is_none_or(|named| named == cloud);
    let aws = |protocol: &'static dyn Protocol, services: &'static [&'static str]| {
        is(Cloud::Aws).then(|| Place { protocol, cloud: Cloud::Aws, services, region: region_of_host(&host) })
    };
    let elsewhere = |cloud: Cloud, protocol: &'static dyn Protocol| {
        is(cloud).then_some(Place { protocol, cloud, services: &[], region: None })
    };
    let signed = sigv4::is_signed(request);
    if let Some((_, action)) = aws::split_path(path) {
        return match action {
            "invoke" | "invoke-with-response-stream" => aws(&aws::Invoke, &[RUNTIME]),
            "converse" | "converse-stream" => aws(&converse::Converse, &[RUNTIME]),
            _ => None,
        };
    }
    if let Some(model) = vertex::split_path(path) {
        return elsewhere(
            Cloud::Google,
            if model.publisher == "anthropic" { &vertex::Claude } else { &vertex::Gemini },
        );
    }
    if azure::deployment(path).is_some() || path == "/openai/responses" {
        return elsewhere(Cloud::Azure, if path.ends_with("responses") { &azure::RESPONSES } else { &azure::CHAT });
    }
    match path {
        "/anthropic/v1/messages" | "/anthropic/v1/messages/count_tokens" => {
            let of_aws = || signed || body.windows(10).any(|part| part == b"anthropic.");
            let at_azure = !header(request, "api-key").unwrap_or_default().is_empty() || !of_aws();
            match named {
                Some(Cloud::Aws) => aws(&aws::MESSAGES, &[MANTLE, RUNTIME]),
                None if !at_azure => aws(&aws::MESSAGES, &[MANTLE, RUNTIME]),
                _ => elsewhere(Cloud::Azure, &azure::Foundry),
            }
        }
        "/openai/v1/chat/completions" | "/openai/v1/responses" => {
            let responses = path.ends_with("responses");
            match named {
                Some(Cloud::Aws) => aws(if responses { &aws::RESPONSES } else { &aws::CHAT }, &[MANTLE, RUNTIME]),
                None if signed => aws(if responses { &aws::RESPONSES } else { &aws::CHAT }, &[MANTLE, RUNTIME]),
                _ => elsewhere(Cloud::Azure, if responses { &azure::RESPONSES } else { &azure::CHAT }),
            }
        }
        "/v1/chat/completions" if named == Some(Cloud::Aws) || signed => aws(&aws::CHAT, &[MANTLE]),
        "/v1/responses" if named == Some(Cloud::Aws) || signed => aws(&aws::RESPONSES, &[MANTLE]),
        _ => None,
    }
}

/// Returns the door whose errors a path gets that no door knows.
pub(super) fn at_unknown(path: &str) -> Option<&'static dyn Protocol> {
    if path.starts_with("/model/") {
        Some(&aws::Invoke)
    } else if path.starts_with("/openai/") {
        Some(&azure::CHAT)
    } else if path.contains("/publishers/") {
        Some(&vertex::Gemini)
    } else {
        None
    }
}

const MANTLE: &str = "bedrock-mantle";
const RUNTIME: &str = "bedrock";

fn host(request: &Parts) -> String {
    let named = request.uri.host().or_else(|| header(request, "host"));
    let host = named.unwrap_or_default();
    host.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

fn cloud_of_host(host: &str) -> Option<Cloud> {
    const ENDS: [(&str, Cloud); 6] = [
        (".amazonaws.com", Cloud::Aws),
        (".api.aws", Cloud::Aws),
        (".openai.azure.com", Cloud::Azure),
        (".services.ai.azure.com", Cloud::Azure),
        (".cognitiveservices.azure.com", Cloud::Azure),
        ("aiplatform.googleapis.com", Cloud::Google),
    ];
    let of_multi_region = host.starts_with("aiplatform.") && host.ends_with(".rep.googleapis.com");
    let found = ENDS.into_iter().find(|(end, _)| host.ends_with(end)).map(|(_, cloud)| cloud);
    found.or_else(|| of_multi_region.then_some(Cloud::Google))
}

/// Returns the region in `bedrock-runtime.{region}.amazonaws.com` or `bedrock-mantle.{region}.api.aws`.
fn region_of_host(host: &str) -> Option<String> {
    let rest =
        ["bedrock-runtime.", "bedrock-runtime-fips.", "bedrock-mantle."].iter().find_map(|s| host.strip_prefix(s))?;
    Some(rest.split('.').next()?.to_owned())
}

/// Decodes percent-encoding; bytes that are no UTF-8 become replacement characters.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match hex.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the request with other headers, for the dialect's own checks: the door has judged the credential.
fn with_headers(request: &Parts, headers: &[(&'static str, &'static str)]) -> Parts {
    let mut request = request.clone();
    for name in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
        request.headers.remove(name);
    }
    for (name, value) in headers {
        request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    request
}

/// The header that the checks of Messages require; doors with a version in the body do not send it.
const VERSION: Version = ("anthropic-version", "2023-06-01");
const NEWER: Version = ("anthropic-version", "2026-10-21");

type Version = (&'static str, &'static str);

/// Values of `anthropic-beta` that Bedrock's InvokeModel and Vertex refused in their users' issues
/// (anthropics/claude-code, BerriAI/litellm, loreai, better-ccflare).
const REFUSED_BETAS: &[&str] = &[
    "advanced-tool-use-",
    "claude-code-",
    "code-execution-",
    "files-api-",
    "mcp-client-",
    "oauth-",
    "prompt-caching-scope-",
    "skills-",
    "structured-outputs-",
];

/// Turns a request with its model in the path into the dialect's own form, and refuses what the door does not take.
///
/// The version beside it is that of the API: the clouds' SDKs send the newer one as it is (anthropic 2.12.0).
fn messages_of(body: &Value, betas: &[&str], version: &str) -> Result<(Value, Version), Refusal> {
    let said = body["anthropic_version"].as_str();
    let newer = said == Some(NEWER.1);
    if said != Some(version) && !newer {
        let words = match said {
            None => "anthropic_version: Field required".to_owned(),
            Some(said) => format!("anthropic_version: \"{said}\" is not supported on this model"),
        };
        return Err(Refusal::invalid("anthropic_version", words));
    }
    for name in ["model", "cache_control"] {
        if !body[name].is_null() {
            return Err(Refusal::invalid(name, format!("{name}: Extra inputs are not permitted")));
        }
    }
    if let Some(beta) = betas.iter().find(|beta| REFUSED_BETAS.iter().any(|refused| beta.starts_with(refused))) {
        return Err(Refusal::invalid("anthropic_beta", format!("invalid beta flag: {beta}")));
    }
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("anthropic_version");
        fields.remove("anthropic_beta");
    }
    Ok((body, if newer { NEWER } else { VERSION }))
}

/// Returns the family's own name of a door's model id: `us.anthropic.claude-sonnet-4-5-20250929-v1:0`,
/// `claude-haiku-4-5@20251001`.
fn plain_model(id: &str) -> String {
    let name = id.rsplit_once('/').map_or(id, |(_, name)| name);
    let name = ["anthropic.", "openai."].iter().find_map(|of| Some(name.split_once(of)?.1)).unwrap_or(name);
    let name = name.split(':').next().unwrap_or_default();
    let name = name.strip_suffix("-v1").or_else(|| name.strip_suffix("-v2")).unwrap_or(name);
    name.replace('@', "-")
}

/// Writes the door's own prefix into the ids of an answer.
fn mark_ids(message: &mut Value, mark: &str) {
    let own = |id: &mut Value, prefix: &str| {
        if let Some(rest) = id.as_str().and_then(|id| id.strip_prefix(prefix)) {
            *id = format!("{prefix}{mark}_{rest}").into();
        }
    };
    own(&mut message["id"], "msg_");
    for block in message["content"].as_array_mut().into_iter().flatten() {
        if block["type"] == "tool_use" {
            own(&mut block["id"], "toolu_");
        }
    }
}

/// Does the same in the opening of a stream, which has no text of the model's.
fn mark_opening(text: &str, mark: &str) -> String {
    text.replace("\"msg_", &format!("\"msg_{mark}_")).replace("\"toolu_", &format!("\"toolu_{mark}_"))
}

/// Returns the values of the header `anthropic-beta`.
fn betas(request: &Parts) -> Vec<&str> {
    let values = request.headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|beta| !beta.is_empty()).collect()
}
