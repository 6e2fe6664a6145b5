//! tower-http's layers around a leaf's HTTP client: compressed answers, a header of the house, a trace of each attempt.
//!
//! `cargo run --example http_layers` needs no key: a simulated provider listens on loopback.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Response, StatusCode};
use steadfast::{
    LlmRequest, RetryWithJitterLayer,
    providers::{
        Anthropic,
        simulated::{Fault, Simulated},
        transport::HttpClient,
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_http::{decompression::DecompressionLayer, set_header::SetRequestHeaderLayer, trace::TraceLayer};
use tracing::Span;

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let provider = SimulatedServer::start(Simulated::new("sonnet").reply("It rains.")).await?;
    provider.handle().fail_next(1, &Fault::Overloaded);

    let statuses = Arc::new(Mutex::new(Vec::new()));
    let seen = statuses.clone();
    let trace = TraceLayer::new_for_http().on_response(move |response: &Response<_>, took: Duration, _: &Span| {
        println!("{} after {took:?}", response.status());
        seen.lock().unwrap().push(response.status());
    });
    // For HTTP, around the client.
    let client = ServiceBuilder::new()
        .layer(SetRequestHeaderLayer::overriding(HeaderName::from_static("x-team"), HeaderValue::from_static("search")))
        .layer(trace)
        .layer(DecompressionLayer::new())
        .service(HttpClient::new());
    // For requests to a model, around the leaf.
    let llm = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().max_delay(Duration::from_millis(1)))
        .service(Anthropic::new("key").base_url(&provider.base_url())?.model("claude-sonnet-4-5").transport(client));

    let answer = llm.oneshot(LlmRequest::prompt("How is the weather?")).await?;
    assert_eq!(answer.text().await?, "It rains.");
    // The trace has each attempt, of which the caller sees one.
    assert_eq!(statuses.lock().unwrap().as_slice(), [StatusCode::from_u16(529)?, StatusCode::OK]);
    Ok(())
}
