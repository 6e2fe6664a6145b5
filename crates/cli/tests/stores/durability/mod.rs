//! Queued tasks survive every outage: the gateway by `kill -9` at any moment, or the database server. The gateway never
//! reports a task as queued that the store has not written.
//!
//! `cargo test` runs a tenth of it; with `STEADFAST_SCALE=full` it is 2,000 handoffs and 50 kills.
//! `STEADFAST_SCALE_BINARY` names another build of the gateway. PostgreSQL's part needs its programs, in the folder of
//! `STEADFAST_TEST_POSTGRES_BIN`: where they are absent it says that it is skipped.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

mod broken;
#[cfg(feature = "postgres")]
mod callers;
#[cfg(feature = "postgres")]
#[path = "../../../../../tests/stores/durability/cluster.rs"]
pub(crate) mod cluster;
mod gateway;
mod keys;
mod killed;
mod receiver;
#[cfg(feature = "postgres")]
mod restarted;
mod storm;
#[allow(dead_code, reason = "it is the library's test's too")]
#[path = "../../../../../tests/stores/durability/told.rs"]
mod told;

use std::time::Duration;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Handoffs that are acknowledged at the least.
    tasks: usize,
    /// The number of times the gateway is killed.
    kills: usize,
    /// The number of times the server is restarted.
    restarts: usize,
    /// True to wait for all deliveries: those in flight at a kill are sent again half a minute later.
    waits_for_deliveries: bool,
}

fn scale() -> Scale {
    match std::env::var("STEADFAST_SCALE").as_deref() {
        Ok("full") => Scale { tasks: 2000, kills: 50, restarts: 5, waits_for_deliveries: true },
        _ => Scale { tasks: 200, kills: 5, restarts: 2, waits_for_deliveries: false },
    }
}

/// A machine that is slower than this has another problem.
const LONG: Duration = Duration::from_secs(90);

/// Looks until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    tokio::time::timeout(LONG, looks).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
