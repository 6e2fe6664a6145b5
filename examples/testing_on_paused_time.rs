//! An outage of two hours in a test of your own, in milliseconds.
//!
//! `cargo run --example testing_on_paused_time` runs it here; in your crate it is a `#[tokio::test(start_paused =
//! true)]`.

use std::time::Duration;

use steadfast::{
    CircuitBreakerLayer, FallbackLayer, LlmRequest, RetryWithJitterLayer,
    providers::{Simulated, simulated::Fault},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    let minute = Duration::from_secs(60);
    let primary = Simulated::new("primary").latency(Duration::from_millis(800)).outage(
        10 * minute,
        130 * minute,
        Fault::Overloaded,
    );
    let (provider, backup) = (primary.handle(), Simulated::new("backup").latency(Duration::from_secs(1)));
    // Seeds make the run repeat exactly.
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("primary").tier("backup", backup))
        .layer(RetryWithJitterLayer::new().seed(7))
        .layer(CircuitBreakerLayer::new("primary").seed(7))
        .service(primary);

    let mut by_backup = 0;
    for _ in 0..150 {
        let answer = llm.clone().oneshot(LlmRequest::prompt("hello")).await?;
        by_backup += usize::from(answer.served_by().tier == Some("backup"));
        tokio::time::sleep(minute).await;
    }
    // What your users would have seen: nothing lost, a sick provider left alone, and the primary back after the outage.
    println!("150 of 150 answered, {by_backup} by the backup; {} calls failed", provider.stats().failed);
    assert!((115..=125).contains(&by_backup) && provider.stats().failed <= 130);
    assert_eq!(llm.oneshot(LlmRequest::prompt("hello")).await?.served_by().tier, Some("primary"));
    Ok(())
}
