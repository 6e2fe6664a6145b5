//! Panics as failures of one request.
//!
//! A panic in a layer, a leaf, a translation or the gateway's own code ends the request that met it, with a 500 in the
//! caller's dialect or, behind the head of a stream, with the dialect's error event. The connection and all other
//! requests go on. The unwinding drops the call, and with it the permits and the provider's connection.
//!
//! A panic's message may repeat a prompt: slicing a text within a character does. So the caller gets none of it, and
//! the log gets it only if it is a literal of the program.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use axum::body::Body;
use futures_util::FutureExt;
use http::Response;
use steadfast::{ErrorKind, LlmError};

/// A caught panic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panic {
    /// Its message, if the program contains it word by word.
    literal: Option<&'static str>,
}

impl Panic {
    /// Creates one from what unwound.
    pub(crate) fn new(payload: &(dyn Any + Send)) -> Self {
        Self { literal: payload.downcast_ref().copied() }
    }

    /// Returns the error that the caller gets.
    pub(crate) fn error() -> LlmError {
        LlmError::new(ErrorKind::Other, "the gateway panicked; its log has a line about this request")
    }

    /// Logs the panic.
    pub(crate) fn log(self, request: Option<&str>) {
        tracing::error!(request, panic = self.literal, "request panicked");
    }
}

/// Runs code and catches its panic.
///
/// The caller must not use again what the code may have left half-changed, or replace it first.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panic::new(&*payload))
}

/// Returns a future that responds to a panic of another one.
pub(crate) fn respond<F>(
    answering: F,
    to_panic: impl FnOnce(Panic) -> Response<Body>,
) -> impl Future<Output = Response<Body>>
where
    F: Future<Output = Response<Body>>,
{
    AssertUnwindSafe(answering)
        .catch_unwind()
        .map(|answered| answered.unwrap_or_else(|payload| to_panic(Panic::new(&*payload))))
}
