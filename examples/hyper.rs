//! A hyper 1 server that answers `POST /ask` with a model, and goes on answering while its provider is down.
//!
//! `cargo run --example hyper` needs no key: it asks itself over loopback, checks the answers and exits.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::RETRY_AFTER,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, FallbackLayer, LlmRequest, RetryWithJitterLayer, TimeoutLayer,
    providers::{
        Canned,
        simulated::{Fault, Simulated},
    },
};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, ServiceExt};

fn stack(sonnet: Simulated) -> BoxLlmService {
    BoxLlmService::new(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(90)))
            .layer(BulkheadLayer::new().feature("chat", 20))
            .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("Please try again in a minute.")))
            .layer(RetryWithJitterLayer::new())
            .layer(CircuitBreakerLayer::new("sonnet"))
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .service(sonnet),
    )
}

/// Answers one HTTP request: its body is the prompt, and `x-served-by` names the tier. An `Err` closes the connection.
async fn handle(llm: BoxLlmService, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BoxError> {
    if (request.method(), request.uri().path()) != (&Method::POST, "/ask") {
        return Ok(Response::builder().status(StatusCode::NOT_FOUND).body("POST /ask".into())?);
    }
    let prompt = Limited::new(request, 64 * 1024).collect().await?.to_bytes();
    let request = LlmRequest::prompt(String::from_utf8_lossy(&prompt)).with_feature("chat");
    match llm.oneshot(request).await {
        Ok(answer) => {
            let tier = answer.served_by().tier.unwrap_or_default();
            Ok(Response::builder().header("x-served-by", tier).body(answer.text().await?.into())?)
        }
        Err(error) => {
            let wait = error.retry_after().map_or(1, |wait| wait.as_secs().saturating_add(1));
            let response = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).header(RETRY_AFTER, wait);
            Ok(response.body(error.kind().name().into())?)
        }
    }
}

async fn serve(listener: TcpListener, llm: BoxLlmService) -> std::io::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        // A clone is cheap and shares the circuit, the bulkhead and the rest with all others.
        let llm = llm.clone();
        let service = service_fn(move |request| handle(llm.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    // In earnest: `Anthropic::from_env()?.model("claude-sonnet-4-5")`.
    let sonnet = Simulated::new("sonnet").reply("A function that remembers.");
    let provider = sonnet.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri: Uri = format!("http://{}/ask", listener.local_addr()?).parse()?;
    tokio::spawn(serve(listener, stack(sonnet)));

    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let ask = || async {
        let response = client.request(Request::post(&uri).body(Full::from("Explain closures."))?).await?;
        assert_eq!(response.status(), StatusCode::OK);
        let tier = response.headers()["x-served-by"].to_str()?.to_owned();
        let text = String::from_utf8(response.collect().await?.to_bytes().into())?;
        println!("{tier}: {text}");
        Ok::<_, BoxError>((tier, text))
    };
    assert_eq!(ask().await?, ("sonnet".into(), "A function that remembers.".into()));
    provider.fail(Fault::RateLimited { retry_after: Some(Duration::from_secs(60)) });
    assert_eq!(ask().await?, ("canned".into(), "Please try again in a minute.".into()));
    Ok(())
}
