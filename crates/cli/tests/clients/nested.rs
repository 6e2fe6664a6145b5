//! A gateway nested in an axum and in a hyper server, with places for each feature: no socket, and paused time. The
//! tonic server is `examples/tonic`.

use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{client::conn::http1, server::conn::http1::Builder};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::json;
use steadfast::{BulkheadHandle, BulkheadLayer, FallbackLayer, TimeoutLayer, providers::Simulated};
use steadfast_gateway::Gateway;
use tokio::io::duplex;
use tower::{BoxError, ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

/// A gateway to a slow model, with two places for `chat` and one for `report`.
fn gateway() -> (Gateway, BulkheadHandle) {
    let bulkhead = BulkheadLayer::new().feature("chat", 2).feature("report", 1);
    let places = bulkhead.handle();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(60 * SECOND))
        .layer(bulkhead)
        .layer(FallbackLayer::new("sonnet").tier("gpt", Simulated::new("gpt-4o")))
        .service(Simulated::new("sonnet").reply("It rains.").latency(SECOND));
    (Gateway::new(stack), places)
}

fn ask(path: &str, feature: &str) -> Request<Full<Bytes>> {
    let body = json!({"model": "sonnet", "messages": [{"role": "user", "content": "How is the weather?"}]});
    let request = Request::post(path).header("host", "service.test").header("x-steadfast-feature", feature);
    request.body(Full::from(body.to_string())).unwrap()
}

/// Sends three calls of `chat` and one of `report` at once. Two of `chat` are answered, and the third is refused at
/// once; `report` does not notice.
async fn features_keep_their_places<B, F>(send: impl Fn(Request<Full<Bytes>>) -> F, path: &str, places: &BulkheadHandle)
where
    B: http_body::Body<Error: Into<BoxError>>,
    F: Future<Output = Response<B>>,
{
    let status = |feature: &'static str| {
        let sent = send(ask(path, feature));
        async move {
            let response = sent.await;
            let status = response.status();
            response.into_body().collect().await.map_err(Into::into).expect("the body comes to its end");
            status
        }
    };
    let busy = async {
        tokio::time::sleep(SECOND / 2).await;
        [places.in_flight("chat"), places.in_flight("report")]
    };
    let (one, two, report, (), refused, busy) = tokio::join!(
        status("chat"),
        status("chat"),
        status("report"),
        tokio::task::yield_now(),
        async {
            tokio::time::sleep(SECOND / 4).await;
            status("chat").await
        },
        busy
    );
    assert_eq!([one, two, report], [StatusCode::OK; 3]);
    assert_eq!((refused, busy), (StatusCode::SERVICE_UNAVAILABLE, [2, 1]));
    assert_eq!([places.in_flight("chat"), places.in_flight("report")], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_axum_server_with_a_gateway_keeps_places_for_each_feature() {
    let (gateway, places) = gateway();
    let app = Router::new().nest_service("/llm", gateway);
    let send = |request: Request<Full<Bytes>>| {
        let app = app.clone();
        async move { app.oneshot(request.map(axum::body::Body::new)).await.unwrap() }
    };
    features_keep_their_places(send, "/llm/v1/chat/completions", &places).await;
}

#[tokio::test(start_paused = true)]
async fn a_hyper_server_with_a_gateway_keeps_places_for_each_feature() {
    let (gateway, places) = gateway();
    let send = |request: Request<Full<Bytes>>| {
        let gateway = gateway.clone();
        async move {
            let (near, far) = duplex(64 * 1024);
            let service = TowerToHyperService::new(gateway);
            tokio::spawn(Builder::new().serve_connection(TokioIo::new(far), service));
            let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    };
    features_keep_their_places(send, "/v1/chat/completions", &places).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_a_hyper_server_who_hangs_up_frees_its_place() {
    let (gateway, places) = gateway();
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(Builder::new().serve_connection(TokioIo::new(far), TowerToHyperService::new(gateway)));
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let asking = tokio::spawn(async move { sender.send_request(ask("/v1/chat/completions", "chat")).await.map(drop) });
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(places.in_flight("chat"), 1);
    asking.abort();
    connection.abort();
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!(places.in_flight("chat"), 0);
}
