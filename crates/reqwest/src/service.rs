//! A `reqwest::Client` as a tower service of HTTP requests.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::{Body, Client, Request, Response, Url};
use steadfast::{ErrorKind, LlmError, providers::http::RequestBody};
use tower::Service;

use crate::llm_error;

/// Returns a client as a [`Service`] of `http::Request`s, for a stack of tower layers of your own.
///
/// The client keeps its proxy, certificates, pool, redirects and retries. For a leaf of steadfast's use [`transport`].
///
/// ```
/// use http::{Request, Response};
/// use steadfast_reqwest::{ResponseBody, ReqwestService};
/// use tower::{ServiceBuilder, ServiceExt, limit::ConcurrencyLimit};
///
/// let client = steadfast_reqwest::service(reqwest::Client::new());
/// let client = ServiceBuilder::new().concurrency_limit(20).service(client);
/// # let _: ConcurrencyLimit<ReqwestService> = client;
/// ```
pub fn service(client: Client) -> ReqwestService {
    ReqwestService { client }
}

/// Returns a client as the transport of a leaf, for
/// [`HttpLeaf::transport`](steadfast::providers::http::HttpLeaf::transport).
///
/// Build the client
///
/// - with [`redirect::Policy::none()`](reqwest::redirect::Policy::none): to another host reqwest takes along
///   every header but `authorization`, so also the keys of Anthropic and Gemini. The transport refuses a response to
///   which a redirect led, but the key has travelled by then;
/// - without a timeout: the layers have the limits of time;
/// - with any [`retry`](reqwest::retry): its policies do not apply, since the body can be sent once. The stack's
///   retries are the only ones.
///
/// ```
/// use steadfast::providers::Anthropic;
///
/// # fn example() -> Result<(), reqwest::Error> {
/// let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let leaf = Anthropic::new("key").model("claude-sonnet-4-5").transport(steadfast_reqwest::transport(client));
/// # Ok(()) }
/// # example().unwrap();
/// ```
pub fn transport(client: Client) -> ReqwestTransport {
    ReqwestTransport { client }
}

/// A `reqwest::Client` as a service. See [`service`].
///
/// It is always ready. Dropping a call, or its response's body, ends the exchange. Errors are [`LlmError`]s with the
/// kind of [`llm_error`], in the body too.
#[derive(Clone)]
pub struct ReqwestService {
    client: Client,
}

impl<B: Into<Body>> Service<http::Request<B>> for ReqwestService {
    type Response = http::Response<ResponseBody>;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> ResponseFuture {
        let (client, request) = (self.client.clone(), Request::try_from(request));
        ResponseFuture::new(async move {
            let response = client.execute(request.map_err(llm_error)?).await.map_err(llm_error)?;
            Ok(typed(response))
        })
    }
}

/// A `reqwest::Client` as the transport of a leaf. See [`transport`].
///
/// It is always ready. Dropping a call, or its response's body, ends the exchange.
#[derive(Clone)]
pub struct ReqwestTransport {
    client: Client,
}

impl Service<http::Request<RequestBody>> for ReqwestTransport {
    type Response = http::Response<ResponseBody>;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<RequestBody>) -> ResponseFuture {
        // Wrapped, a body cannot be cloned: neither reqwest's retries nor a redirect can send it again.
        let (client, request) = (self.client.clone(), Request::try_from(request.map(Body::wrap)));
        ResponseFuture::new(async move {
            let request = request.map_err(llm_error)?;
            let url = request.url().clone();
            let response = client.execute(request).await.map_err(llm_error)?;
            if *response.url() == url { Ok(typed(response)) } else { Err(redirected(response.url())) }
        })
    }
}

// A client's own `Debug` writes its default headers, which may have a key.
impl fmt::Debug for ReqwestService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestService").finish_non_exhaustive()
    }
}

impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestTransport").finish_non_exhaustive()
    }
}

pub(crate) fn typed(response: Response) -> http::Response<ResponseBody> {
    http::Response::from(response).map(ResponseBody)
}

/// Creates the error of a response to which a redirect led.
fn redirected(to: &Url) -> LlmError {
    let host = to.host_str().unwrap_or("another place");
    let message = format!("reqwest followed a redirect to {host}: build the client with `redirect::Policy::none()`");
    LlmError::new(ErrorKind::Malformed, message)
}

/// The future of a [`ReqwestService`]'s or [`ReqwestTransport`]'s response.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Exchange> + Send>>);

type Exchange = Result<http::Response<ResponseBody>, LlmError>;

impl ResponseFuture {
    pub(crate) fn new(exchange: impl Future<Output = Exchange> + Send + 'static) -> Self {
        Self(Box::pin(exchange))
    }
}

impl Future for ResponseFuture {
    type Output = Exchange;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The body of a response, with typed errors. `reqwest::Body::from` returns reqwest's own.
#[derive(Debug)]
pub struct ResponseBody(Body);

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = LlmError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, LlmError>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(llm_error)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl From<ResponseBody> for Body {
    fn from(body: ResponseBody) -> Self {
        body.0
    }
}
