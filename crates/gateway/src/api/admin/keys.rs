//! Orders for stored keys, and the log of their changes.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
};
use http::{Request, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use steadfast_internal::wall_clock::rfc3339;
use steadfast_stack::Span;
use steadfast_stores::registry::RegistryChange;

use super::{
    Operator,
    actions::{read, read_within},
    answer::{error, ok, wrong},
};
use crate::api::{
    GatewayState,
    keys::{Document, KeyOrderError, Keys, MadeKey, history},
    query,
};

/// The time for which an earlier secret goes on beside a new one, unless the order says otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The changes of an answer, unless the query says otherwise.
const CHANGES: usize = 100;

/// A body of `POST /admin/keys`: a new key, or keys whose secrets exist.
#[derive(Deserialize)]
#[serde(untagged)]
enum NewKeys {
    Several(KeyList),
    One(Document),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyList {
    keys: Vec<Document>,
}

/// Makes a key, and shows its secret once.
pub(super) async fn create(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    request: Request<Body>,
) -> Response<Body> {
    let expected = r#"a key, such as {"name": "ci", "team": "search"}, or {"keys": [..]} with their hashes"#;
    let asked = match read_within(&gateway, request, None, expected).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let (keys, actor) = (keys_of(&gateway), stack.actor().unwrap_or_default());
    match asked {
        NewKeys::One(document) => {
            let made = keys.create(actor, document).await;
            made.map_or_else(|problem| refused(&problem), |made| shown(keys, &made, StatusCode::CREATED))
        }
        NewKeys::Several(KeyList { keys: documents }) => match keys.import(actor, documents).await {
            Ok(count) => ok(&json!({ "imported": count })),
            Err(problem) => refused(&problem),
        },
    }
}

pub(super) async fn show(State(gateway): State<Arc<GatewayState>>, Path(name): Path<String>) -> Response<Body> {
    view(keys_of(&gateway).report_on(&name), &name)
}

/// Changes a key by a JSON merge patch.
pub(super) async fn change(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let expected = r#"a JSON merge patch, such as {"paused": true} or {"budget": null}"#;
    let patch: Document = match read(&gateway, request, expected).await {
        Ok(patch) => patch,
        Err(refused) => return refused,
    };
    let keys = keys_of(&gateway);
    match keys.change(stack.actor().unwrap_or_default(), &name, &patch).await {
        Ok(()) => view(keys.report_on_stored(&name), &name),
        Err(problem) => refused(&problem),
    }
}

pub(super) async fn remove(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    Path(name): Path<String>,
) -> Response<Body> {
    match keys_of(&gateway).remove(stack.actor().unwrap_or_default(), &name).await {
        Ok(()) => ok(&json!({ "removed": name })),
        Err(problem) => refused(&problem),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    overlap: Option<Span>,
}

/// Gives a key a new secret, and shows it once.
pub(super) async fn rotate(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let Rotation { overlap } = match read(&gateway, request, r#"{"overlap": "24h"}"#).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let (keys, overlap) = (keys_of(&gateway), overlap.map_or(OVERLAP, |span| span.0));
    match keys.rotate(stack.actor().unwrap_or_default(), &name, overlap).await {
        Ok(made) => shown(keys, &made, StatusCode::OK),
        Err(problem) => refused(&problem),
    }
}

/// Lists changes of keys and orders by hand, the newest first.
pub(super) async fn audit(State(gateway): State<Arc<GatewayState>>, uri: Uri) -> Response<Body> {
    let (mut name, mut before, mut limit) = (None, None, CHANGES);
    let parameters = match query::parameters(&uri, &["key", "before", "limit"]) {
        Ok(parameters) => parameters,
        Err(problem) => return wrong(problem),
    };
    for [parameter, value] in parameters {
        match &*parameter {
            "key" => name = Some(value),
            "before" => match value.parse() {
                Ok(revision) => before = Some(revision),
                Err(_) => return wrong("`before` is the revision of a change"),
            },
            _ => match query::limit(&value) {
                Ok(number) => limit = number,
                Err(problem) => return wrong(problem),
            },
        }
    }
    // The store of the start: that of this moment may be another, after a reload.
    let store = gateway.standing_orders.as_ref().map(|orders| orders.store());
    match history(store, name.as_deref(), before, limit).await {
        Ok(changes) => ok(&json!({ "changes": changes.iter().map(change_in_words).collect::<Vec<_>>() })),
        Err(problem) => refused(&problem),
    }
}

fn change_in_words(change: &RegistryChange) -> Value {
    let document = |document: &Option<Arc<str>>| {
        document.as_ref().map(|document| serde_json::from_str(document).unwrap_or_else(|_| Value::from(&**document)))
    };
    json!({
        "revision": change.revision,
        "at": rfc3339(change.at),
        "by": &*change.actor,
        "action": &*change.action,
        "kind": change.kind.name(),
        "name": &*change.name,
        "before": document(&change.before),
        "after": document(&change.after),
    })
}

/// Returns the keys: who is here has shown an administrator's.
fn keys_of(gateway: &GatewayState) -> &Keys {
    gateway.keys.as_deref().expect("an administrator has a key")
}

/// Returns the answer with a key.
fn view(report: Option<Value>, name: &str) -> Response<Body> {
    match report {
        Some(key) => ok(&json!({ "key": key })),
        None => refused(&KeyOrderError::Unknown(name.into())),
    }
}

/// Returns the answer with a key and its new secret.
fn shown(keys: &Keys, made: &MadeKey, status: StatusCode) -> Response<Body> {
    let mut response = ok(&json!({ "key": keys.report_on_stored(&made.name), "secret": made.secret.secret() }));
    *response.status_mut() = status;
    response
}

fn refused(problem: &KeyOrderError) -> Response<Body> {
    let (status, kind) = match problem {
        KeyOrderError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request_error"),
        KeyOrderError::NotStored | KeyOrderError::Unknown(_) => (StatusCode::NOT_FOUND, "not_found_error"),
        KeyOrderError::Exists(_) | KeyOrderError::InFile(_) | KeyOrderError::Busy(_) => {
            (StatusCode::CONFLICT, "conflict_error")
        }
        KeyOrderError::Away(_) | KeyOrderError::Unsure(_) => (StatusCode::SERVICE_UNAVAILABLE, "api_error"),
        KeyOrderError::NoRandomness(_) => (StatusCode::INTERNAL_SERVER_ERROR, "api_error"),
    };
    error(status, kind, &problem.to_string())
}
