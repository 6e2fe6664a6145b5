//! The responses of the operators' paths.

use std::collections::BTreeMap;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use steadfast::events::CircuitState;
use steadfast_stack::{StackHandle, TierInfo};
use steadfast_subscribers::{DeploymentStatus, Status};

use crate::{
    api::{GatewayState, body_error::BodyError, refusal},
    limits::Settings,
};

/// All tiers, and the pinned levels.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tiers {
    tiers: Vec<Tier>,
    #[serde(flatten)]
    pins: Pins,
    /// The orders of the store that hold nothing here.
    idle_orders: Vec<String>,
    #[serde(flatten)]
    reach: Reach,
}

/// The gateways at which an order by hand holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reach {
    /// `process`: the one that answers, and no replica beside it; `all`: every gateway of the durable store.
    scope: &'static str,
    /// The same in words for the operator.
    scope_note: String,
}

impl Reach {
    /// Returns the reach of an order to this gateway.
    pub(super) fn of(gateway: &GatewayState, stack: &StackHandle) -> Self {
        let process = std::process::id();
        if let Some(orders) = &gateway.standing_orders {
            return match orders.is_stored() {
                true => {
                    let note = "Orders hold at all gateways of the durable store, within two seconds and over restarts, \
                        until they are taken back.";
                    Self { scope: "all", scope_note: note.to_owned() }
                }
                false => {
                    let scope_note = format!(
                        "The durable store is away: orders hold in this process only (id {process}), and at all gateways \
                         once it is back."
                    );
                    Self { scope: "process", scope_note }
                }
            };
        }
        let shared = match stack.config().stores.shared {
            Some(_) => "; the shared store carries circuits and no orders",
            None => "",
        };
        let hint = match stack.config().stores.durable {
            Some(_) => "",
            None => " With `stores: { durable: .. }` they hold at all.",
        };
        let scope_note = format!(
            "Orders hold in this process only (id {process}), until they are taken back or it restarts; replicas need \
             their own{shared}.{hint}"
        );
        Self { scope: "process", scope_note }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tier {
    name: String,
    provider: &'static str,
    model: Option<String>,
    level: u8,
    circuit: &'static str,
    /// The time since which the circuit is in its state, the reason, and its next probe; absent for a circuit that has
    /// always been closed.
    since: Option<String>,
    reason: Option<String>,
    until: Option<String>,
    forced: Option<&'static str>,
    drained: bool,
    consecutive_failures: u32,
    /// The failures of the last five minutes; so are the calls.
    failures: u64,
    calls: u64,
    in_flight: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deployments: Vec<DeploymentStatus>,
}

/// An order's outcome, and its reach.
#[derive(Debug, Serialize)]
pub(super) struct Done<T> {
    pub(super) changed: bool,
    #[serde(flatten)]
    pub(super) now: T,
    #[serde(flatten)]
    pub(super) reach: Reach,
}

/// The tier of an order.
#[derive(Debug, Serialize)]
pub(super) struct OfTier {
    pub(super) tier: Option<Tier>,
}

/// The levels that are pinned.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pins {
    pinned_level: Option<u8>,
    pinned_features: BTreeMap<String, u8>,
}

pub(super) fn tiers(gateway: &GatewayState, stack: &StackHandle) -> Tiers {
    let status = stack.status();
    let tiers = stack.tiers().into_iter().filter_map(|info| tier_of(stack, info, &status)).collect();
    let idle_orders = gateway.standing_orders.as_ref().map(|orders| orders.idle()).unwrap_or_default();
    Tiers { tiers, pins: pins(stack), idle_orders, reach: Reach::of(gateway, stack) }
}

pub(super) fn tier(stack: &StackHandle, name: &str) -> Option<Tier> {
    let of_name = |name: &str| stack.tiers().into_iter().find(|tier| *tier.name == *name);
    // The name of a deployment is its tier's and its own.
    let info = of_name(name).or_else(|| of_name(name.rsplit_once('/')?.0))?;
    tier_of(stack, info, &stack.status())
}

pub(super) fn pins(stack: &StackHandle) -> Pins {
    let features = stack.pinned_features().into_iter().map(|(feature, level)| (feature.to_string(), level));
    Pins { pinned_level: stack.pinned_level(), pinned_features: features.collect() }
}

/// Returns a tier's state; `None` if a reload has just removed the tier.
fn tier_of(stack: &StackHandle, info: TierInfo, status: &Status) -> Option<Tier> {
    let circuit = stack.circuit(&info.name)?;
    let known = status.tiers.iter().find(|tier| *tier.name == *info.name);
    let state = circuit.state();
    // Time and reason come from events, which arrive a moment after the change.
    let told = known.filter(|known| known.circuit == state.name());
    Some(Tier {
        provider: info.provider.name(),
        model: info.model.as_deref().map(str::to_owned),
        level: info.level,
        circuit: state.name(),
        since: told.and_then(|told| told.circuit_since.clone()),
        reason: told.and_then(|told| told.circuit_reason.clone()),
        until: told.and_then(|told| told.circuit_until.clone()),
        forced: circuit.forced().map(CircuitState::name),
        drained: stack.fallback().is_drained(&info.name),
        consecutive_failures: circuit.consecutive_failures(),
        failures: known.map_or(0, |known| known.failures),
        calls: known.map_or(0, |known| known.calls),
        in_flight: circuit.in_flight(),
        deployments: known.map(|known| known.deployments.clone()).unwrap_or_default(),
        name: info.name.as_ref().to_owned(),
    })
}

/// Returns a response with this JSON, not to be cached.
pub(crate) fn ok(what: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(what) {
        Ok(body) => no_store(StatusCode::OK, body),
        Err(wrong) => error(StatusCode::INTERNAL_SERVER_ERROR, "api_error", &wrong.to_string()),
    }
}

/// Returns an error response, not to be cached.
pub(crate) fn error(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    no_store(status, json!({"error": {"message": message, "type": kind}}).to_string())
}

/// Returns the response to a request that is wrong.
pub(crate) fn wrong(message: impl AsRef<str>) -> Response<Body> {
    error(StatusCode::BAD_REQUEST, "invalid_request_error", message.as_ref())
}

/// Returns the response to an order whose body could not be read.
pub(crate) fn not_read(unread: BodyError, settings: &Settings) -> Response<Body> {
    let mut refused = wrong(unread.error(settings).message());
    if let Some(status) = unread.status().filter(StatusCode::is_server_error) {
        *refused.status_mut() = status;
    }
    refused
}

/// Returns a JSON response that must not be cached.
fn no_store(status: StatusCode, body: String) -> Response<Body> {
    let mut response = refusal::json(status, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
