//! A client of your own becomes a leaf by one `impl Service<LlmRequest>`: it gives each failure a kind, and the layers
//! know what to do.
//!
//! `cargo run --example your_own_client` needs no key and no network; its clock is paused. `provider_fn` makes a leaf
//! of an async function, without a type of its own.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use steadfast::{
    CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer,
    chat::Message, providers::Canned,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// The client that you have. This one is busy the first time.
#[derive(Clone, Debug)]
struct Client;

static CALLS: AtomicUsize = AtomicUsize::new(0);

async fn complete(_: Client, prompt: &str) -> Result<String, &'static str> {
    if CALLS.fetch_add(1, Relaxed) == 0 { Err("busy") } else { Ok(format!("You said: {prompt}")) }
}

impl Service<LlmRequest> for Client {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = BoxFuture<'static, Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let client = self.clone();
        Box::pin(async move {
            let prompt = request.chat()?.messages.last().map(Message::text).unwrap_or_default();
            let answer = complete(client, &prompt).await.map_err(|busy| LlmError::new(ErrorKind::Overloaded, busy))?;
            Ok(LlmResponse::from_text(answer))
        })
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("in-house").tier("canned", Canned::text("Please try again in a minute.")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("in-house"))
        .service(Client);
    let answer = llm.oneshot(LlmRequest::prompt("hello")).await?;
    println!("served by {}", answer.served_by());
    assert_eq!(answer.served_by().to_string(), "in-house (2 attempts)");
    println!("{}", answer.text().await?);
    Ok(())
}
