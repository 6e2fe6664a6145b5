use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::LlmError;

/// The rest of a body that is in no memory whole. It is sent once; clones share it.
///
/// An error of it is the request's: the provider gets a request that breaks off, and no circuit counts the failure.
#[derive(Clone)]
pub struct BodyRest(Arc<Shared>);

type Pieces = Pin<Box<dyn Body<Data = Bytes, Error = LlmError> + Send>>;

struct Shared {
    body: Mutex<Option<Pieces>>,
    length: SizeHint,
    failure: OnceLock<LlmError>,
}

impl BodyRest {
    /// Creates the rest of a body from its pieces.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error = LlmError> + Send + 'static,
    {
        let length = body.size_hint();
        let body: Pieces = Box::pin(body);
        let body = Mutex::new(Some(body));
        Self(Arc::new(Shared { body, length, failure: OnceLock::new() }))
    }

    /// Returns the pieces; `None` if they were taken before.
    #[doc(hidden)]
    pub fn take(&self) -> Option<RestPieces> {
        let body = self.0.body.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(RestPieces { body, shared: self.0.clone() })
    }

    /// Returns the error that the pieces ended with.
    #[doc(hidden)]
    pub fn failure(&self) -> Option<LlmError> {
        let mut failure = self.0.failure.get()?.clone();
        failure.blame_caller();
        Some(failure)
    }

    /// Returns the number of bytes that is known at least.
    pub(super) fn length(&self) -> u64 {
        self.0.length.lower()
    }
}

impl fmt::Debug for BodyRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyRest").field("bytes", &self.0.length).finish_non_exhaustive()
    }
}

/// The pieces of a rest, on their way. What they fail with is remembered.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct RestPieces {
    body: Pieces,
    shared: Arc<Shared>,
}

impl Body for RestPieces {
    type Data = Bytes;
    type Error = LlmError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LlmError>>> {
        let polled = ready!(self.body.as_mut().poll_frame(cx));
        if let Some(Err(error)) = &polled {
            let _only_the_first_counts = self.shared.failure.set(error.clone());
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        Classifier, Dialect, ErrorKind, LlmRequest, OpaqueCall,
        classify::{Class, Count, Failover, Retry},
    };

    /// Pieces that end with an error.
    fn broken() -> impl Body<Data = Bytes, Error = LlmError> {
        let error = LlmError::new(ErrorKind::InvalidRequest, "the body broke off");
        let pieces = [Ok(Frame::data(Bytes::from_static(b"rest"))), Err(error)];
        http_body_util::StreamBody::new(futures_util::stream::iter(pieces))
    }

    fn upload(rest: &BodyRest) -> LlmRequest {
        let kind = HeaderValue::from_static("multipart/form-data; boundary=x");
        let call = OpaqueCall::bytes(Dialect::OpenAi, "/v1/audio/transcriptions", kind, "beginning", None);
        LlmRequest::from(call.for_model("whisper-1").with_rest(rest.clone()))
    }

    #[tokio::test]
    async fn the_pieces_are_there_once_and_their_error_is_the_callers() {
        let rest = BodyRest::new(broken());
        assert_eq!(upload(&rest).context().attempts_left, 1);
        let mut pieces = rest.clone().take().unwrap();
        assert!(rest.take().is_none());
        assert_eq!(pieces.frame().await.unwrap().unwrap().into_data().unwrap(), "rest");
        assert!(rest.failure().is_none());
        assert!(pieces.frame().await.unwrap().is_err());
        let class = Classifier::default().classify(&rest.failure().unwrap());
        assert_eq!(class, Class::new(Retry::No, Failover::No, Count::Neutral));
    }
}
