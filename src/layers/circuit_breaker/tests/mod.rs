//! Tests of the layer over the strict leaf, in paused time. `machine` tests the state machine alone, `traps` the
//! lessons of other libraries.

mod callers;
mod confirmed;
mod doubts;
mod layer;
mod machine;
mod reports;
mod streams;
mod traps;

use std::time::Duration;

use futures_util::future::join_all;
use tower::{Layer as _, Service as _};

use super::{CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer};
use crate::{Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, Wire, layers::testing::Strict};

const SECOND: Duration = Duration::from_secs(1);
const COOLDOWN: Duration = Duration::from_secs(60);

fn layer() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new("sonnet").cooldown(COOLDOWN)
}

/// A chat with a text of its own, which a circuit can tell from others.
fn question(n: usize) -> LlmRequest {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"question {n}"}}]}}"#);
    LlmRequest::from(Wire::new(Dialect::OpenAi, body).expect("a request"))
}

/// A breaker over the strict leaf, its handle, and the leaf's script.
struct Bench {
    service: CircuitBreaker<Strict>,
    handle: CircuitBreakerHandle,
    leaf: Strict,
}

impl Bench {
    fn new(layer: CircuitBreakerLayer, leaf: Strict) -> Self {
        Self { service: layer.layer(leaf.clone()), handle: layer.handle(), leaf }
    }

    /// Returns a bench whose circuit a failure of the leaf opened. The leaf's further calls end like this.
    async fn opened(layer: CircuitBreakerLayer, leaf: Strict) -> Self {
        let leaf = leaf.script([Err(server())]);
        let mut bench = Self::new(layer.consecutive_failures(1), leaf);
        bench.fails(ErrorKind::Server).await;
        bench
    }

    async fn call(&mut self) -> Result<LlmResponse, LlmError> {
        call(&mut self.service).await
    }

    async fn fails(&mut self, kind: ErrorKind) -> LlmError {
        let error = self.call().await.expect_err("a failure");
        assert_eq!(error.kind(), kind);
        error
    }

    async fn answers(&mut self) {
        self.call().await.expect("an answer");
    }
}

async fn call(service: &mut CircuitBreaker<Strict>) -> Result<LlmResponse, LlmError> {
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(LlmRequest::prompt("hello")).await
}

/// Makes so many calls at once; returns how many the circuit did not reject.
async fn crowd(service: &CircuitBreaker<Strict>, callers: usize) -> usize {
    let calls = (0..callers).map(|_| {
        let mut service = service.clone();
        async move { call(&mut service).await }
    });
    let results = join_all(calls).await;
    results.iter().filter(|result| !matches!(result, Err(error) if error.kind() == ErrorKind::CircuitOpen)).count()
}

fn server() -> LlmError {
    LlmError::new(ErrorKind::Server, "down")
}

fn error(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "")
}
