//! The paths for tasks: reviewers find and answer them, and callers fetch the answer.
//!
//! | path | what |
//! |---|---|
//! | `GET /handoff` | the [`page`] |
//! | `GET /handoff/tasks?state=waiting&feature=&tenant=&limit=50&after=task_..&order=oldest\|newest` | a page of tasks without what is asked but for its beginning, and how many there are of each state; `next` is the `after` of the next page |
//! | `GET /handoff/tasks/{id}` | the whole of a task, with the conversation for a person to read |
//! | `POST /handoff/tasks/{id}/claim`, `renew`, `release` `{"as": "ana"}` | so that two people never work at one task; `as` is who does it, and if left out the key's name |
//! | `POST /handoff/tasks/{id}/answer` `{"text": "..", "as": "ana", "force": false}` | answers it, once |
//! | `POST /handoff/tasks/{id}/redrive`, `POST /handoff/redrive` | has a model asked once more, for one task or for all |
//! | `POST /handoff/tasks/{id}/forget` (or `DELETE /handoff/tasks/{id}`), `POST /handoff/forget` `{"session": "s-1", "tenant": "key"}` | deletes one task, all of a session or all of a key, whatever their state; takes a key with `admin: true` |
//! | `GET /handoff/answers/{id}?dialect=anthropic\|openai\|responses\|gemini` | for who asked: 200 with the answer (with `dialect`, as that API has answers), 202 with the state while it waits |
//!
//! Errors are `{"error": {"message", "type"}}`: 400 for an invalid id or order, 404 for an unknown task, 409 for a task
//! that is answered or claimed by another reviewer, 410 for an expired one, 413 for an answer that is too long, 503 for
//! a store that fails.
//!
//! **Authorization.** Tasks contain the prompts of all callers. They need a key with `admin: true` or `handoff: true`,
//! and a server without keys refuses. An answer needs the key that asked, or an administrator's; for others the task
//! does not exist.

mod answers;
mod filter;
mod forget;
mod outcome;
pub(crate) mod page;
mod tasks;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use http::{Request, Response};
use steadfast_handoff::Desk;

use self::outcome::no_desk;
use super::{
    GatewayState,
    admin::{forbid, key_of},
    keys::{Denial, Key},
};
pub(crate) use answers::answer;

/// Returns the reviewers' paths.
pub(crate) fn router(gateway: Arc<GatewayState>) -> Router {
    Router::new()
        .route("/handoff/tasks", get(tasks::list))
        .route("/handoff/tasks/{id}", get(tasks::show).delete(forget::task))
        .route("/handoff/tasks/{id}/claim", post(tasks::claim))
        .route("/handoff/tasks/{id}/renew", post(tasks::renew))
        .route("/handoff/tasks/{id}/release", post(tasks::release))
        .route("/handoff/tasks/{id}/answer", post(tasks::answer))
        .route("/handoff/tasks/{id}/redrive", post(tasks::redrive))
        .route("/handoff/tasks/{id}/forget", post(forget::task))
        .route("/handoff/redrive", post(tasks::redrive_all))
        .route("/handoff/forget", post(forget::scope))
        .route_layer(from_fn_with_state(gateway.clone(), only_reviewers))
        .with_state(gateway)
        .merge(page::router())
}

/// A reviewer's key, and the desk.
#[derive(Clone)]
struct Reviewer {
    key: Arc<Key>,
    desk: Desk,
    gateway: Arc<GatewayState>,
}

type ReviewerExtension = Extension<Reviewer>;

/// Lets reviewers through before it reads any of the request's body.
async fn only_reviewers(
    State(gateway): State<Arc<GatewayState>>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let key = match key_of(&gateway, request.headers(), "`handoff: true` or `admin: true`") {
        Ok(key) => key,
        Err(refused) => return *refused,
    };
    if !key.is_reviewer() {
        let message = "this key is not a reviewer's; use one with `handoff: true` or `admin: true` in the file of keys";
        return forbid(&gateway, &Denial::NotReviewer(request.uri().path().into()), &key, message);
    }
    let Some(desk) = gateway.desk() else { return no_desk() };
    request.extensions_mut().insert(Reviewer { key, desk, gateway });
    next.run(request).await
}
