//! HTTP/1.1 connections: their number, their time limits, and their shutdown.
//!
//! [`listener`] accepts a connection, [`connection`] reads its requests with hyper, and a [`Handler`] answers them.
//! This module knows nothing of models: the paths implement [`Handler`].

mod connection;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod header_timer;
mod in_task_body;
mod listener;
mod socket;
mod stream_writer;
mod upgrade;
mod write_timeout;

use std::{future::ready, pin::Pin};

use axum::body::Body;
use http::{Request, Response};

pub(crate) use self::{
    connection::STOP_BODY_TIMEOUT,
    listener::{LAST_BYTES, listen, serve},
    stream_writer::DirectStream,
    upgrade::{ByteStream, Upgrade},
};

/// A future of a response.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// Returns a response that is ready.
pub(crate) fn immediate(response: Response<Body>) -> Answering<'static> {
    Box::pin(ready(response))
}

/// Answers the requests of connections.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The state that the requests of one connection share.
    type Connection: Send + Sync;

    /// Returns the state of a new connection.
    fn connection(&self) -> Self::Connection;

    /// Answers a request.
    fn answer<'a>(&self, connection: &'a Self::Connection, request: Request<Body>) -> Answering<'a>;

    /// Adds what every response has, whoever made it.
    fn finish(&self, _: &mut Response<Body>) {}
}
