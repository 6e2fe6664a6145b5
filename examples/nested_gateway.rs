//! A gateway inside an axum service: clients of OpenAI's and Anthropic's APIs find the stack under `/llm`.
//!
//! `cargo run --example nested_gateway` needs no socket: a test of the service calls the router itself.

use axum::{Router, body::Body, routing::get};
use http::{Request, header};
use http_body_util::BodyExt;
use steadfast_gateway::Gateway;
use steadfast_stack::{Config, Format, Stack};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_http::{
    compression::CompressionLayer, sensitive_headers::SetSensitiveRequestHeadersLayer, trace::TraceLayer,
};

/// The service as it was, and one line more. Its layers are around the gateway too.
fn app(stack: &Stack) -> Router {
    let layers = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION]))
        .layer(TraceLayer::new_for_http())
        // It leaves streams of events alone.
        .layer(CompressionLayer::new());
    Router::new().route("/hello", get(async || "hello")).nest_service("/llm", Gateway::from(stack)).layer(layers)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    // In earnest: `Stack::from_path("steadfast.yaml")?`.
    let file = "
tiers:
  - { name: sonnet, provider: simulated, simulated: { reply: The sun shines. } }
  - { name: gpt, provider: simulated, simulated: { reply: It rains. } }
";
    let stack = Stack::from_config(Config::from_str(file, Format::Yaml)?)?;
    stack.handle().circuits()["sonnet"].force_open();

    let body = r#"{"model": "sonnet", "messages": [{"role": "user", "content": "How is the weather?"}]}"#;
    let request = Request::post("/llm/v1/chat/completions").body(Body::from(body))?;
    let response = app(&stack).oneshot(request).await?;

    assert_eq!(response.headers()["x-steadfast-tier"], "gpt");
    let answer = response.into_body().collect().await?.to_bytes();
    println!("{}", String::from_utf8_lossy(&answer));
    assert!(answer.windows(9).any(|window| window == b"It rains."));
    Ok(())
}
