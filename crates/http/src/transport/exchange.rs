//! One request and its answer on a connection of the [pool](super::pool).

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, header::HOST};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::TrySendError};
use pin_project::pin_project;
use tokio::time::Instant;

use super::{
    error::TransportError,
    http2::{self, Place, Way},
    pool::{DirectServer, Link, Pool},
};
use crate::protocol::RequestBody;

/// A request under way.
pub(super) type ExchangeFuture = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, TransportError>> + Send>>;

/// Sends a request directly to a server. Resolves with the head of the answer.
pub(super) fn ask(pool: Arc<Pool>, server: Arc<DirectServer>, request: Request<RequestBody>) -> ExchangeFuture {
    match (pool.take(&server), server.http2.is_some()) {
        (Some(link), false) if !link.has_rested => {
            let request = of_http1(&server, request);
            Box::pin(PooledConnection { link, pool, server }.ask(request, false))
        }
        (None, false) => on_new(pool, server.clone(), of_http1(&server, request)),
        (kept, _) => Box::pin(ask_again(pool, server, kept, request)),
    }
}

/// Sends a request on a kept connection, if there is one, and once more on a new one if the kept one was dead.
async fn ask_again(
    pool: Arc<Pool>,
    server: Arc<DirectServer>,
    kept: Option<Box<Link>>,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, TransportError> {
    if let Some(link) = kept {
        let mut idle = IdleLinks { pool: &pool, server: &server, begun: Some(Instant::now()) };
        let kept = PooledConnection { link, pool: pool.clone(), server: server.clone() };
        let answered = kept.ask(of_http1(&server, request.clone()), false).await;
        idle.begun = None;
        match answered {
            // Nothing that was sent on it arrived anywhere.
            Err(error) if error.is_unconfirmed() => pool.forget(&server),
            answered => return answered,
        }
    }
    match http2::any_way(&pool, &server).await? {
        Way::Link(link) => ask_on_new(pool, server, link, request).await,
        // Boxed: a new HTTP/1.1 connection would reserve its room.
        Way::Stream(place) => Box::pin(http2::ask(place, request)).await,
    }
}

/// The idle connections beside one on which a call waits. Where the call is dropped after three seconds without an
/// answer, they may have died with it, each for as long again: the next call gets a new one.
struct IdleLinks<'a> {
    pool: &'a Pool,
    server: &'a DirectServer,
    /// `None`: the call has ended.
    begun: Option<Instant>,
}

impl Drop for IdleLinks<'_> {
    fn drop(&mut self) {
        if self.begun.is_some_and(|begun| begun.elapsed() >= SUSPICIOUS) {
            self.pool.forget(self.server);
        }
    }
}

/// Sends a request on a new connection.
pub(super) async fn ask_on_new(
    pool: Arc<Pool>,
    server: Arc<DirectServer>,
    link: Box<Link>,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, TransportError> {
    let request = of_http1(&server, request);
    PooledConnection { link, pool, server }.ask(request, true).await
}

/// Returns the request as HTTP/1.1 has it: the first line names the path alone.
fn of_http1(server: &DirectServer, mut request: Request<RequestBody>) -> Request<RequestBody> {
    let path = request.uri().path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    *request.uri_mut() = path;
    request.headers_mut().entry(HOST).or_insert_with(|| server.host.clone());
    request
}

/// Sends it on a kept connection, or else on a new one.
fn on_any(pool: Arc<Pool>, server: Arc<DirectServer>, request: Request<RequestBody>) -> ExchangeFuture {
    match pool.take(&server) {
        Some(link) if !link.has_rested => Box::pin(PooledConnection { link, pool, server }.ask(request, false)),
        None if server.http2.is_none() => on_new(pool, server, request),
        kept => Box::pin(ask_again(pool, server.clone(), kept, with_address(&server, request))),
    }
}

/// Sends it on a new connection without TLS.
fn on_new(pool: Arc<Pool>, server: Arc<DirectServer>, request: Request<RequestBody>) -> ExchangeFuture {
    Box::pin(async move {
        let link = pool.connect(&server).await?;
        PooledConnection { link, pool, server }.ask(request, true).await
    })
}

/// Returns the request with its whole address, as HTTP/2 needs it.
fn with_address(server: &DirectServer, mut request: Request<RequestBody>) -> Request<RequestBody> {
    if let Ok(uri) = server.uri() {
        let mut parts = uri.into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    if request.headers().get(HOST) == Some(&server.host) {
        request.headers_mut().remove(HOST);
    }
    request
}

/// A connection, and the pool that it returns to.
struct PooledConnection {
    link: Box<Link>,
    pool: Arc<Pool>,
    server: Arc<DirectServer>,
}

impl PooledConnection {
    fn ask(
        mut self,
        request: Request<RequestBody>,
        is_new: bool,
    ) -> impl Future<Output = Result<Response<ResponseBody>, TransportError>> + Send {
        let answering = self.link.sender.try_send_request(request);
        Exchange { held: Some(self), answering, is_new, is_expected: false, again: None }
    }
}

/// A request on a connection.
// Written by hand: an `async fn` would hold the request three times over.
#[pin_project]
struct Exchange<F> {
    /// The connection, until the head of the answer is here.
    held: Option<PooledConnection>,
    #[pin]
    answering: F,
    is_new: bool,
    /// True if an answer may have come.
    is_expected: bool,
    /// The same request on another connection.
    again: Option<ExchangeFuture>,
}

impl<F> Future for Exchange<F>
where
    F: Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
{
    type Output = Result<Response<ResponseBody>, TransportError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(PooledConnection { link, .. }) = this.held {
            // No answer can come before the request is out.
            let is_expected = mem::replace(this.is_expected, true);
            let answered = ready!(link.poll(is_expected, |cx| this.answering.as_mut().poll(cx), cx));
            let number = link.number;
            let held = this.held.take();
            match answered {
                Ok(response) => {
                    if let Some(PooledConnection { pool, server, .. }) = &held {
                        pool.heard(server);
                    }
                    return Poll::Ready(Ok(response.map(|body| {
                        ResponseBody { body, held, place: None, number: Some(number) }.released_at_end()
                    })));
                }
                // The connection had been closed while it was idle, and no byte of the request was written.
                Err(mut failed) => match (failed.take_message(), held) {
                    (Some(unsent), Some(PooledConnection { pool, server, .. })) if !*this.is_new => {
                        *this.again = Some(on_any(pool, server, unsent));
                    }
                    _ => return Poll::Ready(Err(TransportError::broken(failed.into_error(), number))),
                },
            }
        }
        this.again.as_mut().expect("polled after it was ready").as_mut().poll(cx)
    }
}

impl Link {
    /// Polls something that comes from the connection, and drives the connection meanwhile.
    ///
    /// hyper's two ends of a connection wake each other at each step. Here both are in one task, which is already
    /// running: each wake-up would poll the whole task once more. So both are polled without a waker while there is
    /// something to read, and only the socket wakes the task. `is_expected`: there may be something.
    fn poll<T>(
        &mut self,
        is_expected: bool,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        let nobody = &mut Context::from_waker(Waker::noop());
        if is_expected {
            self.drive_for_nobody();
            if let ready @ Poll::Ready(_) = awaited(nobody) {
                return ready;
            }
        }
        self.drive(cx);
        awaited(nobody)
    }
}

/// The body of an answer.
///
/// Read to its end, it returns its connection for the next request; dropped before, it closes it.
pub struct ResponseBody {
    body: Incoming,
    /// `None`: hyper-util drives the connection, or it has been returned.
    held: Option<PooledConnection>,
    /// The place on an HTTP/2 connection.
    place: Option<Place>,
    /// The number of the connection.
    number: Option<u64>,
}

impl ResponseBody {
    fn released_at_end(mut self) -> Self {
        if self.body.is_end_stream() {
            self.release();
        }
        self
    }

    /// Creates the body of a stream.
    pub(super) fn of_stream(body: Incoming, place: Place) -> Self {
        let number = Some(place.number());
        Self { body, held: None, place: Some(place), number }.released_at_end()
    }

    fn release(&mut self) {
        self.place = None;
        if let Some(PooledConnection { link, pool, server }) = self.held.take() {
            pool.put(&server, link);
        }
    }
}

impl From<Incoming> for ResponseBody {
    /// Creates a body whose connection hyper-util drives.
    fn from(body: Incoming) -> Self {
        Self { body, held: None, place: None, number: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let Self { body, held, place, number } = &mut *self;
        let (mut body, number) = (Pin::new(body), *number);
        let failed = |error| TransportError::body(error, number);
        let Some(PooledConnection { link, .. }) = held else {
            let polled = body.poll_frame(cx).map_err(failed);
            if let Poll::Ready(None | Some(Err(_))) = polled {
                *place = None;
            }
            return polled;
        };
        let mut polled = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() {
            polled = link.poll(true, |cx| body.as_mut().poll_frame(cx), cx);
        }
        if let Poll::Ready(None) = polled {
            self.release();
        }
        polled.map_err(failed)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A reader that sees that the body is whole need not poll again.
        if self.body.is_end_stream() {
            self.release();
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

/// The silence after which a call that is dropped leaves the connections of its server.
const SUSPICIOUS: Duration = Duration::from_secs(3);
