//! Any transport as one type.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

#[cfg(feature = "codings")]
use {
    crate::internal::codings::{self, Coding, OpenError},
    futures_util::StreamExt,
    http_body::Frame,
    http_body_util::StreamBody,
};

#[cfg(feature = "codings")]
use crate::{ErrorKind, LlmError};
use crate::{failure::of_broken_body, protocol::RequestBody};

/// The body of any transport's answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Any transport of a leaf, as one type.
pub type Transport = BoxCloneSyncService<Request<RequestBody>, Response<Body>, BoxError>;

/// The answer of a transport, on its way.
pub(crate) type Sending = <Transport as Service<Request<RequestBody>>>::Future;

/// Boxes a transport, so that its type has a name.
pub fn boxed<S, R, B>(transport: S) -> Transport
where
    S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: From<RequestBody> + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let transport = transport
        .map_request(|request: Request<RequestBody>| request.map(R::from))
        .map_response(boxed_answer::<B>)
        .map_err(Into::into);
    BoxCloneSyncService::new(transport)
}

/// Boxes an answer's body, and opens it if it is in a content coding: some servers send one though none was asked for.
pub(crate) fn boxed_answer<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    #[cfg(feature = "codings")]
    {
        let (mut head, body) = response.into_parts();
        let body = match codings::take(&mut head.headers) {
            Ok(codings) if !codings.is_empty() => opened(body, &codings),
            // The leaf names it.
            Ok(_) | Err(_) => boxed_body(body),
        };
        Response::from_parts(head, body)
    }
    #[cfg(not(feature = "codings"))]
    response.map(boxed_body)
}

/// Opens a body in these codings. Whoever reads it limits its length.
#[cfg(feature = "codings")]
pub(crate) fn opened<B>(body: B, codings: &[Coding]) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let pieces = codings::open_answer(boxed_body(body).into_data_stream(), codings);
    UnsyncBoxBody::new(StreamBody::new(pieces.map(|piece| match piece {
        Ok(piece) => Ok(Frame::data(piece)),
        Err(OpenError::Body(error)) => Err(error),
        Err(error) => Err(LlmError::new(ErrorKind::Malformed, error.to_string()).with_source(error).into()),
    })))
}

/// Boxes a body, so that its errors tell of its connection.
pub(crate) fn boxed_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    UnsyncBoxBody::new(body.map_err(|error| of_broken_body(error.into())))
}
