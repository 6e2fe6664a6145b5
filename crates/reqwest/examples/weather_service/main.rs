//! A service that asks a model through plain reqwest, before and after the lines that put a stack under its client, in
//! an outage of its provider: `cargo run --example weather_service`. It needs no key.

use steadfast::{
    BoxLlmService, CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer,
    providers::{
        OpenAi,
        simulated::{Fault, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tower::{BoxError, ServiceBuilder};

/// The service as it was.
mod before {
    use reqwest::Client;

    pub(crate) fn client() -> Client {
        Client::new()
    }

    include!("service.rs");
}

/// The same, with three lines changed.
mod after {
    use reqwest_middleware::{ClientBuilder, ClientWithMiddleware as Client};

    pub(crate) fn client(stack: steadfast::BoxLlmService) -> Client {
        ClientBuilder::new(reqwest::Client::new()).with(steadfast_reqwest::middleware(stack)).build()
    }

    include!("service.rs");
}

/// The first tier sends what the service sends; the second is another provider. In earnest:
/// `Stack::from_path("steadfast.yaml")`.
fn stack() -> BoxLlmService {
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::new("gpt").tier("claude", Simulated::new("claude-sonnet-4-5").reply("It rains.")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("gpt"))
        .service(OpenAi::new("").model("gpt-4o"));
    BoxLlmService::new(stack)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = SimulatedServer::start(Simulated::new("gpt-4o").reply("The sun shines.")).await?;
    let url = format!("{}/v1/chat/completions", provider.base_url());
    let (before, after) = (before::client(), after::client(stack()));

    for sunny in [before::forecast(&before, &url, "Rome").await?, after::forecast(&after, &url, "Rome").await?] {
        assert_eq!(sunny, "The sun shines.");
    }

    provider.handle().fail(Fault::ServerError);
    let (mut lost_before, mut lost) = (0, 0);
    for number in 0..2_000 {
        let (old, new) = match number % 2 {
            0 => (before::forecast(&before, &url, "Rome").await, after::forecast(&after, &url, "Rome").await),
            _ => (
                before::spoken_forecast(&before, &url, "Rome").await,
                after::spoken_forecast(&after, &url, "Rome").await,
            ),
        };
        lost_before += usize::from(old.is_err());
        lost += usize::from(new.ok().as_deref() != Some("It rains."));
    }
    println!("before: lost {lost_before} of 2000; after: lost {lost} of 2000");
    assert_eq!((lost_before, lost), (2_000, 0));
    Ok(())
}
