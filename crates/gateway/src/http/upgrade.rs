//! Connections that leave HTTP with a 101.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::lock::lock;

/// The bytes of a connection that has left HTTP.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// The use of the connection from then on, with the bytes that have arrived already.
pub(crate) type AfterHttp =
    Box<dyn FnOnce(Box<dyn ByteStream>, Bytes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Marks a response after which its connection leaves HTTP.
#[derive(Clone)]
pub(crate) struct Upgrade(Arc<Mutex<Option<AfterHttp>>>);

impl Upgrade {
    /// Creates the mark of a connection that goes on so.
    pub(crate) fn new<F>(after: impl FnOnce(Box<dyn ByteStream>, Bytes) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(Mutex::new(Some(Box::new(move |stream, ahead| Box::pin(after(stream, ahead)))))))
    }

    /// Takes the mark off a response, with what goes on then.
    pub(crate) fn take(response: &mut Response<Body>) -> Option<AfterHttp> {
        let mark = response.extensions_mut().remove::<Self>()?;
        lock(&mark.0).take()
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}
