//! The paths of the lane.

use http::HeaderMap;
use steadfast::Dialect;
use steadfast_stack::CallKind;

use super::{dialect_of, gemini};
use crate::api::query::decoded_path;

/// A call that is no conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneCall {
    pub(crate) kind: CallKind,
    pub(crate) dialect: Dialect,
    /// The path of the provider's API, with `{model}` in the place of a model's name.
    pub(crate) path: Box<str>,
    /// The model, if the path names it.
    pub(crate) model: Option<Box<str>>,
    /// True for a path that is open to every key: one that the gateway knows, or that the file lists.
    pub(crate) is_listed: bool,
}

/// The paths with their kinds. The provider's path is the same.
const PATHS: [(&str, CallKind); 13] = [
    ("/v1/embeddings", CallKind::Embeddings),
    ("/v1/embed", CallKind::Embeddings),
    ("/v2/embed", CallKind::Embeddings),
    ("/v1/rerank", CallKind::Rerank),
    ("/v2/rerank", CallKind::Rerank),
    ("/v1/completions", CallKind::Completions),
    ("/v1/moderations", CallKind::Moderations),
    ("/v1/audio/speech", CallKind::Speech),
    ("/v1/audio/transcriptions", CallKind::Transcription),
    ("/v1/audio/translations", CallKind::Transcription),
    ("/v1/images/generations", CallKind::Images),
    ("/v1/images/edits", CallKind::Images),
    ("/v1/images/variations", CallKind::Images),
];

/// The beginnings of paths that the gateway answers itself, or would by other means: none of them is an unknown path.
const OWN: [&str; 4] = ["/v1/messages", "/v1/chat/completions", "/v1/responses", "/v1/models"];

/// Google's methods, which come behind the model's name.
const METHODS: [&str; 2] = ["embedContent", "batchEmbedContents"];

impl LaneCall {
    /// Returns the call of a path that the gateway knows.
    pub(crate) fn known(path: &str) -> Option<Self> {
        if let Some((path, kind)) = PATHS.iter().find(|(known, _)| *known == path) {
            return Some(Self::of(*kind, path));
        }
        let (version, named) = gemini::VERSIONS.iter().find_map(|version| {
            let named = path.strip_prefix(version)?.strip_prefix("/models/")?;
            Some((version, named))
        })?;
        let (model, method) = named.rsplit_once(':').filter(|(model, _)| !model.is_empty())?;
        let method = METHODS.iter().find(|known| **known == method)?;
        let model = decoded_path(model).map_or_else(|| model.into(), Into::into);
        let path = format!("{version}/models/{{model}}:{method}").into();
        let call = Self::of(CallKind::Embeddings, "");
        Some(Self { dialect: Dialect::Gemini, path, model: Some(model), ..call })
    }

    /// Returns the call of an unknown path, if it may go on to a provider.
    pub(crate) fn unknown(path: &str, headers: &HeaderMap, is_listed: bool) -> Option<Self> {
        let dialect = dialect_of(path, headers);
        may_pass(path).then(|| Self { dialect, is_listed, ..Self::of(CallKind::Other, path) })
    }

    /// Returns true for a path of Cohere's API alone, whose errors have another form.
    pub(crate) fn is_coheres(&self) -> bool {
        self.path.starts_with("/v2/") || &*self.path == "/v1/embed"
    }

    fn of(kind: CallKind, path: &str) -> Self {
        Self { kind, dialect: Dialect::OpenAi, path: path.into(), model: None, is_listed: true }
    }
}

/// Returns true for an unknown path that may go on to a provider: one of `/v1`, which names what it is for.
fn may_pass(path: &str) -> bool {
    let is_plain = |part: &str| {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(is_usual)
    };
    let is_own =
        OWN.iter().any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    path.strip_prefix("/v1/").is_some_and(|rest| rest.split('/').all(is_plain)) && !is_own
}

/// The paths, as an unknown path's error lists them.
pub(crate) const SERVED: [&str; 15] = [
    "POST /v1/embeddings",
    "POST /v1/embed",
    "POST /v2/embed",
    "POST /v1/rerank",
    "POST /v2/rerank",
    "POST /v1/completions",
    "POST /v1/moderations",
    "POST /v1/audio/speech",
    "POST /v1/audio/transcriptions",
    "POST /v1/audio/translations",
    "POST /v1/images/generations",
    "POST /v1/images/edits",
    "POST /v1/images/variations",
    "POST /v1beta/models/{model}:embedContent",
    "POST /v1beta/models/{model}:batchEmbedContents",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_passes_as_it_is_or_not_at_all() {
        for path in ["/v1/of_tomorrow", "/v1/threads/th-1/runs", "/v1/messagesx"] {
            assert!(may_pass(path), "{path}");
        }
        for path in ["/v1/", "/v2/x", "/v1/../admin", "/v1//x", "/v1/a%2e%2e/b", "/v1/responses/x", "/admin/keys"] {
            assert!(!may_pass(path), "{path}");
        }
    }

    #[test]
    fn a_path_names_its_kind_and_googles_the_model_too() {
        let kind = |path| LaneCall::known(path).map(|call| (call.kind, call.model.as_deref().map(str::to_owned)));
        assert_eq!(kind("/v1/embeddings"), Some((CallKind::Embeddings, None)));
        assert_eq!(kind("/v2/rerank"), Some((CallKind::Rerank, None)));
        let google = LaneCall::known("/v1beta/models/gemini-embedding-001:embedContent").unwrap();
        assert_eq!((google.dialect, &*google.path), (Dialect::Gemini, "/v1beta/models/{model}:embedContent"));
        assert_eq!(google.model.as_deref(), Some("gemini-embedding-001"));
        for other in ["/v1/messages", "/v1/embeddings/x", "/v1beta/models/:embedContent", "/v1beta/models/m:predict"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
