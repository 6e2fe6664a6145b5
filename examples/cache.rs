//! An answer that is kept: given again while it is fresh, and during an outage for longer.
//!
//! `cargo run --example cache` needs no key and no network; its clock is paused.

use std::time::Duration;

use steadfast::{
    CacheLayer, CacheReason, LlmRequest,
    providers::{Simulated, simulated::Fault},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    let sonnet = Simulated::new("sonnet").reply("A function with its surroundings.");
    let provider = sonnet.handle();
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let cache = CacheLayer::new().ttl(10 * minute).stale_for(24 * hour);
    let kept = cache.handle();
    let llm = ServiceBuilder::new().layer(cache).service(sonnet);
    let ask = || async {
        let answer = llm.clone().oneshot(LlmRequest::prompt("What is a closure?").with_feature("chat")).await?;
        let why = answer.cached().map(|cached| cached.reason);
        println!("{why:?}: {}", answer.text().await?);
        Ok::<_, BoxError>(why)
    };

    assert_eq!(ask().await?, None);
    assert_eq!(ask().await?, Some(CacheReason::Fresh));
    assert_eq!((provider.stats().calls, kept.stats().hits), (1, 1));

    // An hour later the answer is too old, and the provider is down: an old answer, marked as such, beats none.
    tokio::time::sleep(hour).await;
    provider.fail(Fault::Overloaded);
    assert_eq!(ask().await?, Some(CacheReason::Stale));
    Ok(())
}
