//! A call that survives its provider's outage.
//!
//! `cargo run --example quickstart` needs no key and no network: the provider is simulated, and its clock is paused.

use std::time::Duration;

use steadfast::{
    CircuitBreakerLayer, FallbackLayer, LlmRequest, RetryWithJitterLayer, TimeoutLayer,
    providers::{Canned, Simulated, simulated::Fault},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    // With a key: `Anthropic::from_env()?.model("claude-sonnet-4-5")`.
    let sonnet = Simulated::new("sonnet").reply("A function with its surroundings.");
    let provider = sonnet.handle();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("Please try again in a minute.")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .service(sonnet);
    let ask = || async {
        let answer = llm.clone().oneshot(LlmRequest::prompt("What is a closure?").with_feature("chat")).await?;
        let tier = answer.served_by().tier.unwrap_or_default().to_owned();
        println!("{tier}: {}", answer.text().await?);
        Ok::<_, BoxError>(tier)
    };

    assert_eq!(ask().await?, "sonnet");
    provider.fail(Fault::Overloaded);
    assert_eq!(ask().await?, "canned");
    provider.heal();
    assert_eq!(ask().await?, "sonnet");
    Ok(())
}
