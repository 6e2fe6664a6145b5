//! Gemini's paths, which name the model and the form of its answer. The other protocols say both in the body.

use http::{HeaderMap, Uri};

use crate::api::query::{decoded_path, pairs};

/// The versions of Google's API, by the beginnings of their paths. The last is OpenAI's and Anthropic's too.
pub(crate) const VERSIONS: [&str; 3] = ["/v1beta", "/v1alpha", "/v1"];

/// The method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Generate,
    Stream,
    CountTokens,
}

/// Returns the model, as the path spells it, and the method; `None` for a path that is no call of this API.
pub(crate) fn call_at(path: &str) -> Option<(&str, Method)> {
    let named = VERSIONS.iter().find_map(|version| path.strip_prefix(version)?.strip_prefix("/models/"))?;
    call_of(named)
}

/// Returns the model and the method of a path's end, such as `gemini-2.5-pro:generateContent`.
pub(crate) fn call_of(named: &str) -> Option<(&str, Method)> {
    let (model, method) = named.rsplit_once(':').filter(|(model, _)| !model.is_empty())?;
    let method = match method {
        "generateContent" => Method::Generate,
        "streamGenerateContent" => Method::Stream,
        "countTokens" => Method::CountTokens,
        _ => return None,
    };
    Some((model, method))
}

/// Returns true for a path that asks a model for an answer.
pub(crate) fn asks_model(path: &str) -> bool {
    call_at(path).is_some_and(|(_, method)| method != Method::CountTokens)
}

/// Returns true for a path of this API alone. `/v1/models` is no such path: OpenAI's clients list models there.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/v1beta/") || path.starts_with("/v1alpha/") || call_at(path).is_some()
}

/// Returns true if a header is one that this API's clients send.
pub(crate) fn has_headers(headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client")
}

/// Returns true if the query asks for a stream of events.
pub(crate) fn wants_events(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"))
}

/// Returns the key in a query. Nothing else of a query is kept, and nothing of it is logged.
pub(crate) fn key_in(uri: &Uri) -> Option<String> {
    let found = pairs(uri).ok()?.into_iter().find(|[name, _]| name == "key");
    found.map(|[_, key]| key).filter(|key| !key.is_empty())
}

/// The model of a call and the form of its answer, where the path names both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathCall {
    pub(crate) model: Box<str>,
    pub(crate) stream: bool,
    /// True for a stream in the form of a JSON array.
    pub(crate) is_array: bool,
}

impl PathCall {
    /// Returns the call of an address of this API.
    pub(crate) fn at(uri: &Uri) -> Option<Self> {
        let (model, method) = call_at(uri.path())?;
        let stream = method == Method::Stream;
        // A name with a wrong escape is no model's.
        let model = decoded_path(model).map_or_else(|| model.into(), Into::into);
        Some(Self { model, stream, is_array: stream && !wants_events(uri.query()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_model_and_the_form_of_the_answer() {
        let call = |model: &str, stream, is_array| Some(PathCall { model: model.into(), stream, is_array });
        for (address, expected) in [
            ("/v1beta/models/gemini-2.5-pro:generateContent", call("gemini-2.5-pro", false, false)),
            ("/v1/models/gpt-4o:generateContent?key=k", call("gpt-4o", false, false)),
            ("/v1alpha/models/g:streamGenerateContent?key=k&alt=sse", call("g", true, false)),
            ("/v1beta/models/g:streamGenerateContent", call("g", true, true)),
            ("/v1beta/models/g:streamGenerateContent?alt=json", call("g", true, true)),
            ("/v1beta/models/meta/llama3:8b:generateContent", call("meta/llama3:8b", false, false)),
            ("/v1beta/models/meta%2Fllama+3:generateContent", call("meta/llama+3", false, false)),
            ("/v1beta/models/%zz:generateContent", call("%zz", false, false)),
            ("/v1beta/models/:generateContent", None),
            ("/v1beta/models/g:embedContent", None),
            ("/v1beta/models/g", None),
            ("/v1beta/tunedModels/g:generateContent", None),
            ("/v2/models/g:generateContent", None),
        ] {
            assert_eq!(PathCall::at(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_key_in_a_query_is_found_in_any_place() {
        for (address, key) in [
            ("/v1beta/models?key=a%2Bb", Some("a+b")),
            ("/v1beta/models?alt=sse&key=k", Some("k")),
            ("/v1beta/models?key=", None),
            ("/v1beta/models?keys=k", None),
            ("/v1beta/models?key=%zz", None),
            ("/v1beta/models", None),
        ] {
            assert_eq!(key_in(&address.parse().unwrap()).as_deref(), key, "{address}");
        }
    }
}
