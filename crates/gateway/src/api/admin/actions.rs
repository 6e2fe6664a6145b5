//! The actions of operators.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
};
use http::{Request, Response, StatusCode};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};
use steadfast::{InvalidConfig, layers::cache::AnswerOwner};
use steadfast_handoff::TaskScope;
use steadfast_stack::{Reload, StackHandle};
use tokio::time::sleep;

use super::{
    Operator,
    answer::{Done, OfTier, Reach, error, not_read, ok, pins, tier, wrong},
};
use crate::{
    api::{
        GatewayState,
        standing_orders::{Force, StandingOrder},
    },
    limits::Settings,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Circuit {
    action: String,
}

pub(super) async fn circuit(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let Circuit { action } = match read(&gateway, request, r#"{"action": "open" | "close" | "auto"}"#).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let (force, holds) = match action.as_str() {
        "open" => (Force::Open, true),
        "close" => (Force::Close, true),
        "auto" => (Force::Open, false),
        other => {
            let other: String = other.chars().take(MAX_NAME).collect();
            return wrong(format!("unknown action `{other}`; the actions are open, close and auto"));
        }
    };
    let order = StandingOrder::Circuit { tier: name.as_str().into(), force };
    tier_response(&gateway, &stack, &name, &action, order, holds).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    drained: bool,
}

pub(super) async fn drain(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let Drain { drained } = match read(&gateway, request, r#"{"drained": true | false}"#).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let order = StandingOrder::Drain { tier: name.as_str().into() };
    let action = if drained { "drain" } else { "undrain" };
    tier_response(&gateway, &stack, &name, action, order, drained).await
}

/// Carries an order out, here and at the other gateways. Returns whether that changed anything here.
///
/// # Errors
///
/// No tier has its name, and the store has no such order that could be taken back.
async fn carry_out(
    gateway: &GatewayState,
    stack: &StackHandle,
    order: StandingOrder,
    holds: bool,
) -> Result<bool, InvalidConfig> {
    let set = order.set(stack, holds);
    let Some(orders) = &gateway.standing_orders else { return set };
    let stands = orders.has(&order);
    let changed = match set {
        Err(_) if stands && !holds => false,
        set => set?,
    };
    orders.give(stack.actor().unwrap_or_default(), order, holds).await;
    Ok(changed || stands != holds)
}

/// Returns the response to an action: whether it changed the tier, and the tier's state.
async fn tier_response(
    gateway: &GatewayState,
    stack: &StackHandle,
    name: &str,
    action: &str,
    order: StandingOrder,
    holds: bool,
) -> Response<Body> {
    let Ok(changed) = carry_out(gateway, stack, order, holds).await else {
        if let Some((of, _)) = name.rsplit_once('/').filter(|(of, _)| !stack.deployments(of).is_empty()) {
            let names: Vec<String> = stack.deployments(of).iter().map(|it| it.status.name.to_string()).collect();
            let name: String = name.chars().take(MAX_NAME).collect();
            let message = format!("unknown deployment `{name}`; those of `{of}` are {}", names.join(", "));
            return error(StatusCode::NOT_FOUND, "not_found_error", &message);
        }
        let tiers = stack.tiers();
        let names: Vec<&str> = tiers.iter().map(|tier| &*tier.name).collect();
        let name: String = name.chars().take(MAX_NAME).collect();
        let message = format!("unknown tier `{name}`; the tiers are {}", names.join(", "));
        return error(StatusCode::NOT_FOUND, "not_found_error", &message);
    };
    match changed {
        // An event reports the change, to the log too.
        true => wait_for_status(stack, name).await,
        false => tracing::info!(by = stack.actor(), tier = name, action, "order without effect"),
    }
    ok(&Done { changed, now: OfTier { tier: tier(stack, name) }, reach: Reach::of(gateway, stack) })
}

/// Waits a moment until the status has the change of a circuit, so that the answer can say since when it holds.
async fn wait_for_status(stack: &StackHandle, name: &str) {
    // A deployment's state comes from its circuit at once.
    if stack.tiers().iter().all(|tier| *tier.name != *name) {
        return;
    }
    for _ in 0..STATUS_POLLS {
        let Some(circuit) = stack.circuit(name) else { return };
        let status = stack.status();
        if status.tiers.iter().any(|tier| *tier.name == *name && tier.circuit == circuit.state().name()) {
            return;
        }
        sleep(STATUS_POLL_INTERVAL).await;
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    /// A missing level is an error, so that it does not unpin by accident.
    #[serde(deserialize_with = "present")]
    level: Option<Value>,
    feature: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Option::deserialize(from)
}

pub(super) async fn level(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    request: Request<Body>,
) -> Response<Body> {
    let expected = r#"{"level": 1..5 | null, "feature": "name" (left out: all)}"#;
    let Level { level, feature } = match read(&gateway, request, expected).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let level = match level.as_ref().map(|level| level.as_u64().and_then(|level| u8::try_from(level).ok())) {
        None => None,
        Some(Some(level @ 1..=5)) => Some(level),
        Some(_) => return wrong("`level` is a number from 1 (full service) to 5 (a fixed sentence), or null to unpin"),
    };
    let tiers = stack.tiers();
    if let Some(level) = level.filter(|level| tiers.iter().all(|tier| tier.level < *level)) {
        let levels: Vec<String> = tiers.iter().map(|tier| format!("{} ({})", tier.name, tier.level)).collect();
        let message = format!("no tier has level {level} or worse; the tiers are {}", levels.join(", "));
        return wrong(message);
    }
    if feature.as_ref().is_some_and(|feature| feature.is_empty() || feature.len() > MAX_NAME) {
        return wrong(format!("`feature` is a name of at most {MAX_NAME} bytes; leave it out for all"));
    }
    let order = StandingOrder::Level { feature: feature.as_deref().map(Into::into), level: level.unwrap_or(1) };
    // A level is there for every name.
    let changed = carry_out(&gateway, &stack, order, level.is_some()).await.unwrap_or_default();
    if !changed {
        tracing::info!(by = stack.actor(), feature, level, action = "level", "order without effect");
    }
    ok(&Done { changed, now: pins(&stack), reach: Reach::of(&gateway, &stack) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forget {
    #[serde(default)]
    feature: Option<String>,
}

pub(super) async fn forget(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    request: Request<Body>,
) -> Response<Body> {
    let Forget { feature } = match read(&gateway, request, r#"{"feature": "chat"}, or {} for all"#).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    if feature.as_ref().is_some_and(|feature| feature.is_empty() || feature.len() > MAX_NAME) {
        return wrong(format!("`feature` is a name of at most {MAX_NAME} bytes; leave it out for all"));
    }
    match stack.forget_answers(feature.as_deref()) {
        Some((before, now)) => ok(&json!({ "forgotten": before.saturating_sub(now), "kept": now })),
        None => error(
            StatusCode::NOT_FOUND,
            "not_found_error",
            "the configuration has no `cache`, so there is nothing to forget",
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    tenant: Option<String>,
    session: Option<String>,
}

/// Forgets everything kept of a caller's or a session's requests. A failing store does not stop the others.
pub(super) async fn forget_owner(
    State(gateway): State<Arc<GatewayState>>,
    Extension(stack): Operator,
    request: Request<Body>,
) -> Response<Body> {
    let expected = r#"{"tenant": "key", "session": "name"}, or one of the two"#;
    let Owner { tenant, session } = match read(&gateway, request, expected).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    if [&tenant, &session].into_iter().flatten().any(|name| name.is_empty() || name.len() > MAX_OWNER) {
        return wrong(format!("`tenant` and `session` are names of 1 to {MAX_OWNER} bytes"));
    }
    let (owner, tasks) = match (tenant, session) {
        (Some(tenant), Some(session)) => {
            (AnswerOwner::session(&*session).of_tenant(&*tenant), TaskScope::Session { session, tenant: Some(tenant) })
        }
        (None, Some(session)) => (AnswerOwner::session(&*session), TaskScope::Session { session, tenant: None }),
        (Some(tenant), None) => (AnswerOwner::tenant(&*tenant), TaskScope::Tenant(tenant)),
        (None, None) => return wrong(format!("the body must be {expected}")),
    };
    let answers = stack.forget_owner(&owner).await.map_err(|problem| problem.to_string());
    let tasks = match gateway.desk() {
        Some(desk) => {
            desk.forget(tasks, stack.actor().unwrap_or_default()).await.map_err(|problem| problem.to_string())
        }
        None => Ok(0),
    };
    match (answers, tasks) {
        (Ok(answers), Ok(tasks)) => ok(&json!({ "answers": answers, "tasks": tasks })),
        (answers, tasks) => {
            let problems: Vec<String> = [answers.err(), tasks.err()].into_iter().flatten().collect();
            let message = format!("some data is not forgotten yet; retry: {}", problems.join("; "));
            error(StatusCode::SERVICE_UNAVAILABLE, "api_error", &message)
        }
    }
}

pub(super) async fn reload(Extension(stack): Operator) -> Response<Body> {
    tracing::info!(by = stack.actor(), action = "reload", "an operator has the configuration loaded again");
    // Read the file on a blocking thread. An event reports the outcome too.
    match tokio::task::spawn_blocking(move || stack.reload_from_path()).await {
        Ok(Ok(Reload { kept, changed, removed, settings, .. })) => {
            let [kept, changed, removed] =
                [kept, changed, removed].map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            ok(&json!({ "kept": kept, "changed": changed, "removed": removed, "settings": settings }))
        }
        Ok(Err(refused)) => error(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", &refused.to_string()),
        Err(panicked) => error(StatusCode::INTERNAL_SERVER_ERROR, "api_error", &panicked.to_string()),
    }
}

/// The body of an order, or what is wrong with it.
pub(super) async fn read<T: DeserializeOwned>(
    gateway: &GatewayState,
    request: Request<Body>,
    expected: &str,
) -> Result<T, Response<Body>> {
    read_within(gateway, request, Some(MAX_BODY), expected).await
}

/// Reads a body of so many bytes, or of as many as a caller's may have.
pub(super) async fn read_within<T: DeserializeOwned>(
    gateway: &GatewayState,
    request: Request<Body>,
    bytes: Option<usize>,
    expected: &str,
) -> Result<T, Response<Body>> {
    let (head, body) = request.into_parts();
    let current = gateway.lifecycle.current.load();
    let settings = Settings { body: bytes.unwrap_or(current.body), ..Settings::clone(&current) };
    let body = match gateway.reader(&settings, None).read(&head.headers, body).await {
        Ok(body) => body,
        Err(unread) => return Err(not_read(unread, &settings)),
    };
    serde_json::from_slice(&body).map_err(|problem| wrong(format!("{problem}; the body must be {expected}")))
}

/// No order is longer, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// The longest name of a key or a session.
const MAX_OWNER: usize = 1024;
/// The longest name that is taken over or repeated.
const MAX_NAME: usize = 256;
/// The number and the interval of the looks at the status for a change that was just made.
const STATUS_POLLS: usize = 100;
const STATUS_POLL_INTERVAL: Duration = Duration::from_millis(5);
