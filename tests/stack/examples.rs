//! Each example runs as it is, and its assertions hold. `cargo test` builds the examples, but runs none.
//!
//! `examples/axum` and `examples/tonic` are packages of the workspace `crates/adapters`, with tests of their own.

use tower::BoxError;

#[path = "../../examples/budget.rs"]
mod budget;
#[path = "../../examples/bulkhead.rs"]
mod bulkhead;
#[path = "../../examples/cache.rs"]
mod cache;
#[path = "../../examples/circuit_breaker.rs"]
mod circuit_breaker;
#[path = "../../examples/from_a_file.rs"]
mod from_a_file;
#[path = "../../examples/hedge.rs"]
mod hedge;
#[path = "../../examples/http_layers.rs"]
mod http_layers;
#[path = "../../examples/hyper.rs"]
mod hyper_server;
#[path = "../../examples/metrics.rs"]
mod metrics;
#[path = "../../examples/nested_gateway.rs"]
mod nested_gateway;
#[path = "../../examples/ollama.rs"]
mod ollama;
#[path = "../../examples/quickstart.rs"]
mod quickstart;
#[path = "../../examples/streaming.rs"]
mod streaming;
#[path = "../../examples/streaming_provider.rs"]
mod streaming_provider;
#[path = "../../examples/testing_on_paused_time.rs"]
mod testing_on_paused_time;
#[path = "../../examples/your_own_client.rs"]
mod your_own_client;
#[path = "../../examples/your_own_layer.rs"]
mod your_own_layer;

#[test]
fn nested_gateway_answers_from_the_second_tier() -> Result<(), BoxError> {
    nested_gateway::main()
}

#[test]
fn http_layers_trace_each_attempt() -> Result<(), BoxError> {
    http_layers::main()
}

#[test]
fn budget_refuses_at_its_cap() -> Result<(), BoxError> {
    budget::main()
}

#[test]
fn bulkhead_keeps_the_chats_places_from_a_flood() -> Result<(), BoxError> {
    bulkhead::main()
}

#[test]
fn cache_gives_an_old_answer_where_there_is_no_other() -> Result<(), BoxError> {
    cache::main()
}

#[test]
fn circuit_opens_refuses_and_closes() -> Result<(), BoxError> {
    circuit_breaker::main()
}

#[test]
fn stack_from_a_file_follows_a_reload() -> Result<(), BoxError> {
    from_a_file::main()
}

#[test]
fn hedge_removes_the_slowest_answers() -> Result<(), BoxError> {
    hedge::main()
}

#[test]
fn hyper_server_answers_while_its_provider_is_down() -> Result<(), BoxError> {
    hyper_server::main()
}

#[test]
fn metrics_are_on_the_page_of_a_scrape() -> Result<(), BoxError> {
    metrics::main()
}

#[test]
fn openai_compatible_server_is_the_last_resort() -> Result<(), BoxError> {
    ollama::main()
}

#[test]
fn quickstart_survives_its_outage() -> Result<(), BoxError> {
    quickstart::main()
}

#[test]
fn stream_begins_again_at_the_next_tier() -> Result<(), BoxError> {
    streaming::main()
}

#[test]
fn streaming_provider_is_whole_or_an_error() -> Result<(), BoxError> {
    streaming_provider::main()
}

#[test]
fn outage_of_two_hours_takes_no_time() -> Result<(), BoxError> {
    testing_on_paused_time::main()
}

#[test]
fn own_client_is_a_leaf() -> Result<(), BoxError> {
    your_own_client::main()
}

#[test]
fn own_layer_stands_among_ours() -> Result<(), BoxError> {
    your_own_layer::main()
}
