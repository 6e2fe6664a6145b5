//! A second call where the first is late: the slowest answers go, for a few per cent of extra calls.
//!
//! `cargo run --example hedge` needs no key and no network; its clock is paused.

use std::time::Duration;

use steadfast::{
    BoxLlmService, HedgeLayer, LlmRequest,
    providers::{
        Simulated,
        simulated::{Fault, FaultMix},
    },
};
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt};

/// Counts the requests, of 500, that took longer than five seconds.
async fn slow(llm: BoxLlmService) -> Result<usize, BoxError> {
    let mut slow = 0;
    for _ in 0..500 {
        let start = Instant::now();
        llm.clone().oneshot(LlmRequest::prompt("hello")).await?;
        slow += usize::from(start.elapsed() > Duration::from_secs(5));
    }
    Ok(slow)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    // One call in fifty takes 20 s longer.
    let tail = FaultMix::new().with(0.02, Fault::Slow(Duration::from_secs(20)));
    let sonnet = || Simulated::new("sonnet").latency(Duration::from_millis(800)).fault_mix(tail.clone());
    let gpt = Simulated::new("gpt-4o").latency(Duration::from_secs(1));
    let hedge = HedgeLayer::new("sonnet").tier("gpt-4o", gpt).after(Duration::from_secs(2));
    let handle = hedge.handle();

    let alone = slow(BoxLlmService::new(sonnet())).await?;
    let hedged = slow(BoxLlmService::new(hedge.layer(sonnet()))).await?;
    let stats = handle.stats();
    println!("slow of 500: {alone} alone, {hedged} hedged, with {:.1} % extra calls", stats.extra_load() * 100.0);
    assert!(alone >= 5 && hedged <= 1 && stats.extra_load() <= 0.05);
    Ok(())
}
