//! The gateway as a tower service: what a program nests in its own server.

use std::{
    convert::Infallible,
    fmt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::{Method, Request, Response, Version, header, uri::PathAndQuery};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use steadfast::{BoxLlmService, LlmService};
use steadfast_stack::Stack;
use tower::{BoxError, Service, ServiceExt};

use super::{
    Catalog, GatewayState, Keys, Routes,
    chat::ChatCall,
    connection::ConnectionContext,
    paths,
    reception::{self, Kind},
    router,
};
use crate::{
    error::ServeError,
    http::{DirectStream, Handler, Upgrade},
    limits::Settings,
};

/// The gateway's HTTP API as a [`Service`], without a socket: any stack behind the protocols of Anthropic and OpenAI.
///
/// Use it to serve clients of those protocols from a program of your own: under a path of an axum `Router`, on a hyper
/// connection, in a test. [`ServeOptions::serve`](crate::ServeOptions::serve) is the whole gateway, with a listener,
/// signals, reports and reloads around the same API.
///
/// It serves
///
/// - calls of models, whole and streamed: `POST /v1/messages` (Anthropic's), `POST /v1/chat/completions` and
///   `POST /v1/responses` (OpenAI's), `POST /v1beta/models/{model}:generateContent` and `..:streamGenerateContent`
///   (Gemini's); Azure's addresses of OpenAI's paths, `/openai/deployments/{model}/..` and `/openai/v1/..`;
/// - `POST /v1/responses/compact`, at a stack with a tier that has it;
/// - `POST /v1/messages/count_tokens`, `POST /v1/responses/input_tokens` and
///   `POST /v1beta/models/{model}:countTokens`, estimates;
/// - `GET /v1/models`, with the names of [`GatewayBuilder::models`], and `GET /v1/models/{model}`;
/// - `GET /requests/{id}`, the decision record of each answer's `x-steadfast-request-id`;
/// - `GET /healthz` and `GET /readyz`;
/// - with [keys](GatewayBuilder::keys), the paths of administrators and of people who answer tasks.
///
/// Paths work without `/v1` too. A path that it does not serve is a 404 with the list. Every error is one of the
/// caller's protocol, and says whether a repeat can help, so that a client's own retries do not multiply the stack's.
///
/// # Readiness and cancellation
///
/// It is always ready: the stack's bulkheads refuse what is too much, with a status. Dropping the future, or the
/// response's body, drops the call to the provider.
///
/// # Examples
///
/// A unit test of a program that calls a model needs neither a socket nor a key, and runs on paused time:
///
/// ```
/// use http::Request;
/// use http_body_util::BodyExt;
/// use steadfast::providers::simulated::Simulated;
/// use steadfast_gateway::Gateway;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
/// let gateway = Gateway::new(Simulated::new("sonnet").reply("It rains."));
///
/// let body = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "How is the weather?"}]}"#;
/// let request = Request::post("/v1/chat/completions").body(body.to_owned())?;
/// let response = gateway.oneshot(request).await?;
///
/// assert_eq!(response.status(), 200);
/// let answer = response.into_body().collect().await?.to_bytes();
/// let answer: serde_json::Value = serde_json::from_slice(&answer)?;
/// assert_eq!(answer["choices"][0]["message"]["content"], "It rains.");
/// # Ok(()) }
/// ```
///
/// Under a path of an axum server, over the stack of a file:
///
/// ```no_run
/// # fn example() -> Result<axum::Router, steadfast_stack::ConfigError> {
/// use steadfast_gateway::Gateway;
/// use steadfast_stack::Stack;
///
/// let stack = Stack::from_path("steadfast.yaml")?;
/// let app = axum::Router::new().nest_service("/llm", Gateway::from(&stack));
/// # Ok(app) }
/// ```
///
/// # Behind tower-http's layers
///
/// Layers for HTTP go around it as around any service. Compression leaves streams alone by default. A timeout outside
/// covers the time until the head; let it be longer than the stack's own, which knows another tier. The gateway itself
/// catches panics, limits bodies, and names each call by `x-steadfast-request-id`. Set
/// [`any_origin`](GatewayBuilder::any_origin) if a layer outside checks `Origin`.
///
/// ```
/// use axum::Router;
/// use http::{HeaderValue, Request, header};
/// use steadfast::providers::simulated::Simulated;
/// use steadfast_gateway::Gateway;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_http::{
///     cors::{Any, CorsLayer},
///     sensitive_headers::SetSensitiveRequestHeadersLayer,
///     trace::TraceLayer,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
/// let page = HeaderValue::from_static("https://app.example.com");
/// let layers = ServiceBuilder::new()
///     .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION]))
///     .layer(TraceLayer::new_for_http())
///     .layer(CorsLayer::new().allow_origin(page.clone()).allow_headers(Any));
/// let gateway = Gateway::builder(Simulated::new("sonnet")).any_origin().build();
/// let app = Router::new().nest_service("/llm", gateway).layer(layers);
///
/// let body = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "How is the weather?"}]}"#;
/// let request = Request::post("/llm/v1/chat/completions").header(header::ORIGIN, &page).body(body.to_owned())?;
/// let response = app.oneshot(request).await?;
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], page);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Gateway {
    routes: Routes,
}

impl Gateway {
    /// Creates a gateway to a service, with the defaults of [`GatewayBuilder`].
    ///
    /// The service is any stack: of a file ([`Stack::service`]), of layers, or a leaf alone.
    pub fn new<S>(service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self::builder(service).build()
    }

    /// Returns a builder of a gateway to a service.
    pub fn builder<S>(service: S) -> GatewayBuilder
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        GatewayBuilder {
            service: BoxLlmService::new(service.map_err(Into::into)),
            catalog: Catalog::Listed(Arc::default()),
            keys: None,
            settings: Settings::default(),
            any_origin: false,
            in_process: false,
        }
    }

    /// Returns a builder of a gateway to the stack of a file. The models, the limits for callers (`gateway:`) and the
    /// desk for tasks are the file's.
    ///
    /// The models and the desk follow reloads; the limits are those of this moment. The stack's background work
    /// (`StackHandle::hand_over`, `check_recovery`, `alert`) stays the program's to start.
    pub fn builder_of(stack: &Stack) -> GatewayBuilder {
        let handle = stack.handle();
        GatewayBuilder {
            service: stack.service(),
            settings: Settings::of(&handle.config(), None),
            catalog: Catalog::Stack(handle),
            keys: None,
            any_origin: false,
            in_process: false,
        }
    }

    /// Returns the path of this API that a request to any base URL is meant for: a call of a model, a count of tokens,
    /// the models. An adapter sends such requests to the gateway and all others on.
    ///
    /// `path` may have its query. A call of Gemini's keeps it, since it says the form of a stream.
    ///
    /// ```
    /// use http::Method;
    /// use steadfast_gateway::Gateway;
    ///
    /// let path = Gateway::path_of(&Method::POST, "/openai/deployments/gpt/chat/completions");
    /// assert_eq!(path.unwrap(), "/v1/chat/completions");
    /// let path = Gateway::path_of(&Method::POST, "/google/v1/models/gemini-2.5-pro:streamGenerateContent?alt=sse");
    /// assert_eq!(path.unwrap(), "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse");
    /// assert_eq!(Gateway::path_of(&Method::POST, "/v1/embeddings"), None);
    /// ```
    pub fn path_of(method: &Method, path: &str) -> Option<PathAndQuery> {
        paths::path_of(method, path)
    }
}

/// A gateway to the stack of a file, as [`Gateway::builder_of`] builds it.
impl From<&Stack> for Gateway {
    fn from(stack: &Stack) -> Self {
        Self::builder_of(stack).build()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

/// Builds a [`Gateway`].
#[must_use = "a builder does nothing until it builds"]
pub struct GatewayBuilder {
    service: BoxLlmService,
    catalog: Catalog,
    keys: Option<Keys>,
    settings: Settings,
    any_origin: bool,
    in_process: bool,
}

impl GatewayBuilder {
    /// Sets the names that `GET /v1/models` lists. A request may name any other model too: a leaf's own model decides.
    /// Default: none; over the stack of a file, the file's.
    pub fn models<N: Into<Arc<str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.catalog = Catalog::Listed(names.into_iter().map(Into::into).collect());
        self
    }

    /// Requires one of the keys in a file, with each key's limits. `steadfast key NAME` makes an entry of it. Default:
    /// anyone who reaches the service may call; the program around it decides who does.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no file of keys: the error says where.
    pub fn keys(mut self, path: impl AsRef<Path>) -> Result<Self, ServeError> {
        let keys = Keys::load(path.as_ref())?;
        self.keys = Some(match &self.catalog {
            Catalog::Stack(stack) => keys.with_budgets_in(stack.clone())?,
            Catalog::Listed(_) => keys,
        });
        Ok(self)
    }

    /// Sets the largest body of a request, in bytes; a larger one is refused with 413. Default: 32 MB, the limit of
    /// Anthropic's own API, or the file's `gateway.max_body`.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.settings.body = bytes;
        self
    }

    /// Sets how long the caller of a stream waits without a sign of life. Until then an error has a status of its own;
    /// afterwards the head goes out, and an error comes inside the stream. Default: 10 s, or the file's
    /// `gateway.first_sign`. For a caller in the same process see [`in_process`](Self::in_process).
    pub fn first_sign(mut self, wait: Duration) -> Self {
        self.settings.first_sign = wait;
        self
    }

    /// Answers pages of other origins too. Without keys the default refuses them: a browser on this machine would send
    /// a foreign page's requests without asking its user. Set it if a layer outside checks `Origin`, as tower-http's
    /// `CorsLayer` does. Over the stack of a file, `gateway.cors` lists the origins whose pages may call and read.
    pub fn any_origin(mut self) -> Self {
        self.any_origin = true;
        self
    }

    /// Serves callers in the gateway's own process. A stream's head waits for the first token however long that takes,
    /// so that each error before it has a status of its own, and the stream carries no signs of life.
    ///
    /// Use it where the program itself, or a client within it, calls the gateway as a service. Leave it where callers
    /// connect over a network: proxies close connections that are silent for long. It replaces
    /// [`first_sign`](Self::first_sign) and the file's `gateway.first_sign` and `gateway.keep_alive`.
    ///
    /// ```
    /// use steadfast::providers::Simulated;
    /// use steadfast_gateway::Gateway;
    ///
    /// let gateway = Gateway::builder(Simulated::new("sonnet")).in_process().build();
    /// ```
    pub fn in_process(mut self) -> Self {
        (self.settings.first_sign, self.settings.keep_alive) = (LONGEST_CALL, LONGEST_CALL);
        self.in_process = true;
        self
    }

    /// Builds the gateway.
    pub fn build(self) -> Gateway {
        Gateway::over(self.state())
    }

    /// Builds the part of the gateway that calls models.
    pub(crate) fn calls(self) -> Calls {
        Calls(self.state())
    }

    fn state(self) -> Arc<GatewayState> {
        let Self { service, catalog, keys, settings, any_origin, in_process } = self;
        let mut state = GatewayState::new(service, catalog, keys, settings);
        (state.any_origin, state.in_process) = (any_origin, in_process);
        Arc::new(state)
    }
}

/// More time than any call takes: 365 days.
const LONGEST_CALL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The part of a gateway that calls models, without its paths.
#[derive(Clone)]
pub(crate) struct Calls(Arc<GatewayState>);

impl Calls {
    /// Answers a call of a model.
    pub(crate) fn call<B>(&self, chat: ChatCall, request: Request<B>) -> ResponseFuture
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (gateway, request) = (self.0.clone(), with_any_body(request));
        ResponseFuture(Box::pin(async move {
            let connection = ConnectionContext::of(&gateway);
            let response = reception::receive(&gateway, &connection, Kind::Chat(chat), request).await;
            in_process(response)
        }))
    }
}

/// Returns a request whose body is of the reception's type.
fn with_any_body<B>(request: Request<B>) -> Request<Body>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    request.map(|body| {
        let bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
        Body::new(body.map_frame(move |frame| frame.map_data(bytes)))
    })
}

/// Leaves HTTP in the connection of a request, if the response says so.
fn leave_http(connection: Option<OnUpgrade>, response: &mut Response<Body>) {
    let Some((connection, after)) = connection.zip(Upgrade::take(response)) else { return };
    tokio::spawn(async move {
        // A connection that is lost before needs nothing.
        if let Ok(upgraded) = connection.await {
            after(Box::new(TokioIo::new(upgraded)), Bytes::new()).await;
        }
    });
}

/// Returns a response without the parts that are for the gateway's own connections.
fn in_process(mut response: Response<Body>) -> Response<ResponseBody> {
    response.extensions_mut().remove::<DirectStream>();
    response.map(ResponseBody::new)
}

impl Gateway {
    /// Creates the service of this state.
    pub(crate) fn over(state: Arc<GatewayState>) -> Self {
        let router = router(state.clone());
        Self { routes: Routes::new(state, router) }
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Gateway
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let (routes, version) = (self.routes.clone(), request.version());
        let request = with_any_body(request);
        // The router tells by it whether a connection can leave HTTP.
        let upgrade = request.extensions().get::<OnUpgrade>().cloned();
        ResponseFuture(Box::pin(async move {
            // Readiness is a call's own: a service that reserves its place must not give it to another call.
            let connection = routes.connection();
            let mut response = routes.answer(&connection, request).await;
            routes.finish(&mut response);
            leave_http(upgrade, &mut response);
            if version > Version::HTTP_11 {
                response.headers_mut().remove(header::CONNECTION);
            }
            in_process(response)
        }))
    }
}

/// The future of a [`Gateway`]'s response.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// The body of a [`Gateway`]'s response: a whole answer, or a stream that ends with the protocol's own end mark.
pub struct ResponseBody(Body);

impl ResponseBody {
    pub(crate) fn new(body: Body) -> Self {
        Self(body)
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
