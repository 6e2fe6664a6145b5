//! The paths of the API: their names, their dialects, and the requests that they say by themselves. No handler is here.
//!
//! Those of models ignore queries: Claude Code calls `/v1/messages?beta=true`, Azure's clients send `api-version`. A
//! list's filter is a query that is read. Other addresses of the same paths become these in [`addresses`].

pub(super) mod addresses;
pub(super) mod gemini;
pub(super) mod lane;
pub(crate) mod objects;

use http::{HeaderMap, Method, uri::PathAndQuery};
use steadfast::Dialect;

/// The paths for callers, as an unknown path's error lists them. The guide documents those for operators and reviewers.
pub(crate) const SERVED: [&str; 25] = [
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "POST /v1/responses/compact",
    "POST /v1/responses/input_tokens",
    "POST /v1beta/models/{model}:generateContent",
    "POST /v1beta/models/{model}:streamGenerateContent",
    "POST /v1beta/models/{model}:countTokens",
    "GET /v1beta/models",
    "GET /v1beta/models/{model}",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /openai/deployments/{model}/chat/completions",
    "POST /openai/v1/chat/completions",
    "GET /v1/key",
    "GET /requests",
    "GET /requests/{id}",
    "GET /handoff/answers/{id}",
    "GET /status",
    "GET /overview",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
    "GET /",
];

pub(super) const MESSAGES: &str = "/v1/messages";
pub(super) const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
pub(super) const CHAT_COMPLETIONS: &str = "/v1/chat/completions";
pub(super) const RESPONSES: &str = "/v1/responses";
pub(super) const COMPACT: &str = "/v1/responses/compact";
pub(super) const INPUT_TOKENS: &str = "/v1/responses/input_tokens";

/// The endings by which a request to any base URL is known, and the path of each. Azure and compatible servers have
/// OpenAI's APIs under many paths. Anthropic's endings include the version, since other APIs have messages too.
const ENDINGS: [(&str, &str); 6] = [
    ("/chat/completions", CHAT_COMPLETIONS),
    ("/responses", RESPONSES),
    ("/responses/compact", COMPACT),
    ("/responses/input_tokens", INPUT_TOKENS),
    (MESSAGES, MESSAGES),
    (COUNT_TOKENS, COUNT_TOKENS),
];

/// Returns the path of a request's ending.
pub(super) fn path_by_ending(path: &str) -> Option<&'static str> {
    ENDINGS.into_iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, served)| served)
}

/// Returns the dialect of a path that asks models for answers.
pub(super) fn dialect_of_calls(path: &str) -> Option<Dialect> {
    match path {
        MESSAGES => Some(Dialect::Anthropic),
        CHAT_COMPLETIONS => Some(Dialect::OpenAi),
        RESPONSES | COMPACT => Some(Dialect::Responses),
        _ if gemini::asks_model(path) => Some(Dialect::Gemini),
        _ => None,
    }
}

/// Returns the path of this API that a request to any base URL is meant for, if there is one. Of a query it keeps that
/// of a call of Gemini's, which says the form of a stream.
pub(super) fn path_of(method: &Method, address: &str) -> Option<PathAndQuery> {
    let path = address.split_once('?').map_or(address, |(path, _)| path);
    if let Some(served) = path_by_ending(path) {
        return Some(PathAndQuery::from_static(served));
    }
    if method == Method::POST {
        let found = path.match_indices(IN_MODELS).map(|(at, models)| at + models.len());
        // A name may have this word in it: the first is the path's.
        let at = found.into_iter().find(|at| gemini::call_of(&path[*at..]).is_some())?;
        return PathAndQuery::try_from(format!("{}{IN_MODELS}{}", gemini::VERSIONS[0], &address[at..])).ok();
    }
    let at = path.rfind("/models")?;
    let model = &path[at + "/models".len()..];
    let is_list = model.is_empty() || model.starts_with('/');
    let version = gemini::VERSIONS.into_iter().find(|version| path[..at].ends_with(version)).unwrap_or(VERSION);
    is_list.then(|| PathAndQuery::try_from(format!("{version}/models{model}")).ok())?
}

const VERSION: &str = "/v1";
const IN_MODELS: &str = "/models/";

/// Returns a caller's dialect: by the path, else by the headers that each API requires.
pub(crate) fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    let says = |name: &str| headers.contains_key(name);
    match path {
        _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
        _ if path.starts_with("/v1/chat/") => Dialect::OpenAi,
        _ if path == RESPONSES || path.starts_with("/v1/responses/") => Dialect::Responses,
        _ if gemini::is_path(path) => Dialect::Gemini,
        _ if ["anthropic-version", "anthropic-beta", "x-api-key"].into_iter().any(says) => Dialect::Anthropic,
        // Anthropic's clients for Bedrock and Vertex, which send none of these headers.
        _ if path.starts_with("/model/") || path.contains("/publishers/anthropic/") => Dialect::Anthropic,
        _ if gemini::has_headers(headers) => Dialect::Gemini,
        _ => Dialect::OpenAi,
    }
}

/// Returns a method's beginning, for messages: callers may invent long ones.
pub(super) fn shortened(method: &Method) -> &str {
    let name = method.as_str();
    &name[..name.len().min(MAX_METHOD)]
}

/// The longest part of an unknown path in messages, in characters.
pub(super) const MAX_PATH: usize = 100;
/// The longest part of a method, in ASCII characters.
const MAX_METHOD: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_any_base_url_has_its_path() {
        let get = Method::GET;
        for (method, path, served) in [
            (Method::POST, "/v1/chat/completions", Some(CHAT_COMPLETIONS)),
            (Method::POST, "/openai/deployments/gpt/chat/completions", Some(CHAT_COMPLETIONS)),
            (Method::POST, "/anthropic/v1/messages", Some(MESSAGES)),
            (Method::POST, "/v1/messages/count_tokens", Some(COUNT_TOKENS)),
            (Method::POST, "/v1/threads/7/messages", None),
            (Method::POST, "/openai/v1/responses", Some(RESPONSES)),
            (Method::POST, "/v1/responses/input_tokens", Some(INPUT_TOKENS)),
            (Method::POST, "/openai/v1/responses/compact", Some(COMPACT)),
            (get.clone(), "/v1/responses/resp_1", None),
            (Method::POST, "/v1/embeddings", None),
            (
                Method::POST,
                "/v1beta/models/gemini-2.5-pro:generateContent",
                Some("/v1beta/models/gemini-2.5-pro:generateContent"),
            ),
            (
                Method::POST,
                "/google/v1/models/g:streamGenerateContent?alt=sse&key=k",
                Some("/v1beta/models/g:streamGenerateContent?alt=sse&key=k"),
            ),
            (
                Method::POST,
                "/v1alpha/models/meta/models/l:8b:countTokens",
                Some("/v1beta/models/meta/models/l:8b:countTokens"),
            ),
            (
                Method::POST,
                "/v1beta/models/a%2Fb%3A1:generateContent",
                Some("/v1beta/models/a%2Fb%3A1:generateContent"),
            ),
            (Method::POST, "/v1beta/models/g:embedContent", None),
            (Method::POST, "/v1beta/models/:generateContent", None),
            (Method::POST, "/v1/models", None),
            (get.clone(), "/v1beta/models/g:generateContent", Some("/v1beta/models/g:generateContent")),
            (get.clone(), "/x/v1beta/models?key=k", Some("/v1beta/models")),
            (get.clone(), "/api/models", Some("/v1/models")),
            (get.clone(), "/v1/models/ft:gpt-4o:acme::9xYz", Some("/v1/models/ft:gpt-4o:acme::9xYz")),
            (get.clone(), "/v1/models/meta/llama-3", Some("/v1/models/meta/llama-3")),
            (get.clone(), "/v1/modelsets", None),
            (get, "/", None),
        ] {
            assert_eq!(path_of(&method, path).as_ref().map(PathAndQuery::as_str), served, "{method} {path}");
        }
    }
}
