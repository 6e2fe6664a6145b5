//! A flood of background work leaves the chat's places alone.
//!
//! `cargo run --example bulkhead` needs no key and no network; its clock is paused.

use std::time::Duration;

use futures_util::future::join_all;
use steadfast::{BulkheadLayer, ErrorKind, LlmRequest, layers::bulkhead::Limits, providers::Simulated};
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread", start_paused = true)]
pub(crate) async fn main() -> Result<(), BoxError> {
    let bulkhead = BulkheadLayer::new()
        .feature("chat", 2)
        .feature("background", Limits::new(2).queue(3).max_wait(Duration::from_secs(10)));
    let places = bulkhead.handle();
    let llm = ServiceBuilder::new().layer(bulkhead).service(Simulated::new("sonnet").latency(Duration::from_secs(1)));
    let ask = |feature| llm.clone().oneshot(LlmRequest::prompt("hello").with_feature(feature));

    // Two run, three wait for their turn, and five find the queue full.
    let (flood, chat) = tokio::join!(join_all((0..10).map(|_| ask("background"))), ask("chat"));
    let answered = flood.iter().filter(|answer| answer.is_ok()).count();
    let refused = flood.iter().filter(|answer| matches!(answer, Err(error) if error.kind() == ErrorKind::BulkheadFull));
    println!("background: {answered} answered, {} refused; chat: {}", refused.clone().count(), chat?.text().await?);
    assert_eq!((answered, refused.count()), (5, 5));

    // An answer holds its place until its body has ended or is dropped.
    drop(flood);
    assert_eq!((places.in_flight("background"), places.in_flight("chat")), (0, 0));
    Ok(())
}
