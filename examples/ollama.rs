//! A model of your own as the last resort: any server that speaks OpenAI's protocol, such as Ollama, vLLM or llama.cpp.
//!
//! `OLLAMA_BASE_URL=http://127.0.0.1:11434/v1 cargo run --example ollama` asks yours. Without the variable a simulated
//! server on loopback stands in for it.

use std::env;

use steadfast::{
    FallbackLayer, LlmRequest,
    providers::{OpenAi, Simulated, simulated::Fault},
};
use steadfast_simulator::SimulatedServer;
use tower::{BoxError, ServiceBuilder, ServiceExt};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let server = SimulatedServer::start(Simulated::new("llama3.2").reply("A function that remembers.")).await?;
    let base_url = env::var("OLLAMA_BASE_URL").unwrap_or_else(|_| format!("{}/v1", server.base_url()));

    // The hosted model is down, as far as this example goes.
    let hosted = Simulated::new("hosted");
    hosted.handle().fail(Fault::Unavailable);
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("hosted").tier("ollama", OpenAi::compatible("ollama", &base_url)?.model("llama3.2")))
        .service(hosted);

    let answer = llm.oneshot(LlmRequest::prompt("What is a closure, in one sentence?")).await?;
    println!("served by {}", answer.served_by());
    assert_eq!(answer.served_by().tier, Some("ollama"));
    println!("{}", answer.text().await?);
    Ok(())
}
