//! What an operator can see and do while the gateway runs. Only with a key that has `admin: true`.
//!
//! | path | what |
//! |---|---|
//! | `GET /admin/tiers`, `GET /admin/targets` | each tier: its circuit, since when, why and until when, whether it is forced or drained, its failures and what is in flight; and the pinned levels |
//! | `POST /admin/tiers/{tier}/circuit` `{"action": "open" \| "close" \| "auto"}` | forces its circuit, or lets it judge by itself again |
//! | `POST /admin/tiers/{tier}/drain` `{"drained": true \| false}` | takes it out of service, or back: what is under way there ends as it would |
//! | `POST /admin/level` `{"level": 1..5 \| null, "feature": "chat"}` | serves that level or a worse one, for a feature or (without one) for all |
//! | `POST /admin/cache/forget` `{"feature": "chat"}` | forgets the kept answers of a feature or (without one) all |
//! | `POST /admin/forget` `{"tenant": "key", "session": "s-1"}` (or one of the two) | deletes all that is kept of a key's requests, or a session's: answers of the cache and under idempotency keys, and tasks for people |
//! | `POST /admin/reload` | loads the configuration's file again |
//!
//! Answers are JSON and say how it is afterwards; errors are `{"error": {"message", "type"}}` and say what to mend. What is
//! said here holds until it is taken back; it goes on over reloads (see [`StackHandle`](steadfast::StackHandle#by-hand)), and
//! a server that starts again has forgotten it.
//!
//! **Who may.** A server without keys refuses all of it, on loopback too: a browser there sends what any page tells it to, but
//! it has no key to send along. Each order is in the log under the name of the key, which is itself in none.

mod actions;
mod answer;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use http::{HeaderMap, Request, Response, StatusCode};
use steadfast::{Dialect, StackHandle};
use tokio::time::Instant;

use self::answer::tiers;
pub(crate) use self::answer::{error, not_read, ok, wrong};
use super::{
    Gateway,
    catalog::Catalog,
    keys::{Denial, Key},
    refusal,
};

/// The paths of an administrator, where there is a stack to look at.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let stack = match &gateway.catalog {
        Catalog::Stack(stack) => stack.clone(),
        #[cfg(test)]
        Catalog::Fixed(_) => return Router::new(),
    };
    Router::new()
        .route("/admin/tiers", get(list))
        .route("/admin/targets", get(list))
        .route("/admin/tiers/{tier}/circuit", post(actions::circuit))
        .route("/admin/tiers/{tier}/drain", post(actions::drain))
        .route("/admin/level", post(actions::level))
        .route("/admin/cache/forget", post(actions::forget))
        .route("/admin/forget", post(actions::forget_owner))
        .route("/admin/reload", post(actions::reload))
        .route_layer(from_fn_with_state((gateway.clone(), stack), only_administrators))
        .with_state(gateway)
}

/// The stack in the hands of whoever has shown the key.
type Operator = Extension<StackHandle>;

/// Lets an administrator through, before anything of the request's body is read.
async fn only_administrators(
    State((gateway, stack)): State<(Arc<Gateway>, StackHandle)>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let key = match key_of(&gateway, request.headers(), "`admin: true`") {
        Ok(key) => key,
        Err(refused) => return *refused,
    };
    if !key.admin {
        tracing::warn!(
            key = &*key.name,
            path = request.uri().path(),
            "an administrator's path, and not an administrator's key"
        );
        let message = "this key is no administrator's: that takes one with `admin: true` in the file of keys";
        return error(StatusCode::FORBIDDEN, "permission_error", message);
    }
    request.extensions_mut().insert(stack.acting_as(&*key.name));
    next.run(request).await
}

/// The key that is shown, where one with a permission is `needed`.
pub(crate) fn key_of(gateway: &Gateway, headers: &HeaderMap, needed: &str) -> Result<Arc<Key>, Box<Response<Body>>> {
    let Some(keys) = &gateway.keys else {
        let message = format!("this server has no keys: start it with --keys FILE, where a key has {needed}");
        return Err(error(StatusCode::FORBIDDEN, "permission_error", &message).into());
    };
    let key = keys.authenticate(headers).map_err(|denied| {
        let message = match denied {
            Denial::NoKey => &*format!("no key: send one with {needed} in `Authorization: Bearer` or `x-api-key`"),
            _ => "the gateway does not know this key, or it has expired",
        };
        error(StatusCode::UNAUTHORIZED, "authentication_error", message)
    })?;
    // What it asks here is counted like what it asks of models.
    match key.admit(Instant::now()) {
        Ok(()) => Ok(key),
        Err(denied) => Err(refusal::deny(denied, Dialect::OpenAi).into()),
    }
}

async fn list(Extension(stack): Operator) -> Response<Body> {
    ok(&tiers(&stack))
}
