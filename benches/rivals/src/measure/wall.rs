//! Waits that are so long that only a clock on the wall shows them.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tower::{Service, ServiceExt};

use crate::{
    contestants::occupied,
    rivals::resilience,
    subject::{Hangs, Small, Subject},
};

const CALLS: u32 = 20;

/// Returns the time that the caller of tower-resilience's full bulkhead waits for the refusal. `reject_when_full` is a
/// wait of no length there, but a wait for a timer, and timers tick in milliseconds.
pub fn resilience_refusal(runtime: &Runtime) -> Duration {
    let mut service = occupied::<Small, _>(resilience::refusing_bulkhead(1, Hangs::<Small>::new()));
    runtime.block_on(async {
        let start = Instant::now();
        for _ in 0..CALLS {
            let ready = service.ready().await.expect("a bulkhead is ready to refuse");
            assert!(ready.call(Small::request()).await.is_err());
        }
        start.elapsed() / CALLS
    })
}
