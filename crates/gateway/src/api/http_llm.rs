//! Calls of models within a program's own HTTP client.

use std::{
    any::type_name,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, header, request::Parts};
use http_body_util::BodyExt;
use pin_project::pin_project;
use steadfast::{Dialect, LlmService, providers::http::CallerTransport};
use tower::{BoxError, Layer, Service, ServiceExt, util::Oneshot};

use super::{
    GatewayBuilder, ResponseBody, ResponseFuture,
    chat::ChatCall,
    client::{Client, LeftToClient},
    paths::{
        self,
        gemini::{self, PathCall},
    },
    service::Calls,
};
use crate::Gateway;

/// Gives the calls of models among a program's HTTP requests the treatment of a stack, and passes all others.
///
/// It wraps any client that is a tower service: hyper's, reqwest's (`steadfast-reqwest`), one behind tower-http's
/// layers. A call is recognised by method and path, in every protocol that the crate speaks:
///
/// | `POST` to a path that ends in | protocol |
/// |---|---|
/// | `/v1/messages` | Anthropic's |
/// | `/chat/completions` | OpenAI's, Azure's and compatible ones |
/// | `/responses`, with `/v1/` or `/openai/` before it | OpenAI's Responses |
/// | `/models/{model}:generateContent`, `..:streamGenerateContent?alt=sse` | Gemini's |
///
/// A request with a `content-encoding`, for another path, or for a host that is not among [`hosts`](Self::hosts) goes
/// to the client as it is. So does a request for a response in the background (`background: true`), which its provider
/// keeps.
///
/// # The primary
///
/// The inner service is the transport of the stack's primary: the leaf of its first tier, if that speaks the call's
/// protocol. It gets the caller's method, address and headers, its credentials among them, and the caller's own bytes.
/// Only a tier's `model` that differs from the caller's changes them. The leaf's own key and address serve requests
/// that do not come through this layer. Every further tier uses its own client and key, and gets none of the caller's
/// headers.
///
/// The caller sees the answer in its own protocol, whichever provider gave it, and an error of the stack as a response
/// with the status that the protocol has for it. Headers steer the stack as they do at the gateway
/// (`x-steadfast-feature`, `x-steadfast-timeout-ms`, ..), and do not reach the provider.
///
/// # Readiness, cancellation, retries
///
/// It is always ready. Each call waits for the inner service by itself, so that a client that is never ready does not
/// keep the other tiers from answering. Dropping the future, or the response's body, drops the call. Switch off retries
/// within the inner service, and around this layer: they multiply the stack's.
///
/// A layer within another passes the calls that the outer one forwards, so that only one stack treats a call. A warning
/// in the log says so: when the outer one is put around it or, if a box hides it, at the first call.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use steadfast::{FallbackLayer, RetryWithJitterLayer, providers::{OpenAi, Simulated}};
/// use steadfast_gateway::HttpLlmLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
/// // A client of one's own, whose provider is down.
/// let client = service_fn(|request: Request<Full<bytes::Bytes>>| async move {
///     assert_eq!(request.headers()["authorization"], "Bearer sk-mine");
///     Response::builder().status(503).body(Full::<bytes::Bytes>::default())
/// });
///
/// // The primary sends by that client; it needs no key of its own.
/// let stack = ServiceBuilder::new()
///     .layer(FallbackLayer::new("gpt").tier("claude", Simulated::new("claude-sonnet-4-5").reply("It rains.")))
///     .layer(RetryWithJitterLayer::new())
///     .service(OpenAi::new("").model("gpt-4o"));
/// let client = ServiceBuilder::new().layer(HttpLlmLayer::new(stack)).service(client);
///
/// // As before.
/// let request = Request::post("https://api.openai.com/v1/chat/completions")
///     .header("authorization", "Bearer sk-mine")
///     .body(Full::from(r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}"#))?;
/// let response = client.oneshot(request).await?;
///
/// assert_eq!(response.status(), 200);
/// let answer = response.into_body().collect().await?.to_bytes();
/// let answer: serde_json::Value = serde_json::from_slice(&answer)?;
/// assert_eq!(answer["choices"][0]["message"]["content"], "It rains.");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HttpLlmLayer {
    calls: Calls,
    hosts: Option<Arc<[Box<str>]>>,
    /// True once a layer around or within this one was reported.
    has_warned: Arc<AtomicBool>,
}

impl HttpLlmLayer {
    /// Creates the layer over any stack, with the defaults of [`GatewayBuilder`].
    pub fn new<S>(stack: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self::with_gateway(Gateway::builder(stack))
    }

    /// Creates the layer over a gateway with settings of its own, such as the limits of a file
    /// ([`Gateway::builder_of`]).
    ///
    /// The layer's callers are [in its process](GatewayBuilder::in_process): the head of an answer waits for the first
    /// token however long that takes, and a stream carries no signs of life.
    pub fn with_gateway(gateway: GatewayBuilder) -> Self {
        Self { calls: gateway.in_process().calls(), hosts: None, has_warned: Arc::default() }
    }

    /// Limits the layer to calls of these hosts, such as `api.openai.com`. Set it where the client also calls other
    /// services with such paths. Default: any host.
    #[must_use]
    pub fn hosts<H: Into<Box<str>>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Returns true if a request is a call of a model, which a service of this layer would not pass on as it is. It is
    /// for an adapter that takes other requests past the layer.
    pub fn is_call<B>(&self, request: &Request<B>) -> bool {
        self.call_in(request).is_some()
    }
}

impl<S> Layer<S> for HttpLlmLayer {
    type Service = HttpLlm<S>;

    fn layer(&self, inner: S) -> HttpLlm<S> {
        // A boxed one is noticed at its first call.
        if type_name::<S>().contains(type_name::<HttpLlm<()>>().trim_end_matches("<()>")) {
            self.warn_of_nesting();
        }
        HttpLlm { layer: self.clone(), inner }
    }
}

impl fmt::Debug for HttpLlmLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLlmLayer").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// An HTTP client whose calls of models go through a stack. See [`HttpLlmLayer`].
#[derive(Clone)]
pub struct HttpLlm<S> {
    layer: HttpLlmLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for HttpLlm<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body + From<Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = HttpLlmFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> HttpLlmFuture<S, B> {
        let Some(call) = self.layer.call_in(&request) else {
            return HttpLlmFuture(State::Passing(self.inner.clone().oneshot(request)));
        };
        let (mut head, body) = request.into_parts();
        head.extensions.insert(Forwarded);
        let transport = CallerTransport::new(call.dialect, Parts::clone(&head), self.inner.clone());
        // Only this dialect has calls that the client makes by itself.
        let left = LeftToClient::default();
        let alone: Option<ByClient<S, B>> = (call.dialect == Dialect::Responses).then(|| {
            let (head, client, left) = (head.clone(), self.inner.clone(), left.clone());
            let send = move || Some(client.oneshot(Request::from_parts(head, B::from(left.body()?))));
            Box::new(send) as ByClient<S, B>
        });
        let request = Request::from_parts(head, body);
        let path = call.path.map(|(model, stream)| PathCall { model, stream, is_array: false });
        let client = Some(Client { transport, left });
        let chat = ChatCall { path, client, ..ChatCall::new(call.dialect) };
        HttpLlmFuture(State::Calling(self.layer.calls.call(chat, request), alone))
    }
}

/// Marks a request that a layer has forwarded.
#[derive(Clone, Copy)]
struct Forwarded;

/// A call of a model among HTTP requests.
#[derive(Debug, PartialEq)]
struct ModelCall {
    dialect: Dialect,
    /// The model, and whether to stream, where the path names them.
    path: Option<(Box<str>, bool)>,
}

impl HttpLlmLayer {
    /// Returns the call of a model that a request is, if it is one for this layer.
    fn call_in<B>(&self, request: &Request<B>) -> Option<ModelCall> {
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if request.method() != Method::POST || encoding.is_some_and(|encoding| encoding != "identity") {
            return None;
        }
        let call = ModelCall::at(request.uri().path(), request.uri().query())?;
        if let Some(hosts) = &self.hosts {
            let named = || request.headers().get(header::HOST)?.to_str().ok()?.split(':').next();
            let host = request.uri().host().or_else(named)?;
            hosts.iter().find(|known| known.eq_ignore_ascii_case(host))?;
        }
        if request.extensions().get::<Forwarded>().is_some() {
            self.warn_of_nesting();
            return None;
        }
        Some(call)
    }

    /// Warns once of two stacks around one client.
    fn warn_of_nesting(&self) {
        if !self.has_warned.swap(true, Relaxed) {
            tracing::warn!(
                "an HttpLlmLayer stands within another: the inner one passes the calls of the outer; remove one"
            );
        }
    }
}

impl ModelCall {
    fn at(path: &str, query: Option<&str>) -> Option<Self> {
        // Compactions stay the client's.
        let served = paths::path_by_ending(path).filter(|served| *served != paths::COMPACT);
        if let Some(dialect) = served.and_then(paths::dialect_of_calls) {
            // Surveys have responses too.
            let is_meant = dialect != Dialect::Responses || path.contains("/v1/") || path.contains("/openai/");
            return is_meant.then_some(Self { dialect, path: None });
        }
        let (_, named) = path.rsplit_once("/models/")?;
        let (model, method) = gemini::call_of(named).filter(|(model, _)| !model.contains('/'))?;
        let stream = match method {
            gemini::Method::Generate => false,
            // Without the query, the provider answers with an array that comes in pieces.
            gemini::Method::Stream if gemini::wants_events(query) => true,
            _ => return None,
        };
        Some(Self { dialect: Dialect::Gemini, path: Some((model.into(), stream)) })
    }
}

impl<S> fmt::Debug for HttpLlm<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLlm").field("layer", &self.layer).finish_non_exhaustive()
    }
}

/// The future of an [`HttpLlm`]'s response.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct HttpLlmFuture<S: Service<Request<B>>, B>(#[pin] State<Oneshot<S, Request<B>>>);

/// Sends a call by the client alone, if it was left to the client.
type ByClient<S, B> = SendByClient<Oneshot<S, Request<B>>>;
type SendByClient<F> = Box<dyn FnOnce() -> Option<F> + Send>;

#[pin_project(project = StateProjection)]
enum State<F> {
    /// The inner service has a request that is no call of a model.
    Passing(#[pin] F),
    Calling(ResponseFuture, Option<SendByClient<F>>),
}

impl<S, B, R> Future for HttpLlmFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().0;
        loop {
            let passing = match state.as_mut().project() {
                StateProjection::Passing(passing) => {
                    let pass = |body: R| ResponseBody::new(Body::new(body.map_err(Into::into)));
                    return passing.poll(cx).map_ok(|response| response.map(pass));
                }
                StateProjection::Calling(calling, alone) => {
                    let response = ready!(Pin::new(calling).poll(cx)).unwrap_or_else(|never| match never {});
                    match alone.take().and_then(|send| send()) {
                        Some(sending) => sending,
                        None => return Poll::Ready(Ok(response)),
                    }
                }
            };
            state.set(State::Passing(passing));
        }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for HttpLlmFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpLlmFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_paths() {
        let gemini = |model: &str, stream| Some((Dialect::Gemini, Some((model.into(), stream))));
        for (path, query, is) in [
            ("/v1/messages", None, Some((Dialect::Anthropic, None))),
            ("/anthropic/v1/messages", Some("beta=true"), Some((Dialect::Anthropic, None))),
            ("/v1/messages/count_tokens", None, None),
            ("/v1/messages/batches", None, None),
            ("/rooms/7/messages", None, None),
            ("/v1/chat/completions", None, Some((Dialect::OpenAi, None))),
            ("/openai/deployments/x/chat/completions", Some("api-version=1"), Some((Dialect::OpenAi, None))),
            ("/v1/responses", None, Some((Dialect::Responses, None))),
            ("/openai/v1/responses", Some("api-version=preview"), Some((Dialect::Responses, None))),
            ("/forms/1/responses", None, None),
            ("/v1/responses/resp_1", None, None),
            ("/v1/responses/resp_1/cancel", None, None),
            ("/v1/responses/compact", None, None),
            ("/v1/responses/input_tokens", None, None),
            ("/v1/embeddings", None, None),
            ("/v1beta/models/gemini-2.5-pro:generateContent", None, gemini("gemini-2.5-pro", false)),
            ("/v1beta/models/g:streamGenerateContent", Some("key=k&alt=sse"), gemini("g", true)),
            ("/v1beta/models/g:streamGenerateContent", None, None),
            ("/v1beta/models/g:countTokens", None, None),
            ("/v1beta/models/:generateContent", None, None),
        ] {
            let call = ModelCall::at(path, query).map(|call| (call.dialect, call.path));
            assert_eq!(call, is, "{path}");
        }
    }
}
