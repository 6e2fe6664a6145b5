//! The other addresses under which clients look for this API's paths.
//!
//! Clients with `/v1` in their base URL may leave it out. Azure's clients have a beginning of their own, and some of
//! their paths name the model as a *deployment*. All later code sees OpenAI's own paths.
//!
//! | a client's path | here |
//! |---|---|
//! | `/chat/completions`, `/responses/..`, `/models/..` | `/v1/..` |
//! | `/openai/deployments/{name}/..` | `/v1/..`, and the name is the model |
//! | `/openai/v1/..`, `/openai/..` | `/v1/..` |
//! | `//v1/..`, `/v1//..`, a slash at the end: a base URL that ends in one | without it |

use std::ops::Range;

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};
use steadfast::{Dialect, LlmError, LlmRequest, Wire};

use super::objects;
use crate::api::query::decoded_path;

/// The model of a request by its address, in place of the one in its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployment(pub(crate) Box<str>);

impl Deployment {
    /// Returns the request for this model.
    ///
    /// # Errors
    ///
    /// Those of [`Wire::with_model`].
    pub(crate) fn in_request(&self, request: LlmRequest) -> Result<LlmRequest, LlmError> {
        match request.wire() {
            Some(wire) => Ok(LlmRequest::from(wire.clone().with_model(&self.0)?)),
            None => Ok(request),
        }
    }

    /// Returns a form for this model, which it names at this place, and the name's new place.
    pub(crate) fn in_form(&self, form: &Bytes, place: Range<usize>) -> (Bytes, Range<usize>) {
        let renamed = [&form[..place.start], self.0.as_bytes(), &form[place.end..]].concat();
        (renamed.into(), place.start..place.start + self.0.len())
    }

    /// Returns a body of JSON for this model.
    ///
    /// # Errors
    ///
    /// Those of [`Wire::new`].
    pub(crate) fn in_body(&self, dialect: Dialect, body: Bytes) -> Result<Bytes, LlmError> {
        Ok(Wire::new(dialect, body)?.with_model(&self.0)?.body().clone())
    }
}

const VERSION: &str = "/v1";
/// The beginning of Azure's paths.
const AZURE: &str = "/openai";
const DEPLOYMENTS: &str = "/deployments/";

/// The paths that Azure has for a deployment, the longer first where one ends in another. A name with slashes is read
/// up to them.
const OPERATIONS: [&str; 8] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/audio/transcriptions",
    "/audio/translations",
    "/audio/speech",
    "/images/generations",
    "/images/edits",
];

/// Gives an address the path that this API has for it. Returns the model that the address names.
pub(crate) fn normalize(uri: &mut Uri) -> Option<Deployment> {
    if let Some(path) = without_slashes(uri.path()) {
        set_path(uri, &path);
    }
    let path = uri.path();
    if let Some((served, deployment)) = azures(path) {
        let (served, deployment) = (format!("{VERSION}{served}"), deployment.map(named));
        set_path(uri, &served);
        return deployment;
    }
    if is_unversioned(path) {
        let served = format!("{VERSION}{path}");
        set_path(uri, &served);
    }
    None
}

/// Returns a path of the models' APIs without the slashes that a base URL has brought; `None` if there are none. Other
/// paths stay: a proxy in front may have rules for them.
fn without_slashes(path: &str) -> Option<String> {
    // `contains` would prepare a search that takes longer than these few bytes.
    if !path.ends_with('/') && !path.as_bytes().windows(2).any(|pair| pair == b"//") {
        return None;
    }
    let (mut plain, mut rest) = ("/".to_owned(), path.trim_matches('/'));
    // Ids and names behind the version may be empty, and then mean something else.
    for prefix in ["openai", "v1beta", "v1alpha", "v1"] {
        if let Some(behind) = rest.strip_prefix(prefix).filter(|behind| behind.starts_with('/')) {
            plain.extend([prefix, "/"]);
            rest = behind.trim_start_matches('/');
        }
    }
    plain.push_str(rest);
    let is_served = plain.starts_with("/v1") || within(&plain, AZURE).is_some() || is_unversioned(&plain);
    (is_served && plain != path).then_some(plain)
}

/// Returns the deployment of a name in a path. A wrong escape, or one of a line's end, is a part of the name, which no
/// model has then.
fn named(name: &str) -> Deployment {
    let decoded = decoded_path(name).filter(|name| !name.contains(char::is_control));
    Deployment(decoded.map_or_else(|| name.into(), Into::into))
}

/// Returns the rest of a path behind this beginning.
fn within<'a>(path: &'a str, beginning: &str) -> Option<&'a str> {
    path.strip_prefix(beginning).filter(|rest| rest.starts_with('/'))
}

/// Returns the path behind `/v1` of an address of Azure's, and the name of its deployment.
fn azures(path: &str) -> Option<(&str, Option<&str>)> {
    let path = within(path, AZURE)?;
    let Some(rest) = path.strip_prefix(DEPLOYMENTS) else {
        return Some((within(path, VERSION).unwrap_or(path), None));
    };
    let known = OPERATIONS.iter().find_map(|ending| rest.strip_suffix(ending));
    let name = known.or_else(|| rest.split_once('/').map(|(name, _)| name)).filter(|name| !name.is_empty())?;
    Some((&rest[name.len()..], Some(name)))
}

/// Returns true for a path of the models' APIs without its version: clients of the AI SDK and LiteLLM have `/v1` in
/// their base URL, and users may leave it out.
fn is_unversioned(path: &str) -> bool {
    const PATHS: [&str; 9] = [
        "/messages",
        "/messages/count_tokens",
        "/chat/completions",
        "/responses",
        "/models",
        "/embeddings",
        "/completions",
        "/moderations",
        "/rerank",
    ];
    const FAMILIES: [&str; 4] = ["/models/", "/responses/", "/audio/", "/images/"];
    let of_objects = |path: &str| objects::SERVED.iter().any(|kind| is_at(path, &kind[VERSION.len()..]));
    !path.starts_with(VERSION)
        && (PATHS.contains(&path) || FAMILIES.iter().any(|family| path.starts_with(family)) || of_objects(path))
}

/// Returns true for a path and all that begin with it.
fn is_at(path: &str, beginning: &str) -> bool {
    path.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Replaces the path of an address, and keeps its query.
fn set_path(uri: &mut Uri, path: &str) {
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // Neither fails: the path is a part of a valid one.
    parts.path_and_query = PathAndQuery::from_maybe_shared(format!("{path}{query}")).ok();
    if let Ok(served) = Uri::from_parts(parts) {
        *uri = served;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_path_and_model() {
        for (address, served, model) in [
            (
                "/openai/deployments/gpt-4o/chat/completions?api-version=1",
                "/v1/chat/completions?api-version=1",
                Some("gpt-4o"),
            ),
            ("/openai/deployments/gpt-4o/completions", "/v1/completions", Some("gpt-4o")),
            (
                "/openai/deployments/small/embeddings?api-version=2024-10-21",
                "/v1/embeddings?api-version=2024-10-21",
                Some("small"),
            ),
            ("/openai/deployments/meta/llama-3/chat/completions", "/v1/chat/completions", Some("meta/llama-3")),
            (
                "/openai/deployments/meta%2Fllama+3%3A8b/chat/completions",
                "/v1/chat/completions",
                Some("meta/llama+3:8b"),
            ),
            ("/openai/deployments/a%zz/chat/completions", "/v1/chat/completions", Some("a%zz")),
            ("/openai/deployments/chat/completions/chat/completions", "/v1/chat/completions", Some("chat/completions")),
            ("/openai/deployments/gpt-4o/of/tomorrow", "/v1/of/tomorrow", Some("gpt-4o")),
            ("/openai/v1/chat/completions", "/v1/chat/completions", None),
            ("/openai/v1/responses/resp_1/input_items?after=x", "/v1/responses/resp_1/input_items?after=x", None),
            ("/openai/responses?api-version=2025-03-01-preview", "/v1/responses?api-version=2025-03-01-preview", None),
            ("/openai/v1", "/v1/v1", None),
            ("/openai/models/gpt-4o", "/v1/models/gpt-4o", None),
            ("/chat/completions?x=1", "/v1/chat/completions?x=1", None),
            ("/models/gpt-4o", "/v1/models/gpt-4o", None),
            ("/openai/deployments//chat/completions", "/openai/deployments//chat/completions", None),
            ("/openai/deployments/gpt-4o", "/openai/deployments/gpt-4o", None),
            ("/openai", "/openai", None),
            ("/openaix/v1/responses", "/openaix/v1/responses", None),
            ("/v1/chat/completions", "/v1/chat/completions", None),
            ("/v1/openai/deployments/x/embeddings", "/v1/openai/deployments/x/embeddings", None),
            ("//v1/messages?beta=true", "/v1/messages?beta=true", None),
            ("/v1//messages", "/v1/messages", None),
            ("///v1///chat/completions//", "/v1/chat/completions", None),
            ("/v1/responses/", "/v1/responses", None),
            ("//messages/count_tokens", "/v1/messages/count_tokens", None),
            ("//openai//v1//responses", "/v1/responses", None),
            ("/openai//deployments/gpt-4o/embeddings/", "/v1/embeddings", Some("gpt-4o")),
            ("/v1beta//models/gemini-2.5-pro:generateContent/", "/v1beta/models/gemini-2.5-pro:generateContent", None),
            ("/v1/files//content", "/v1/files//content", None),
            ("//admin/keys", "//admin/keys", None),
            ("/admin/keys/", "/admin/keys/", None),
            ("//metrics", "//metrics", None),
            ("/", "/", None),
            ("//", "//", None),
        ] {
            let mut uri: Uri = address.parse().unwrap();
            let deployment = normalize(&mut uri);
            let named = deployment.as_ref().map(|Deployment(name)| &**name);
            assert_eq!((uri.to_string().as_str(), named), (served, model), "{address}");
        }
    }
}
