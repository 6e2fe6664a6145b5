//! A program's own HTTP client, from which a call comes.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use steadfast::providers::http::CallerTransport;

/// The client of a program whose call the gateway treats.
pub(crate) struct Client {
    /// The client as the transport of the stack's primary.
    pub(crate) transport: CallerTransport,
    pub(crate) left: LeftToClient,
}

/// The body of a call that the program's client is to make by itself, once the gateway leaves the call to it.
#[derive(Clone, Default)]
pub(crate) struct LeftToClient(Arc<OnceLock<Bytes>>);

impl LeftToClient {
    /// Returns the body, if the gateway has left the call to the client.
    pub(crate) fn body(&self) -> Option<Bytes> {
        self.0.get().cloned()
    }
}

impl Client {
    /// Leaves the call to the client. The response has no meaning.
    pub(crate) fn leave(&self, body: Bytes) -> Response<Body> {
        let _only_once = self.left.0.set(body);
        Response::new(Body::empty())
    }
}
