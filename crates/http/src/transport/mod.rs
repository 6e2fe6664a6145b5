//! The HTTP client under the leaves: [`HttpClient`].
//!
//! A leaf sends its requests through a `tower::Service<http::Request<RequestBody>>`. You may wrap it with tower-http's
//! layers, or replace it by another client, or by an in-process function in tests. This module is the default: hyper
//! with rustls, HTTP/1.1 and HTTP/2, and a pool of connections. A [`RequestBody`] is made from any bytes or text.
//!
//! [`RequestBody`]: crate::http::RequestBody
//!
//! # Design
//!
//! The request on it drives an HTTP/1.1 connection (`pool.rs`, `exchange.rs`). A task of its own would cost each
//! request two changes of task, a channel and a task that waits for the connection's return. hyper speaks the
//! protocol. The pool checks an idle connection when it takes it and every second; a request that met a closed
//! one goes out on another, as long as nothing of it was written. On one that was idle for a second and more, the
//! system confirms within 1.5 seconds that what was sent has arrived (on Linux), or the request goes out on a new one.
//! Connections that were idle while the machine was asleep are left (`rest.rs`).
//!
//! An HTTP/2 connection has a task (`http2.rs`). A server gets as many connections as its calls need: each carries
//! what the server allows, 100 calls at most. A call that the server did not process (REFUSED_STREAM, or above
//! GOAWAY's last stream) goes out again at once, three times at most. An unread answer holds 1 MiB at most, 100 MiB a
//! connection, and stops no other: the window of a connection is larger than those of all its streams.
//!
//! A connection with calls on it that says nothing for a second is asked if it lives (`http2/question.rs`), and ends
//! after 19 more without an answer. After one such second its calls make a new connection, and go out once more there
//! if the old one is still silent by then. Where no connection can be made, they wait for the old one.
//!
//! Several hosts that cannot be reached within a second, with a word from none, are this machine's network
//! (`reach.rs`).
//!
//! `http://` through a proxy, and bodies in pieces, use hyper-util's client.
//!
//! # Compressed answers
//!
//! A leaf sends no `Accept-Encoding`, and reads plain answers only: the transport decides. [`HttpClient`] decompresses
//! nothing and asks for `identity`. tower-http's `DecompressionLayer` around it asks for what it knows, and
//! decompresses the answers. [`Limits`](crate::http::Limits) count the decompressed bytes.
//!
//! It pays for large, whole answers over a slow or metered line, such as many embeddings. It does not pay for streams:
//! a token is smaller than what a flush adds to it. The layer delays no event that the provider has flushed. The leaves
//! of a configuration file ask for plain answers. Most of their calls are streams, and a model takes seconds to write
//! the few kilobytes of a whole answer, so no caller waits for their transfer.
//!
//! # tower-http's layers
//!
//! Each fits around the client, in an order that keeps secrets out of a trace: marks on the request's headers outside
//! of it, marks on the response's inside. The leaf marks its key itself. These layers are for HTTP; around a leaf, and
//! between this crate's layers, the request is an [`LlmRequest`](crate::LlmRequest), which takes tower's own.
//!
//! ```
//! use std::time::Duration;
//! use http::{HeaderName, HeaderValue, header::SET_COOKIE};
//! use steadfast::providers::{Anthropic, transport::HttpClient};
//! use tower::ServiceBuilder;
//! use tower_http::{
//!     decompression::DecompressionLayer,
//!     sensitive_headers::{SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer},
//!     set_header::SetRequestHeaderLayer,
//!     trace::TraceLayer,
//! };
//!
//! let team = HeaderName::from_static("x-team");
//! let client = ServiceBuilder::new()
//!     .layer(SetRequestHeaderLayer::overriding(team.clone(), HeaderValue::from_static("search")))
//!     .layer(SetSensitiveRequestHeadersLayer::new([team]))
//!     .layer(TraceLayer::new_for_http())
//!     .layer(SetSensitiveResponseHeadersLayer::new([SET_COOKIE]))
//!     .layer(DecompressionLayer::new())
//!     .service(HttpClient::new().connect_timeout(Duration::from_secs(3)));
//! let leaf = Anthropic::new("key").model("claude-sonnet-4-5").transport(client);
//! # drop(leaf);
//! ```

mod addresses;
mod client;
mod connect;
mod error;
mod exchange;
mod http2;
mod maybe_tls;
mod names;
mod pool;
mod reach;
mod rest;
#[cfg(test)]
mod tests;
mod tls;

pub use self::{
    addresses::Addresses,
    client::{HostConnections, HttpClient, ResponseFuture, StreamedBody},
    error::{InvalidTransport, TransportError},
    exchange::ResponseBody,
};

/// Returns the same trust for another protocol than HTTP.
pub fn tls_config() -> rustls::ClientConfig {
    rustls::ClientConfig::clone(&tls::from_system().proxy)
}
