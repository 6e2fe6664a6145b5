//! What the examples show is true: each is run as it is. `cargo test` builds them, but runs none.
//!
//! `examples/axum` and `examples/tonic` are packages, with tests of their own.

use tower::BoxError;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/custom_provider.rs"]
mod custom_provider;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/hyper.rs"]
mod hyper_server;

#[tokio::test(start_paused = true)]
async fn custom_provider_survives_its_outage() -> Result<(), BoxError> {
    custom_provider::run().await
}

#[tokio::test]
async fn hyper_server_answers_while_its_provider_is_down() -> Result<(), BoxError> {
    hyper_server::run().await
}
