//! `GET /status`: the tier that serves each chain, and recent failures. It has the code 503 while nothing serves.
//! `GET /overview`: the page's other figures.
//!
//! Foreign pages may read the status for their badge, but not the overview, which has features, costs and caps.

use std::{
    collections::BTreeMap,
    env, process,
    sync::{Arc, LazyLock},
};

use axum::{Router, body::Body, extract::State, middleware::from_fn_with_state, routing::get};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use steadfast_internal::system;
use steadfast_stack::StackHandle;
use steadfast_subscribers::{ServingState, Status};

use super::{
    ledger::{Ledger, TierHistory},
    recent::{Recent, reuse},
    task_gauges::{TaskCounts, TaskGauges},
};
use crate::api::{admin::ok, keys::is_of_a_key};

pub(super) fn router(stack: StackHandle, ledger: Ledger, waiting: TaskGauges) -> Router {
    let overview = get(overview).layer(from_fn_with_state(Recent::default(), reuse));
    let status = get(status).layer(from_fn_with_state(Recent::default(), reuse));
    let overview = Router::new().route("/overview", overview).with_state((stack.clone(), ledger));
    Router::new().route("/status", status).with_state((stack, waiting)).merge(overview)
}

/// The page's figures beside the status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Overview {
    tiers: Vec<TierHistory>,
    features: Vec<Feature>,
    budgets: Vec<Cap>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Feature {
    feature: String,
    in_flight: usize,
    limit: usize,
    queued: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cap {
    cap: String,
    /// The spending; for a cap of each key, that of the key which has used the most, and likewise below.
    spent_dollars: f64,
    reserved_dollars: f64,
    limit_dollars: f64,
}

impl Cap {
    fn used(&self) -> f64 {
        self.spent_dollars + self.reserved_dollars
    }
}

async fn overview(State((stack, ledger)): State<(StackHandle, Ledger)>) -> Response<Body> {
    let features = stack.bulkhead().snapshot().into_iter().map(|load| Feature {
        feature: load.feature.map_or_else(|| "all others".to_owned(), |name| name.to_string()),
        in_flight: load.in_flight,
        limit: load.limit,
        queued: load.queued,
    });
    let mut caps = BTreeMap::<Arc<str>, Cap>::new();
    // Keys may have thousands of caps: `/admin/keys` lists them.
    for spend in stack.spend().into_iter().filter(|spend| !is_of_a_key(&spend.cap)) {
        let cap = Cap {
            cap: spend.cap.to_string(),
            spent_dollars: spend.spent.dollars(),
            reserved_dollars: spend.reserved.dollars(),
            limit_dollars: spend.limit.dollars(),
        };
        match caps.get(&spend.cap) {
            Some(most) if most.used() >= cap.used() => {}
            _ => _ = caps.insert(spend.cap, cap),
        }
    }
    let features = features.collect();
    ok(&Overview { tiers: ledger.tiers(), features, budgets: caps.into_values().collect() })
}

/// The status, and the tasks for people.
#[derive(Debug, Serialize)]
struct StatusReport {
    #[serde(flatten)]
    status: Status,
    /// The process that this is about: its machine's name and its id. Each replica has a status of its own.
    instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    handoff: Option<TaskCounts>,
}

async fn status(State((stack, waiting)): State<(StackHandle, TaskGauges)>) -> Response<Body> {
    let report = StatusReport { status: stack.status(), instance: instance(), handoff: waiting.tasks() };
    let mut response = ok(&report);
    // A reader that looks at the model alone takes no total outage for service.
    if report.status.state == ServingState::Unavailable {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    // A badge runs on a foreign page.
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Returns the name of this machine, or container, and the id of this process.
fn instance() -> String {
    static INSTANCE: LazyLock<String> = LazyLock::new(|| {
        let told = env::var("HOSTNAME").ok();
        let host = told.or_else(system::host_name);
        let host = host.as_deref().map(str::trim).filter(|host| !host.is_empty()).unwrap_or("this machine");
        format!("{host}, process {}", process::id())
    });
    INSTANCE.clone()
}
