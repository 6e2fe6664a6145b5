//! A tonic service over a steadfast stack: unary `Ask` and server-streaming `AskStream`. `cargo run` in this folder
//! needs no key.

mod proto;
mod service;
mod stack;
#[cfg(test)]
mod tests;

use tonic::transport::Server;

use crate::{proto::llm_server::LlmServer, service::Service};

#[tokio::main]
async fn main() -> Result<(), tonic::transport::Error> {
    let address = ([127, 0, 0, 1], 50051).into();
    println!("listening on http://{address}");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Server::builder().add_service(LlmServer::new(Service(stack::demo()))).serve_with_shutdown(address, stop).await
}
