//! An in-process transport for the leaves' tests: answers from a script, and keeps what it was asked.

use std::{
    convert::Infallible,
    future::Ready,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use tower::{BoxError, Service};

type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;

/// Clones share the script and the record.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    status: StatusCode,
    headers: HeaderMap,
    pieces: Vec<Bytes>,
    broken: bool,
    pace: Option<Duration>,
    asked: Arc<Mutex<Vec<Request<Full<Bytes>>>>>,
}

impl Scripted {
    /// A 200 with this JSON.
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::new(200, "application/json", body)
    }

    /// A 200 with this event stream.
    pub(crate) fn events(body: impl Into<Bytes>) -> Self {
        Self::new(200, "text/event-stream; charset=utf-8", body)
    }

    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().expect("a header"));
        let status = StatusCode::from_u16(status).expect("a status");
        Self { status, headers, pieces: vec![body.into()], broken: false, pace: None, asked: Arc::default() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().expect("a header"));
        self
    }

    /// The body comes in these pieces.
    pub(crate) fn pieces(mut self, pieces: impl IntoIterator<Item = Bytes>) -> Self {
        self.pieces = pieces.into_iter().collect();
        self
    }

    /// The connection breaks after the body.
    pub(crate) fn broken(mut self) -> Self {
        self.broken = true;
        self
    }

    /// The body comes at this pace, over and over, and never ends.
    pub(crate) fn endless(mut self, pace: Duration) -> Self {
        self.pace = Some(pace);
        self
    }

    /// The number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.asked.lock().expect("no test panics with the lock").len()
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let asked = self.asked.lock().expect("no test panics with the lock");
        assert_eq!(asked.len(), 1, "requests");
        asked[0].clone()
    }

    /// Its body.
    pub(crate) fn body(&self) -> Bytes {
        let body = self.request().into_body();
        // A `Full` body is there at once.
        body.collect().now_or_never().expect("it never waits").expect("it cannot fail").to_bytes()
    }

    /// Its body as JSON.
    pub(crate) fn sent(&self) -> Value {
        serde_json::from_slice(&self.body()).expect("a leaf sends JSON")
    }
}

impl Service<Request<Full<Bytes>>> for Scripted {
    type Response = Response<StreamBody<Frames>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        self.asked.lock().expect("no test panics with the lock").push(request);
        let mut frames: Vec<_> = self.pieces.iter().cloned().map(|piece| Ok(Frame::data(piece))).collect();
        if self.broken {
            frames.push(Err("connection reset by peer".into()));
        }
        let frames: Frames = match self.pace {
            None => Box::pin(stream::iter(frames)),
            Some(pace) => {
                let again = self.pieces.clone().into_iter().cycle();
                Box::pin(stream::iter(frames).chain(stream::iter(again).then(move |piece| async move {
                    tokio::time::sleep(pace).await;
                    Ok(Frame::data(piece))
                })))
            }
        };
        let mut response = Response::new(StreamBody::new(frames));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        std::future::ready(Ok(response))
    }
}
