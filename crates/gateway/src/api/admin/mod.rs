//! The operators' paths, for keys with `admin: true` only.
//!
//! | path | what |
//! |---|---|
//! | `GET /admin/tiers`, `GET /admin/targets` | each tier: its circuit, since when, why and until when, whether it is forced or drained, its failures and what is in flight; and the pinned levels |
//! | `GET /admin/keys` | each of the callers' keys: its permissions and limits, what is in flight, and what it has spent |
//! | `POST /admin/keys` `{"name": "ci", "team": "search", ..}` | makes a key in the store, and shows its secret once; `{"keys": [..]}` adds keys whose hashes exist |
//! | `GET`, `PATCH`, `DELETE /admin/keys/{name}` | shows a key, changes it by a JSON merge patch (RFC 7396), removes it |
//! | `POST /admin/keys/{name}/rotate` `{"overlap": "24h"}` | gives a key a new secret; the earlier ones go on for a while |
//! | `GET /admin/audit?key=ci` (with `before`, `limit`) | who changed which key, or gave which order by hand, and how, the newest first |
//! | `GET /admin/spend?by=team,model&month=2026-11` (or `from`, `to`; `format=csv`) | what answers cost, out of the ledger: requests, tokens and dollars for each group of `key`, `team`, `feature`, `tier`, `provider`, `model`, `day` and `hour`, in UTC |
//! | `GET /spend` | a page of the summary, for who pays |
//! | `GET /admin/spend/summary` | the month so far: today and the month of each team by days, what failover cost and saved, and the caps that are the nearest to their ends |
//! | `POST /admin/tiers/{tier}/circuit` `{"action": "open" \| "close" \| "auto"}` | forces its circuit, or lets it judge by itself again |
//! | `POST /admin/tiers/{tier}/drain` `{"drained": true \| false}` | takes it out of service, or back: what is under way there ends as it would |
//! | `POST /admin/level` `{"level": 1..5 \| null, "feature": "chat"}` | serves that level or a worse one, for a feature or (without one) for all |
//! | `POST /admin/cache/forget` `{"feature": "chat"}` | forgets the kept answers of a feature or (without one) all |
//! | `POST /admin/forget` `{"tenant": "key", "session": "s-1"}` (or one of the two) | deletes all that is kept of a key's requests, or a session's: answers of the cache and under idempotency keys, and tasks for people |
//! | `POST /admin/reload` | loads the configuration's file again, and says which tiers go on and which settings changed |
//!
//! Answers are JSON with the state afterwards; errors are `{"error": {"message", "type"}}` and say how to fix the
//! request. An order holds until it is taken back: at all gateways of the durable store, over restarts, and without
//! such a store in the process that got it, over reloads (see [`StackHandle`](steadfast_stack::StackHandle#by-hand)).
//! Its answer says which in `scope` and `scopeNote`.
//!
//! **Authorization.** A server without keys refuses all of these paths, on loopback too: any web page can make a
//! browser there send a request, but the browser has no key to add. The log has each order under the name of the key,
//! and never the key itself.

mod actions;
mod answer;
mod keys;
mod page;
mod spend;
mod summary;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use steadfast::Dialect;
use steadfast_stack::StackHandle;
use tokio::time::Instant;

use self::answer::tiers;
pub(crate) use self::answer::{error, not_read, ok, wrong};
use super::{
    GatewayState,
    catalog::Catalog,
    door,
    keys::{Denial, Key},
    records::Entry,
    refusal::SHOULD_RETRY,
};

/// Returns the operators' paths, if there is a stack to operate.
pub(crate) fn router(gateway: Arc<GatewayState>) -> Router {
    let stack = match &gateway.catalog {
        Catalog::Stack(stack) => stack.clone(),
        Catalog::Listed(_) => return Router::new(),
    };
    Router::new()
        .route("/admin/tiers", get(list))
        .route("/admin/targets", get(list))
        .route("/admin/spend", get(spend::spend))
        .route("/admin/spend/summary", get(summary::summary))
        .route("/admin/keys", post(keys::create))
        .route("/admin/keys/{name}", get(keys::show).patch(keys::change).delete(keys::remove))
        .route("/admin/keys/{name}/rotate", post(keys::rotate))
        .route("/admin/audit", get(keys::audit))
        .route("/admin/tiers/{tier}/circuit", post(actions::circuit))
        .route("/admin/tiers/{tier}/drain", post(actions::drain))
        .route("/admin/level", post(actions::level))
        .route("/admin/cache/forget", post(actions::forget))
        .route("/admin/forget", post(actions::forget_owner))
        .route("/admin/reload", post(actions::reload))
        .route_layer(from_fn_with_state((gateway.clone(), stack), only_administrators))
        .with_state(gateway)
        .merge(page::router())
}

/// The stack, acting under the name of the operator's key.
type Operator = Extension<StackHandle>;

/// Lets an administrator through before it reads any of the request's body.
async fn only_administrators(
    State((gateway, stack)): State<(Arc<GatewayState>, StackHandle)>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let key = match key_of(&gateway, request.headers(), "`admin: true`") {
        Ok(key) => key,
        Err(refused) => return *refused,
    };
    if !key.is_admin() {
        let message = "this key is not an administrator's; use one with `admin: true`";
        return forbid(&gateway, &Denial::NotAdmin(request.uri().path().into()), &key, message);
    }
    request.extensions_mut().insert(stack.acting_as(&*key.name));
    next.run(request).await
}

/// Returns the request's key; `needed` names the permission for error texts.
pub(crate) fn key_of(
    gateway: &GatewayState,
    headers: &HeaderMap,
    needed: &str,
) -> Result<Arc<Key>, Box<Response<Body>>> {
    let Some(keys) = &gateway.keys else {
        let message = format!("this server has no keys: start it with --keys FILE, where a key has {needed}");
        return Err(error(StatusCode::FORBIDDEN, "permission_error", &message).into());
    };
    let key = keys.authenticate(headers, None).map_err(|denied| {
        if let Denial::KeysAway | Denial::Paused(_) = denied {
            return door::deny(gateway, &denied, None, Dialect::OpenAi);
        }
        let message = match denied {
            Denial::NoKey => &*format!("no key: send one with {needed} in `Authorization: Bearer` or `x-api-key`"),
            _ => "the gateway does not know this key, or it has expired",
        };
        let response = error(StatusCode::UNAUTHORIZED, "authentication_error", message);
        final_denial(&gateway.denied(&denied, None, Dialect::OpenAi), response)
    })?;
    // Requests here count against the key's rate, as calls of models do.
    match key.admit(Instant::now()) {
        Ok(()) => Ok(key),
        Err(denied) => Err(door::deny(gateway, &denied, Some(&key), Dialect::OpenAi).into()),
    }
}

/// Returns the response to a key that may not give this order.
pub(crate) fn forbid(gateway: &GatewayState, denied: &Denial, key: &Arc<Key>, message: &str) -> Response<Body> {
    let entry = gateway.denied(denied, Some(key), Dialect::OpenAi);
    final_denial(&entry, error(StatusCode::FORBIDDEN, "permission_error", message))
}

fn final_denial(entry: &Entry, mut response: Response<Body>) -> Response<Body> {
    entry.write_headers(false, response.headers_mut());
    response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

/// Lists the keys and their spending, for administrators only.
pub(crate) async fn keys(State(gateway): State<Arc<GatewayState>>, key: Option<Extension<Arc<Key>>>) -> Response<Body> {
    let key = key.map(|Extension(key)| key);
    match gateway.keys.as_ref().filter(|_| key.as_ref().is_some_and(|key| key.is_admin())) {
        Some(keys) => ok(&keys.report()),
        None => door::deny(&gateway, &Denial::NotAdmin("/admin/keys".into()), key.as_ref(), Dialect::OpenAi),
    }
}

async fn list(State(gateway): State<Arc<GatewayState>>, Extension(stack): Operator) -> Response<Body> {
    ok(&tiers(&gateway, &stack))
}
