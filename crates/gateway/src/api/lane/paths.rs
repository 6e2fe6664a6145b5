//! The paths of the lane.

use http::Method;
use steadfast::Dialect;
use steadfast_stack::CallKind;

use crate::api::{GatewayState, gemini, query::decoded_path};

/// A call that is no conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) kind: CallKind,
    dialect: Dialect,
    /// The path of the provider's API, with `{model}` in the place of a model's name.
    pub(crate) path: Box<str>,
    /// The model, if the path names it.
    pub(crate) model: Option<Box<str>>,
}

/// The paths with their kinds. The provider's path is the same.
const PATHS: [(&str, CallKind); 5] = [
    ("/v1/embeddings", CallKind::Embeddings),
    ("/v1/embed", CallKind::Embeddings),
    ("/v2/embed", CallKind::Embeddings),
    ("/v1/rerank", CallKind::Rerank),
    ("/v2/rerank", CallKind::Rerank),
];

/// Google's methods, which come behind the model's name.
const METHODS: [&str; 2] = ["embedContent", "batchEmbedContents"];

impl Call {
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns true for a path of Cohere's API alone, whose errors have another form.
    pub(crate) fn is_coheres(&self) -> bool {
        self.path.starts_with("/v2/") || &*self.path == "/v1/embed"
    }

    fn of(kind: CallKind, path: &str) -> Self {
        Self { kind, dialect: Dialect::OpenAi, path: path.into(), model: None }
    }
}

/// Returns the call of a request's path, if the gateway has a lane.
pub(crate) fn call_at(gateway: &GatewayState, method: &Method, path: &str) -> Option<Call> {
    if *method != Method::POST {
        return None;
    }
    known(path).filter(|_| gateway.catalog.has_lane())
}

fn known(path: &str) -> Option<Call> {
    if let Some((path, kind)) = PATHS.iter().find(|(known, _)| *known == path) {
        return Some(Call::of(*kind, path));
    }
    let (version, named) = gemini::VERSIONS.iter().find_map(|version| {
        let named = path.strip_prefix(version)?.strip_prefix("/models/")?;
        Some((version, named))
    })?;
    let (model, method) = named.rsplit_once(':').filter(|(model, _)| !model.is_empty())?;
    let method = METHODS.iter().find(|known| **known == method)?;
    let model = decoded_path(model).map_or_else(|| model.into(), Into::into);
    let path = format!("{version}/models/{{model}}:{method}").into();
    Some(Call { kind: CallKind::Embeddings, dialect: Dialect::Gemini, path, model: Some(model) })
}

/// Returns the paths, as an unknown path's error lists them; none without a lane.
pub(crate) fn served(gateway: &GatewayState) -> impl Iterator<Item = &'static str> {
    const SERVED: [&str; 7] = [
        "POST /v1/embeddings",
        "POST /v1/embed",
        "POST /v2/embed",
        "POST /v1/rerank",
        "POST /v2/rerank",
        "POST /v1beta/models/{model}:embedContent",
        "POST /v1beta/models/{model}:batchEmbedContents",
    ];
    SERVED.into_iter().filter(|_| gateway.catalog.has_lane())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_kind_and_googles_the_model_too() {
        let kind = |path| known(path).map(|call| (call.kind, call.model.as_deref().map(str::to_owned)));
        assert_eq!(kind("/v1/embeddings"), Some((CallKind::Embeddings, None)));
        assert_eq!(kind("/v2/rerank"), Some((CallKind::Rerank, None)));
        let google = known("/v1beta/models/gemini-embedding-001:embedContent").unwrap();
        assert_eq!((google.dialect, &*google.path), (Dialect::Gemini, "/v1beta/models/{model}:embedContent"));
        assert_eq!(google.model.as_deref(), Some("gemini-embedding-001"));
        for other in ["/v1/messages", "/v1/embeddings/x", "/v1beta/models/:embedContent", "/v1beta/models/m:predict"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
