//! Bodies that come in pieces, on their way to the provider.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tower::BoxError;

use super::{RequestBody, leaf::Settings};
use crate::{
    ErrorKind, LlmError,
    boxed::{Body, boxed_answer},
    wire::{BodyRest, RestPieces},
};

/// Sends a request whose body has a rest.
///
/// # Errors
///
/// Nothing was sent: the leaf takes whole bodies only, or the rest was sent before.
pub(super) fn send<P>(
    settings: &Settings<P>,
    request: Request<RequestBody>,
    rest: &BodyRest,
) -> Result<impl Future<Output = Result<Response<Body>, BoxError>> + Send + use<P>, LlmError> {
    let whole_only = |who: &str| {
        let message = format!("{who} takes whole bodies only, and this one comes in pieces");
        LlmError::new(ErrorKind::UnsupportedFeature, message)
    };
    #[cfg(feature = "clouds")]
    if settings.door.is_some() {
        return Err(whole_only("a tier at a cloud"));
    }
    let client = settings.uploads.as_ref().ok_or_else(|| whole_only("the tier's transport"))?;
    let Some(pieces) = rest.take() else {
        return Err(LlmError::new(ErrorKind::Exhausted, "the body came in pieces and was sent before"));
    };
    let sending = client.stream(request.map(|first| UnsyncBoxBody::new(Upload { first, pieces })));
    let rest = rest.clone();
    Ok(async move {
        match sending.await {
            Ok(response) => Ok(boxed_answer(response)),
            // Of the two errors the caller's is the cause.
            Err(error) => Err(rest.failure().map_or_else(|| error.into(), Into::into)),
        }
    })
}

/// The beginning of a body, and the pieces behind it.
struct Upload {
    first: RequestBody,
    pieces: RestPieces,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.first.is_end_stream() {
            return Pin::new(&mut self.first).poll_frame(cx).map_err(|never| match never {});
        }
        Pin::new(&mut self.pieces).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_end_stream() && self.pieces.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (first, pieces) = (self.first.len() as u64, self.pieces.size_hint());
        let mut both = SizeHint::new();
        both.set_lower(first + pieces.lower());
        if let Some(upper) = pieces.upper() {
            both.set_upper(first + upper);
        }
        both
    }
}
