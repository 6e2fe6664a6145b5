//! One request and its answer on a connection of the [pool](super::pool).

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, Uri, header::HOST};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    error::TransportError,
    pool::{Known, Link, Pool},
};
use crate::providers::http::RequestBody;

/// Sends a request to a server that is reached straight. Ends when the head of the answer is here.
pub(super) async fn ask(
    pool: Arc<Pool>,
    server: Arc<Known>,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, TransportError> {
    // The first line names the path alone.
    let path = request.uri().path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    let to = mem::replace(request.uri_mut(), path);
    request.headers_mut().entry(HOST).or_insert_with(|| server.host.clone());
    loop {
        let (mut link, is_new) = match pool.take(&server) {
            Some(link) => (link, false),
            None => (pool.connect(to.clone()).await?, true),
        };
        match link.ask(request).await {
            Ok(response) => {
                let held = Some(Held { link, pool, server });
                return Ok(response.map(|body| ResponseBody { body, held }.released_at_end()));
            }
            // It had been closed while nobody used it, and of the request not a byte was written.
            Err(mut failed) => match failed.take_message().filter(|_| !is_new) {
                Some(unsent) => request = unsent,
                None => return Err(TransportError::broken(failed.into_error())),
            },
        }
    }
}

impl Link {
    async fn ask(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut answering = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            drive(connection, cx);
            answering.as_mut().poll(&mut nobody())
        })
        .await
    }
}

/// Reads and writes what can be. A connection that ends tells those who wait for it.
fn drive<C: Future + Unpin>(connection: &mut Option<C>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(cx).is_ready()) {
        *connection = None;
    }
}

/// For what comes from the connection: it is here once the connection has been polled, and whoever did that need not be woken.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// The body of an answer.
///
/// Read to its end it gives its connection back for the next request; dropped before, it closes it.
pub struct ResponseBody {
    body: Incoming,
    /// `None`: others drive the connection, or it has been given back.
    held: Option<Held>,
}

struct Held {
    link: Box<Link>,
    pool: Arc<Pool>,
    server: Arc<Known>,
}

impl ResponseBody {
    fn released_at_end(mut self) -> Self {
        if self.body.is_end_stream() {
            self.release();
        }
        self
    }

    fn release(&mut self) {
        if let Some(Held { link, pool, server }) = self.held.take() {
            pool.put(&server, link);
        }
    }
}

impl From<Incoming> for ResponseBody {
    /// Of a connection that others drive.
    fn from(body: Incoming) -> Self {
        Self { body, held: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, held } = &mut *self;
        let mut body = Pin::new(body);
        let Some(Held { link, .. }) = held else { return body.poll_frame(cx) };
        let mut polled = body.as_mut().poll_frame(&mut nobody());
        if polled.is_pending() {
            drive(&mut link.connection, cx);
            polled = body.poll_frame(&mut nobody());
        }
        if let Poll::Ready(None) = polled {
            self.release();
        }
        polled
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
        // Who knows that it is whole need not ask for more.
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
