//! An axum service over a steadfast stack: `POST /ask` answers JSON, `POST /stream` server-sent events. tower-http's
//! layers are outside ([`layers`]): ids, traces, limits, pages of another origin. The stack is inside ([`stack`]).
//!
//! `cargo run` in this folder needs no key. Then:
//! `curl -N 127.0.0.1:3000/stream -H 'content-type: application/json' -d '{"prompt": "Explain closures."}'`

mod layers;
mod reply;
mod stack;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, net::Ipv4Addr};

use axum::{
    Json, Router,
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
    routing::post,
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use steadfast::{BoxLlmService, LlmRequest};
use tower::ServiceExt;

use crate::reply::{Answer, Failure};

#[derive(Deserialize)]
struct Ask {
    prompt: String,
}

/// The service. The stack is boxed only so that the state has a type that can be written down.
fn app(llm: BoxLlmService) -> Router {
    let paths = Router::new().route("/ask", post(ask)).route("/stream", post(stream_answer)).with_state(llm);
    layers::around(paths)
}

/// The whole answer. If the caller hangs up, axum drops the handler, and with it go the call and its place.
async fn ask(State(llm): State<BoxLlmService>, Json(ask): Json<Ask>) -> Result<Json<Answer>, Failure> {
    let response = llm.oneshot(LlmRequest::prompt(ask.prompt).with_feature("chat")).await?;
    let served_by = response.served_by().to_string();
    let degraded = response.degraded().is_some();
    Ok(Json(Answer { served_by, degraded, text: response.text().await? }))
}

/// The answer as it comes. Until its first token every failure has a status of its own, for there is no response yet.
async fn stream_answer(
    State(llm): State<BoxLlmService>,
    Json(ask): Json<Ask>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let response = llm.oneshot(LlmRequest::prompt(ask.prompt).with_feature("chat").with_stream(true)).await?;
    let served_by = Event::default().event("served_by").data(response.served_by().to_string());
    // The body holds the feature's place, and gives it back at its end, or when the caller leaves and axum drops it.
    let frames = response.into_body().flat_map(|frame| stream::iter(reply::events(frame)));
    let events = stream::iter([served_by]).chain(frames).map(Ok);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().init();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 3000)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app(stack::demo())).with_graceful_shutdown(stop).await
}
