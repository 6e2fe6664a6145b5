//! Recorded requests of Gemini's protocol to the gateway itself: its provider gets their bytes under its own model, and
//! the caller the provider's answer, as events or as the elements of an array.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{Dialect, providers::Gemini};
use steadfast_gateway::Gateway;
use tower::{ServiceExt, service_fn};

use crate::recorded_calls::recordings::{Exchange, Recordings, folders};

const MODEL: &str = "model-of-the-tier";

/// The body that the provider got, with its path, and the caller's answer.
async fn exchanged(exchange: &Exchange, body: Bytes, method: &str) -> (Option<(String, Bytes)>, u16, Bytes) {
    let sent: Arc<Mutex<Option<(String, Bytes)>>> = Arc::default();
    let (noted, answer) = (sent.clone(), (exchange.status, exchange.headers.clone(), exchange.body.clone()));
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let (noted, (status, headers, body)) = (noted.clone(), answer.clone());
        async move {
            let (head, sent) = request.into_parts();
            let body_sent = sent.collect().await?.to_bytes();
            *noted.lock().unwrap() = Some((head.uri.path().to_owned(), body_sent));
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = status;
            if let Some(kind) = headers.get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            Ok::<_, Infallible>(response)
        }
    });
    let gateway = Gateway::new(Gemini::new("unused").model(MODEL).transport(transport));
    // The same name, or the conversation would be another model's.
    let url = format!("/v1beta/models/{MODEL}:{method}");
    let response = gateway.oneshot(Request::post(url).body(Full::new(body)).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let received = response.into_body().collect().await.unwrap().to_bytes();
    let sent = sent.lock().unwrap().take();
    (sent, status, received)
}

/// The data of a stream's events.
fn elements(stream: &Bytes) -> Vec<Value> {
    let stream = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let events = stream.split("\n\n");
    let data = events.map(|event| event.lines().filter_map(|line| line.strip_prefix("data:")).collect::<String>());
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(&data).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn recorded_requests_of_gemini_pass_through_the_gateway() {
    let (mut exchanges, mut identical, mut arrays, mut errors) = (0, 0, 0, 0);
    for folder in folders() {
        let read = Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}")).exchanges;
        for exchange in read.into_iter().filter(|exchange| exchange.dialect == Dialect::Gemini) {
            let Some(body) = exchange.request.body.clone().filter(|_| exchange.wire().is_some()) else { continue };
            if exchange.stream && !exchange.is_sse {
                continue;
            }
            exchanges += 1;
            let method = if exchange.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let (sent, status, received) = exchanged(&exchange, body.clone(), method).await;
            let (path, bytes) = sent.unwrap_or_else(|| panic!("{}: nothing was sent", exchange.id));
            assert_eq!(path, format!("/v1beta/models/{MODEL}:{}", method.trim_end_matches("?alt=sse")));
            assert_eq!(bytes, body, "{}", exchange.id);
            if (status, &received) == (exchange.status.as_u16(), &exchange.body) {
                identical += 1;
            } else {
                // An error, or an answer without content, under status 200; a page in place of an error.
                let text = String::from_utf8_lossy(&received);
                assert!(text.contains("\"error\""), "{}: {status} {text:.200}", exchange.id);
                errors += 1;
                continue;
            }
            if exchange.stream && status == 200 {
                let (_, status, received) = exchanged(&exchange, body, "streamGenerateContent").await;
                let array: Vec<Value> =
                    serde_json::from_slice(&received).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
                assert_eq!((status, array), (200, elements(&exchange.body)), "{}", exchange.id);
                arrays += 1;
            }
        }
    }
    println!(
        "through the gateway: {exchanges} exchanges, {identical} byte-identical, {arrays} as arrays, {errors} errors"
    );
    assert!(
        folders().is_empty() || (exchanges > 50 && arrays > 10 && errors * 20 < exchanges),
        "{exchanges}, {errors}"
    );
}
