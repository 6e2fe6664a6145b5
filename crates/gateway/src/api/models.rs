//! The list of the models that callers may name, in each dialect.

use std::sync::Arc;

use axum::{Extension, body::Body, extract::State};
use http::{HeaderMap, Response, StatusCode, Uri};
use serde_json::{Value, json};
use steadfast::Dialect;

use super::{
    GatewayState,
    catalog::{COMPATIBLE, unknown_model},
    keys::Key,
    model_names::ModelNames,
    paths::dialect_of,
    query::decoded_path,
    refusal,
};

impl GatewayState {
    /// Returns the names that a caller with this key may ask for.
    fn names_for(&self, key: Option<Extension<Arc<Key>>>) -> impl Iterator<Item = Arc<str>> {
        let mut names = self.catalog.names();
        if let Some(allowed) = key.as_ref().and_then(|key| key.models()) {
            let allowed = ModelNames::new(allowed.iter().map(|name| &**name));
            names.retain(|name| allowed.has(name));
        }
        names.into_iter()
    }
}

/// Lists the models that callers may name, in the caller's dialect: Anthropic's for a request with `anthropic-version`,
/// Google's by its path or its key's header. The list leaves out models that the caller's key is not for.
pub(crate) async fn models(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    let dialect = dialect_of(uri.path(), &headers);
    let list: Vec<Value> = gateway.names_for(key).map(|model| entry(&model, dialect)).collect();
    let body = match dialect {
        Dialect::Anthropic => {
            let id = |entry: Option<&Value>| entry.map_or(Value::Null, |entry| entry["id"].clone());
            json!({"first_id": id(list.first()), "last_id": id(list.last()), "has_more": false, "data": list})
        }
        Dialect::Gemini => json!({ "models": list }),
        _ => json!({"object": "list", "data": list}),
    };
    refusal::json(StatusCode::OK, body.to_string())
}

/// Describes the model that a request by this name would ask for: one of the list, one that a pattern of the
/// configuration matches, or any where the configuration names none.
pub(crate) async fn model(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    let dialect = dialect_of(uri.path(), &headers);
    let may = |model: &str| key.as_ref().is_none_or(|key| key.model(Some(model)).is_ok());
    let named = uri.path().split_once("/models/").and_then(|(_, named)| decoded_path(named));
    let named = named.as_deref().map(|named| named.strip_prefix(COMPATIBLE).unwrap_or(named));
    match named.filter(|model| !model.is_empty() && gateway.catalog.serves(model) && may(model)) {
        Some(model) => refusal::json(StatusCode::OK, entry(model, dialect).to_string()),
        None => refusal::refuse(&unknown_model(), dialect),
    }
}

/// Returns a model's id in a list: Claude Code shows only names that begin with `claude` or `anthropic`.
fn id(model: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Anthropic if !model.starts_with("claude") && !model.starts_with("anthropic") => {
            format!("{COMPATIBLE}{model}")
        }
        _ => model.to_owned(),
    }
}

fn entry(model: &str, dialect: Dialect) -> Value {
    let id = id(model, dialect);
    match dialect {
        Dialect::Anthropic => {
            json!({"type": "model", "id": id, "display_name": model, "created_at": "1970-01-01T00:00:00Z"})
        }
        Dialect::Gemini => json!({
            "name": format!("models/{id}"),
            "version": "",
            "displayName": model,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
        }),
        _ => json!({"id": id, "object": "model", "created": 0, "owned_by": "steadfast"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_code_sees_every_model() {
        assert_eq!(id("claude-sonnet-4-5", Dialect::Anthropic), "claude-sonnet-4-5");
        assert_eq!(id("gpt-4o", Dialect::Anthropic), "anthropic-compatible/gpt-4o");
        assert_eq!(id("gpt-4o", Dialect::OpenAi), "gpt-4o");
    }
}
