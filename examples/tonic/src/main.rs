//! A tonic service over a steadfast stack: unary `Ask` and server-streaming `AskStream`, and under `/llm` a gateway
//! over the same stack for clients of OpenAI's and Anthropic's APIs. `cargo run` in this folder needs no key.

mod proto;
mod service;
mod stack;
#[cfg(test)]
mod tests;

use steadfast::BoxLlmService;
use steadfast_gateway::Gateway;
use tonic::{service::Routes, transport::Server};

use crate::{proto::llm_server::LlmServer, service::Service};

/// Both protocols over one stack: they share its circuits, and the places of its features.
fn app(llm: BoxLlmService) -> Routes {
    let grpc = Routes::new(LlmServer::new(Service(llm.clone())));
    grpc.into_axum_router().nest_service("/llm", Gateway::new(llm)).into()
}

#[tokio::main]
async fn main() -> Result<(), tonic::transport::Error> {
    let address = ([127, 0, 0, 1], 50051).into();
    println!("listening on http://{address}");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    // The gateway's clients may speak HTTP/1.
    Server::builder().accept_http1(true).add_routes(app(stack::demo())).serve_with_shutdown(address, stop).await
}
