//! Estimates of a prompt's tokens.

use std::sync::Arc;

use axum::{Extension, body::Body, extract::State};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use steadfast::Dialect;

use super::{
    GatewayState, body_kind, conversation, door::deny, inbound, keys::Key, paths::gemini::PathCall, records::NOTES,
    refusal, request_options::RequestOptions,
};

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
    let permits = key.as_ref().map(|key| {
        key.feature(options.feature)?;
        key.permits()
    });
    let _permits = match permits.transpose() {
        Ok(permits) => permits,
        Err(denied) => return deny(&gateway, &denied, key.as_ref(), dialect),
    };
    let body = match gateway.reader(&settings, key.as_ref()).read(&head.headers, body).await {
        Ok(body) => body,
        Err(error) => return refusal::body_error(error, &settings, dialect),
    };
    let (path, body) = match PathCall::at(&head.uri).filter(|_| dialect == Dialect::Gemini) {
        Some(path) => (Some(path), counted_request(&body)),
        None => (None, body),
    };
    let request = inbound::request(dialect, &head.headers, path.as_ref(), body, &settings);
    let request = match request.and_then(|request| gateway.catalog.admit(request)) {
        Ok(request) => request,
        Err(error) => return refusal::refuse(&error, dialect),
    };
    if let Some(Err(denied)) = key.as_ref().map(|key| key.model(request.model())) {
        return deny(&gateway, &denied, key.as_ref(), dialect);
    }
    let request = match gateway.archive().filter(|_| dialect == Dialect::Responses) {
        // The count is of the whole conversation.
        Some(archive) => match conversation::begin(&gateway, archive, key.as_ref(), &settings, request).await {
            Ok((whole, _)) => whole,
            Err(error) => return refusal::refuse(&error, dialect),
        },
        None => request,
    };
    // As budgets and rates count it.
    let of_prompt = || request.chat().map(|_| u64::from(request.estimated_tokens().0).max(1));
    let counted = request.decode_ahead().await.and_then(|()| of_prompt());
    match counted {
        Ok(tokens) => {
            let mut response = refusal::json(StatusCode::OK, answer(tokens).to_string());
            response.headers_mut().insert(
                NOTES,
                HeaderValue::from_static("count_tokens: an estimate by length; a provider often counts more"),
            );
            response
        }
        Err(error) => refusal::refuse(&error, dialect),
    }
}

/// Returns the request whose tokens are to be counted. The API takes it alone, or with its contents only.
fn counted_request(body: &Bytes) -> Bytes {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow, rename = "generateContentRequest", alias = "generate_content_request")]
        whole: Option<&'a RawValue>,
    }
    // A list would be read as the fields in their order.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let fields: Option<Fields<'_>> = is_object.then(|| serde_json::from_slice(body).ok()).flatten();
    fields.and_then(|fields| fields.whole).map_or_else(|| body.clone(), |whole| body.slice_ref(whole.get().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_of_the_request_within_or_of_the_body() {
        for (body, request) in [
            (r#"{"contents":[]}"#, r#"{"contents":[]}"#),
            (r#"{"generateContentRequest": {"model":"m", "contents":[1]} }"#, r#"{"model":"m", "contents":[1]}"#),
            (r#"{"generateContentRequest":null,"contents":[]}"#, r#"{"generateContentRequest":null,"contents":[]}"#),
            ("[1]", "[1]"),
        ] {
            assert_eq!(counted_request(&Bytes::from_static(body.as_bytes())), request);
        }
    }
}
