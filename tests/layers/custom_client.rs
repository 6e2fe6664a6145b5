//! A client of the user's own is a leaf by one `impl Service<LlmRequest>`, and five layers carry it through an outage.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    RetryWithJitterLayer, TimeoutLayer, chat::Message, provider_fn,
};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// A client that knows nothing of tower or of this crate.
#[derive(Clone)]
struct Client(Arc<Mutex<Health>>);

#[derive(Clone, Copy)]
enum Health {
    Up,
    FailsOnce,
    Hangs,
}

/// Its own error.
struct Busy;

impl Client {
    async fn complete(&self, prompt: &str) -> Result<String, Busy> {
        let health = *self.0.lock().expect("no holder panics");
        match health {
            Health::Up => Ok(format!("You said: {prompt}")),
            Health::FailsOnce => {
                self.set(Health::Up);
                Err(Busy)
            }
            Health::Hangs => std::future::pending().await,
        }
    }

    fn set(&self, health: Health) {
        *self.0.lock().expect("no holder panics") = health;
    }
}

/// Gives its failures a kind, which decides about retries, the circuit and the fallback.
impl From<Busy> for LlmError {
    fn from(_: Busy) -> Self {
        Self::new(ErrorKind::Overloaded, "the in-house model is busy")
    }
}

impl Service<LlmRequest> for Client {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = BoxFuture<'static, Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        Box::pin(answer(self.clone(), request))
    }
}

async fn answer(client: Client, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let prompt = request.chat()?.messages.last().map(Message::text).unwrap_or_default();
    Ok(LlmResponse::from_text(client.complete(&prompt).await?))
}

#[tokio::test(start_paused = true)]
async fn a_client_of_ones_own_survives_its_outage() -> Result<(), BoxError> {
    let primary = Client(Arc::new(Mutex::new(Health::Up)));
    let other = Client(Arc::new(Mutex::new(Health::Up)));
    // The same without a type of its own: any async function is a leaf.
    let backup = provider_fn(move |request| answer(other.clone(), request));

    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(90)))
        .layer(BulkheadLayer::new().feature("chat", 20))
        .layer(FallbackLayer::new("in-house").tier("backup", backup))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("in-house"))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .service(primary.clone());
    let ask = || async {
        let started = Instant::now();
        let answer = llm.clone().oneshot(LlmRequest::prompt("Explain closures.").with_feature("chat")).await?;
        let (who, waited) = (answer.served_by().to_string(), started.elapsed());
        println!("{who:<21} after {:>4.1} s: {}", waited.as_secs_f64(), answer.text().await?);
        Ok::<_, LlmError>((who, waited.as_secs()))
    };

    assert_eq!(ask().await?.0, "in-house (1 attempt)");
    primary.set(Health::FailsOnce);
    assert_eq!(ask().await?.0, "in-house (2 attempts)", "a hiccup is retried");

    // An outage of the worst kind: no error, no answer. Two calls wait for the attempt's limit; then the circuit is
    // open, and nobody waits.
    primary.set(Health::Hangs);
    for _ in 1..=2 {
        assert_eq!(ask().await?, ("backup (2 attempts)".into(), 30));
    }
    assert_eq!(ask().await?, ("backup (1 attempt)".into(), 0));

    primary.set(Health::Up);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ask().await?.0, "in-house (1 attempt)", "the circuit's probe found it up again");
    Ok(())
}
