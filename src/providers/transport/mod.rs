//! The HTTP client under the leaves: [`HttpClient`].
//!
//! A leaf sends its requests through a `tower::Service<http::Request<RequestBody>>`. You may wrap it with tower-http's
//! layers, or replace it by another client, or by an in-process function in tests. This module is the default: hyper
//! with rustls, HTTP/1.1 and HTTP/2, and a pool of connections. A [`RequestBody`] is made from any bytes or text.
//!
//! [`RequestBody`]: crate::providers::http::RequestBody
//!
//! # Design
//!
//! The request on it drives a connection to an `http://` server (`pool.rs`, `exchange.rs`). A task of its own would
//! cost each request two changes of task, a channel and a task that waits for the connection's return. hyper speaks the
//! protocol. The pool checks an idle connection when it takes it and every five seconds; a request that met a closed
//! one goes out on another, as long as nothing of it was written. HTTPS and proxies keep hyper-util's client: they may
//! come to speak HTTP/2, where a connection serves many requests and needs a task.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::providers::transport::HttpClient;
//!
//! let client = HttpClient::new().connect_timeout(Duration::from_secs(3));
//! # drop(client);
//! ```

mod client;
mod connect;
mod error;
mod exchange;
mod maybe_tls;
mod pool;
#[cfg(test)]
mod tests;
mod tls;

pub use self::{
    client::{HttpClient, ResponseFuture},
    error::{InvalidTransport, TransportError},
    exchange::ResponseBody,
};

/// Returns the same trust for another protocol than HTTP.
pub fn tls_config() -> rustls::ClientConfig {
    rustls::ClientConfig::clone(&tls::from_system().proxy)
}
