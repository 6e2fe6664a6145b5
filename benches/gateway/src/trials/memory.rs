//! Resident memory at rest, under load, and after it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    dialect::Mode,
    load::{Load, Shape, Target},
    process::Process,
};

/// Bytes resident, of the process and its children.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Memory {
    /// Started, with a few answers given.
    pub idle: u64,
    /// The most with 128 callers of whole answers, and then as many of streams.
    pub loaded: u64,
    /// Some seconds after the last of them has left.
    pub recovered: u64,
}

/// The time for memory to settle before a look at it.
const SETTLES: Duration = Duration::from_secs(1);
const RECOVERS: Duration = Duration::from_secs(5);
const CALLERS: usize = 128;

/// Measures one that has just been started, with so long a load of each kind.
pub async fn run(process: &Process, target: &Target, length: Duration) -> Memory {
    sleep(SETTLES).await;
    let idle = process.used().resident;
    process.forget_peak();
    for mode in [Mode::Plain, Mode::Stream] {
        let load = Load::start(target, Shape { mode, connections: CALLERS, fresh: false });
        sleep(length).await;
        load.end(Duration::from_secs(10)).await;
    }
    let loaded = process.used().peak;
    sleep(RECOVERS).await;
    Memory { idle, loaded, recovered: process.used().resident }
}
