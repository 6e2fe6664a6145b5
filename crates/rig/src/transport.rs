//! The HTTP client of a rig provider, over a gateway in the same process.

use std::fmt;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::{BodyDataStream, BodyExt, Full};
use rig_core::http_client::{
    BoxedStream, DynHttpClient, Error, HttpClientExt, LazyBody, MultipartForm, Result, StreamingResponse,
};
use steadfast::LlmService;
use steadfast_gateway::{Gateway, GatewayBuilder, ResponseBody};
use tower::ServiceExt;

/// Returns the HTTP client of a rig provider that calls this stack, for `with_http` or `connect`.
///
/// The stack is any service of [`LlmRequest`](steadfast::LlmRequest): layers of the program's own, or
/// `Stack::from_path("steadfast.yaml")?.service()`.
pub fn http_client<S>(stack: S) -> GatewayClient
where
    S: LlmService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    GatewayClient::new(Gateway::builder(stack))
}

/// The HTTP client of a rig provider, over a gateway in the same process.
///
/// Dropping a call, or a stream, drops the call to the provider.
#[derive(Clone)]
pub struct GatewayClient {
    gateway: Gateway,
    others: Option<DynHttpClient>,
}

impl GatewayClient {
    /// Creates the client over a gateway with settings of its own: models that it lists, keys, sizes.
    pub fn new(gateway: GatewayBuilder) -> Self {
        Self { gateway: gateway.in_process().build(), others: None }
    }

    /// Sends requests for other paths than the gateway's by this client, as the provider would without a stack.
    /// Default: none, they are refused with 404.
    #[must_use]
    pub fn others_by(mut self, client: impl HttpClientExt + 'static) -> Self {
        self.others = Some(DynHttpClient::new(client));
        self
    }

    /// Returns the client of other paths, for a request to one of them, or else the gateway's path.
    fn target<T>(&self, request: &Request<T>) -> Result<Target> {
        // Gemini's query says the form of a stream.
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        match (Gateway::path_of(request.method(), path), &self.others) {
            (Some(path), _) => Ok(Target::Gateway(path)),
            (None, Some(others)) => Ok(Target::Others(others.clone())),
            // The gateway refuses it by name.
            (None, None) => PathAndQuery::try_from(path).map(Target::Gateway).map_err(|e| Error::Protocol(e.into())),
        }
    }

    /// Returns the gateway's response, or the error that stands for a status other than success in rig.
    async fn call(self, path: PathAndQuery, mut request: Request<Bytes>) -> Result<Response<ResponseBody>> {
        *request.uri_mut() = Uri::from(path);
        let response = self.gateway.oneshot(request.map(Full::new)).await.unwrap_or_else(|never| match never {});
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = read(body).await?;
        Err(Error::non_success_with_details(head.status, head.headers, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// The receiver of a request.
enum Target {
    Gateway(PathAndQuery),
    Others(DynHttpClient),
}

impl HttpClientExt for GatewayClient {
    fn send<T, U>(&self, request: Request<T>) -> impl Future<Output = Result<Response<LazyBody<U>>>> + Send + 'static
    where
        T: Into<Bytes> + Send,
        U: From<Bytes> + Send + 'static,
    {
        let (client, request) = (self.clone(), request.map(Into::<Bytes>::into));
        async move {
            let response = match client.target(&request)? {
                Target::Others(others) => return others.send(request).await,
                Target::Gateway(path) => client.call(path, request).await?,
            };
            Ok(response.map(|body| -> LazyBody<U> { Box::pin(async { Ok(U::from(read(body).await?)) }) }))
        }
    }

    fn send_multipart<U>(
        &self,
        request: Request<MultipartForm>,
    ) -> impl Future<Output = Result<Response<LazyBody<U>>>> + Send + 'static
    where
        U: From<Bytes> + Send + 'static,
    {
        let client = self.clone();
        async move {
            match client.others.clone() {
                Some(others) => others.send_multipart(request).await,
                // None of the gateway's paths takes a form, so that it refuses this one.
                None => client.send(request.map(|_| Bytes::new())).await,
            }
        }
    }

    fn send_streaming<T>(&self, request: Request<T>) -> impl Future<Output = Result<StreamingResponse>> + Send
    where
        T: Into<Bytes> + Send,
    {
        let (client, request) = (self.clone(), request.map(Into::<Bytes>::into));
        async move {
            let response = match client.target(&request)? {
                Target::Others(others) => return others.send_streaming(request).await,
                Target::Gateway(path) => client.call(path, request).await?,
            };
            Ok(response.map(|body| -> BoxedStream { Box::pin(BodyDataStream::new(body).map_err(Error::Instance)) }))
        }
    }
}

async fn read(body: ResponseBody) -> Result<Bytes> {
    Ok(body.collect().await?.to_bytes())
}

impl fmt::Debug for GatewayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayClient").finish_non_exhaustive()
    }
}
