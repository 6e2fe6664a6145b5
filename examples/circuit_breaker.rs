//! A circuit that opens, refuses, probes and closes: its handle and its events.
//!
//! `cargo run --example circuit_breaker` needs no key and no network; its clock is paused.

use std::time::Duration;

use steadfast::{
    CircuitBreakerLayer, ErrorKind, Event, Events, LlmRequest,
    events::CircuitState,
    providers::{Simulated, simulated::Fault},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    let events = Events::new();
    let mut changes = events.subscribe();
    let breaker = CircuitBreakerLayer::new("sonnet").consecutive_failures(3).events(events);
    let (circuit, sonnet) = (breaker.handle(), Simulated::new("sonnet"));
    let provider = sonnet.handle();
    let llm = ServiceBuilder::new().layer(breaker).service(sonnet);
    let ask = || llm.clone().oneshot(LlmRequest::prompt("hello"));

    provider.fail(Fault::ServerError);
    for _ in 0..3 {
        assert_eq!(ask().await.unwrap_err().kind(), ErrorKind::Server);
    }
    // The circuit is open: the provider is not called, and the error says when to come back.
    let refused = ask().await.unwrap_err();
    println!("{refused}");
    assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::CircuitOpen, Some(Duration::from_secs(1))));
    assert_eq!((circuit.state(), provider.stats().calls), (CircuitState::Open, 3));

    provider.heal();
    tokio::time::sleep(Duration::from_secs(1)).await;
    ask().await?;
    assert_eq!(circuit.state(), CircuitState::Closed);
    while let Ok(Event::CircuitChanged { from, to, reason, .. }) = changes.try_recv() {
        println!("{from} -> {to} ({reason})");
    }
    Ok(())
}
