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

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/own_http_client.rs"]
mod own_http_client;

#[allow(dead_code, reason = "its `main` is not called here")]
#[path = "../examples/streaming_provider.rs"]
mod streaming_provider;

#[tokio::test(start_paused = true)]
async fn custom_provider_survives_its_outage() -> Result<(), BoxError> {
    custom_provider::run().await
}

#[tokio::test]
async fn hyper_server_answers_while_its_provider_is_down() -> Result<(), BoxError> {
    hyper_server::run().await
}

#[tokio::test]
async fn own_http_client_carries_the_crates_leaf() -> Result<(), BoxError> {
    own_http_client::run().await
}

#[tokio::test]
async fn streaming_provider_is_whole_or_an_error() -> Result<(), BoxError> {
    streaming_provider::run().await
}
