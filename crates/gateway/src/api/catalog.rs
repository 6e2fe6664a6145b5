//! The models that callers may name, and estimates of a prompt's tokens.

use std::{collections::HashSet, sync::Arc};

use axum::{Extension, body::Body, extract::State};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};
use steadfast::{Chat, Dialect, ErrorKind, LlmError, LlmRequest, chat::Part, store::StoreTrouble};
use steadfast_stack::{CallKind, Config, LanePool, OtherPaths, StackHandle};

use super::{
    GatewayState, body_kind, conversation,
    gemini::{self, PathCall},
    inbound,
    keys::Key,
    model_names::ModelNames,
    pipeline::deny_at_door,
    query::decoded_path,
    refusal,
    request_options::RequestOptions,
    routes::dialect_of,
};

/// The names that callers may ask for: those of the configuration's models, or any if it names none.
pub(crate) enum Catalog {
    /// The names of the stack's models and tiers, as of the last reload.
    Stack(StackHandle),
    /// These names, and any other.
    Listed(Arc<[Arc<str>]>),
}

impl Catalog {
    /// Returns the stores' current problems.
    pub(crate) fn store_troubles(&self) -> Vec<StoreTrouble> {
        match self {
            Self::Stack(stack) => stack.store_troubles(),
            Self::Listed(_) => Vec::new(),
        }
    }

    /// Returns false while no tier has ever answered, since the first one's key or model is refused.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.status().ready,
            Self::Listed(_) => true,
        }
    }

    /// Returns each name once: the configuration's models, then the tiers' models in order of preference, then the
    /// tiers' own names. A pattern is not a name, but admits the names that it matches.
    fn names(&self) -> Vec<Arc<str>> {
        let names: Vec<Arc<str>> = match self {
            Self::Stack(stack) => {
                let config = stack.config();
                let spelled = config.models.keys().filter(|name| !name.ends_with('*')).map(|name| Arc::from(&**name));
                let tiers = stack.tiers();
                let models = tiers.iter().map(|tier| tier.model.as_ref().unwrap_or(&tier.name));
                let of_tiers = models.chain(tiers.iter().map(|tier| &tier.name));
                let served = ModelNames::new(config.models.keys().map(String::as_str));
                let of_tiers = of_tiers.filter(|name| config.models.is_empty() || served.has(name));
                spelled.chain(of_tiers.cloned()).collect()
            }
            Self::Listed(names) => names.to_vec(),
        };
        let mut seen = HashSet::new();
        names.into_iter().filter(|name| seen.insert(name.clone())).collect()
    }

    /// Returns whether any tier calls a provider over the network.
    pub(crate) fn calls_out(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.tiers().iter().any(|tier| !tier.provider.is_local()),
            Self::Listed(_) => true,
        }
    }

    /// Returns whether the gateway is one to the stack of a file.
    pub(crate) fn is_stack(&self) -> bool {
        matches!(self, Self::Stack(_))
    }

    /// Returns whether the stack serves paths that are no conversation.
    pub(crate) fn has_lane(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.config().lane.is_some(),
            Self::Listed(_) => false,
        }
    }

    /// Returns whether an unknown path passes to a provider: true if the file lists it, false if all pass that a key is
    /// for.
    pub(crate) fn passes(&self, path: &str) -> Option<bool> {
        let Self::Stack(stack) = self else { return None };
        let config = stack.config();
        match &config.lane.as_ref()?.other {
            OtherPaths::Refuse => None,
            OtherPaths::Pass => Some(false),
            OtherPaths::Listed(paths) => paths.iter().any(|listed| listed.is(path)).then_some(true),
        }
    }

    /// Returns the tiers that may serve a call that is no conversation.
    pub(crate) fn lane_pool(
        &self,
        kind: CallKind,
        dialect: Dialect,
        model: Option<&str>,
    ) -> Result<LanePool, LlmError> {
        match self {
            Self::Stack(stack) => stack.config().lane_pool(kind, dialect, model),
            Self::Listed(_) => Err(unknown()),
        }
    }

    /// Returns whether the stack keeps answers.
    pub(crate) fn keeps_answers(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.keeps_answers(),
            Self::Listed(_) => false,
        }
    }

    /// Returns whether the stack reads the content of requests that it only forwards.
    pub(crate) fn reads_requests(&self) -> bool {
        match self {
            Self::Stack(stack) => stack.config().reads_requests(),
            Self::Listed(_) => false,
        }
    }

    /// Returns the request if callers may ask for its model, or if it names none.
    ///
    /// # Errors
    ///
    /// Callers may not ask for the model.
    pub(crate) fn admit(&self, mut request: LlmRequest) -> Result<LlmRequest, LlmError> {
        if let Some(wire) = request.wire()
            && let Some(own) = request.model().and_then(|model| model.strip_prefix(COMPATIBLE))
        {
            // The list has this prefix; the provider does not know it.
            let named = wire.clone().with_model(own)?;
            request = LlmRequest::from(named);
        }
        match request.model() {
            Some(model) if !self.serves(model) => Err(unknown()),
            None if self.names_models() => {
                let message = "`model` is missing; GET /v1/models has the names to choose from";
                Err(LlmError::new(ErrorKind::InvalidRequest, message))
            }
            _ => Ok(request),
        }
    }

    /// Returns true if the file says which models callers may ask for.
    fn names_models(&self) -> bool {
        match self {
            Self::Stack(stack) => !stack.config().models.is_empty(),
            Self::Listed(_) => false,
        }
    }

    /// Returns a note for a caller whose feature the file does not have, though it has others.
    pub(crate) fn note_of_feature(&self, feature: &str) -> Option<String> {
        let Self::Stack(stack) = self else { return None };
        let config = stack.config();
        if config.has_feature(feature) {
            return None;
        }
        let near = config.features.keys().find(|known| known.eq_ignore_ascii_case(feature));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Some(format!("x-steadfast-feature: the gateway's file has no such feature, so the defaults apply{near}"))
    }

    /// Returns true if callers may ask for this model.
    fn serves(&self, model: &str) -> bool {
        match self {
            Self::Stack(stack) => serves(&stack.config(), model),
            Self::Listed(_) => true,
        }
    }
}

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

fn serves(config: &Config, model: &str) -> bool {
    config.models.is_empty() || config.named_model(model).is_some()
}

fn unknown() -> LlmError {
    LlmError::new(ErrorKind::NotFound, "no such model; GET /v1/models has the list")
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
        None => refusal::refuse(&unknown(), dialect),
    }
}

/// The prefix of other names than Anthropic's in a list for its clients.
const COMPATIBLE: &str = "anthropic-compatible/";

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

/// Estimates a prompt's tokens, and marks the answer as an estimate. Asking the provider would be another call that can
/// fail, and its answer holds for one tier only.
///
/// The count is work like a call: it takes a permit of the key's concurrency, and the key must be for the model.
pub(crate) async fn count_tokens(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    request: Request<Body>,
) -> Response<Body> {
    let body = |tokens| json!({"input_tokens": tokens, "estimated": true});
    counted(gateway, key, request, Dialect::Anthropic, body).await
}

/// Estimates a prompt's tokens for a caller of the Responses API.
pub(crate) async fn input_tokens(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    request: Request<Body>,
) -> Response<Body> {
    let body = |tokens| json!({"object": "response.input_tokens", "input_tokens": tokens, "estimated": true});
    counted(gateway, key, request, Dialect::Responses, body).await
}

/// Estimates a prompt's tokens for a caller of Gemini's protocol.
pub(crate) async fn gemini_tokens(
    gateway: &Arc<GatewayState>,
    key: Option<Arc<Key>>,
    request: Request<Body>,
) -> Response<Body> {
    let body = |tokens| json!({"totalTokens": tokens, "estimated": true});
    counted(gateway.clone(), key.map(Extension), request, Dialect::Gemini, body).await
}

async fn counted(
    gateway: Arc<GatewayState>,
    key: Option<Extension<Arc<Key>>>,
    request: Request<Body>,
    dialect: Dialect,
    answer: impl Fn(u64) -> Value,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let (settings, key) = (gateway.lifecycle.current.load_full(), key.map(|Extension(key)| key));
    let options = RequestOptions::from_headers(&head.headers);
    if let Err(error) = options.check() {
        return refusal::refuse(&error, dialect);
    }
    let body = match body_kind::opened_of_one_kind(&mut head.headers, body, &settings) {
        Ok((_, body)) => body,
        Err(error) => return refusal::refuse(&error, dialect),
    };
    let permit = key.as_ref().map_or(Ok(None), |key| {
        key.feature(options.feature)?;
        key.permit()
    });
    let _permit = match permit {
        Ok(permit) => permit,
        Err(denied) => return deny_at_door(&gateway, &denied, key.as_ref(), dialect),
    };
    let body = match gateway.reader(&settings, key.as_ref()).read(&head.headers, body).await {
        Ok(body) => body,
        Err(error) => return refusal::body_error(error, &settings, dialect),
    };
    let (path, body) = match PathCall::at(&head.uri).filter(|_| dialect == Dialect::Gemini) {
        Some(path) => (Some(path), gemini::counted_request(&body)),
        None => (None, body),
    };
    let request = inbound::request(dialect, &head.headers, path.as_ref(), body, &settings);
    let request = match request.and_then(|request| gateway.catalog.admit(request)) {
        Ok(request) => request,
        Err(error) => return refusal::refuse(&error, dialect),
    };
    if let Some(Err(denied)) = key.as_ref().map(|key| key.model(request.model())) {
        return deny_at_door(&gateway, &denied, key.as_ref(), dialect);
    }
    let request = match gateway.archive().filter(|_| dialect == Dialect::Responses) {
        // The count is of the whole conversation.
        Some(archive) => match conversation::begin(&gateway, archive, key.as_ref(), &settings, request).await {
            Ok((whole, _)) => whole,
            Err(error) => return refusal::refuse(&error, dialect),
        },
        None => request,
    };
    let counted = request.decode_ahead().await.and_then(|()| request.chat().map(estimate));
    match counted {
        Ok(tokens) => {
            let mut response = refusal::json(StatusCode::OK, answer(tokens).to_string());
            response.headers_mut().insert(
                super::records::NOTES,
                HeaderValue::from_static("count_tokens: an estimate, within a third or so"),
            );
            response
        }
        Err(error) => refusal::refuse(&error, dialect),
    }
}

/// Estimates tokens: four characters of English each, one of most other scripts; a picture as the largest that
/// Anthropic counts.
fn estimate(chat: &Chat) -> u64 {
    const PICTURE: u64 = 1600;
    /// The overhead of each turn.
    const TURN: u64 = 4;
    let mut tokens = chat.system.as_deref().map_or(0, of_text);
    for tool in &chat.tools {
        let words = [Some(tool.name.as_str()), tool.description.as_deref()];
        tokens += words.into_iter().flatten().map(of_text).sum::<u64>() + of_text(tool.parameters.as_str());
    }
    for message in &chat.messages {
        tokens += TURN;
        for part in &message.content {
            tokens += match part {
                Part::Text(text) | Part::Refusal(text) => of_text(text),
                Part::Reasoning(reasoning) => of_text(&reasoning.text),
                Part::ToolCall(call) => of_text(&call.name) + of_text(&call.arguments),
                Part::ToolResult(result) => result.content.iter().filter_map(Part::as_text).map(of_text).sum(),
                Part::Image(_) | Part::Document(_) => PICTURE,
                _ => 0,
            };
        }
    }
    tokens.max(1)
}

fn of_text(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.chars().filter(|char| !char.is_ascii()).count() as u64;
    ascii.div_ceil(4) + other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_counted_by_its_script() {
        assert_eq!((of_text(""), of_text("word word"), of_text("東京")), (0, 3, 2));
    }

    #[test]
    fn claude_code_sees_every_model() {
        assert_eq!(id("claude-sonnet-4-5", Dialect::Anthropic), "claude-sonnet-4-5");
        assert_eq!(id("gpt-4o", Dialect::Anthropic), "anthropic-compatible/gpt-4o");
        assert_eq!(id("gpt-4o", Dialect::OpenAi), "gpt-4o");
    }
}
