//! Metrics for Prometheus: what the layers report, under the names that the dashboard in `ops/` reads.
//!
//! `cargo run --example metrics` needs no key and no network.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use steadfast::{
    CircuitBreakerLayer, Events, FallbackLayer, LlmRequest, ObserveLayer,
    providers::{Canned, Simulated, simulated::Fault},
};
use steadfast_subscribers::metrics::{METRICS, Metrics};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets)?;
    }
    let recorder = builder.build_recorder();
    let page = recorder.handle();
    let (events, metrics) = (Events::new(), Metrics::with_recorder(recorder).tier("sonnet").tier("canned"));
    let handle = metrics.handle();
    let _subscription = events.follow(metrics);

    let sonnet = Simulated::new("sonnet");
    sonnet.handle().fail(Fault::Overloaded);
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events.clone()))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("In a minute.")).events(events.clone()))
        .layer(CircuitBreakerLayer::new("sonnet").events(events))
        .service(sonnet);
    llm.oneshot(LlmRequest::prompt("hello").with_feature("chat")).await?.text().await?;
    tokio::task::yield_now().await;

    // At each scrape:
    handle.sample();
    let text = page.render();
    let requests: Vec<&str> = text.lines().filter(|line| line.starts_with("steadfast_requests_total{")).collect();
    println!("{}", requests.join("\n"));
    assert!(matches!(requests[..], [line] if line.contains("feature=\"chat\"") && line.ends_with(" 1")));
    Ok(())
}
