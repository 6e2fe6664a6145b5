//! The deletion of tasks, for administrators.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
};
use http::{Request, Response};
use serde::Deserialize;
use serde_json::json;
use steadfast_handoff::TaskScope;

use super::{
    Reviewer, ReviewerExtension,
    outcome::{desk_error, id},
    tasks::{EMPTY_ORDER, EmptyOrder, read},
};
use crate::api::{
    GatewayState,
    admin::{forbid, ok, wrong},
    keys::Denial,
};

/// The longest name of a session or a key, in bytes.
const MAX_NAME: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    session: Option<String>,
    tenant: Option<String>,
}

pub(super) async fn task(
    State(gateway): State<Arc<GatewayState>>,
    Extension(reviewer): ReviewerExtension,
    Path(task): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let task = match id(&task) {
        Ok(task) => task,
        Err(refused) => return *refused,
    };
    match read::<EmptyOrder>(&gateway, request, EMPTY_ORDER).await {
        Ok(_) => forget(&reviewer, TaskScope::Task(task)).await,
        Err(refused) => refused,
    }
}

pub(super) async fn scope(
    State(gateway): State<Arc<GatewayState>>,
    Extension(reviewer): ReviewerExtension,
    request: Request<Body>,
) -> Response<Body> {
    let expected = r#"{"session": "name", "tenant": "key"}, or one of the two"#;
    let Scope { session, tenant } = match read(&gateway, request, expected).await {
        Ok(Some(asked)) => asked,
        Ok(None) => return wrong(format!("the body must be {expected}")),
        Err(refused) => return refused,
    };
    if [&session, &tenant].into_iter().flatten().any(|name| name.is_empty() || name.len() > MAX_NAME) {
        return wrong(format!("`session` and `tenant` are names of 1 to {MAX_NAME} bytes"));
    }
    let which = match (session, tenant) {
        (Some(session), tenant) => TaskScope::Session { session, tenant },
        (None, Some(tenant)) => TaskScope::Tenant(tenant),
        // An omission must not delete everything.
        (None, None) => return wrong(format!("the body must be {expected}")),
    };
    forget(&reviewer, which).await
}

async fn forget(reviewer: &Reviewer, which: TaskScope) -> Response<Body> {
    let key = &reviewer.key;
    if !key.is_admin() {
        let message = "this key may not delete tasks; use one with `admin: true` in the file of keys";
        return forbid(&reviewer.gateway, &Denial::NotAdmin("/handoff".into()), key, message);
    }
    // The desk logs the key that ordered it.
    match reviewer.desk.forget(which, &key.name).await {
        Ok(forgotten) => ok(&json!({ "forgotten": forgotten })),
        Err(problem) => desk_error(&problem),
    }
}
