use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, Uri, header, request::Parts, uri::PathAndQuery};
use tower::{BoxError, Service};

use super::RequestBody;
use crate::{
    Dialect, LlmRequest,
    boxed::{Transport, boxed},
};

/// A caller's own way to its provider: its HTTP client, and the head of the request that it wrote.
///
/// An [extension](LlmRequest::with_extension) of a request in wire form. It replaces the leaf's own transport for one
/// leaf: that of the request's primary, if it speaks the same dialect. The caller's client then sends the caller's
/// method, address and headers, its credentials among them, with the body that the leaf would send: the caller's own
/// bytes, unless a layer or the leaf's [model](super::HttpLeaf::model) changes them. Every other tier, chain or
/// candidate uses its own transport and key, and gets none of those headers.
///
/// The HTTP layer of `steadfast-gateway`, `HttpLlmLayer`, adds it to each call.
///
/// A key that the provider refuses is the caller's to mend, and no other tier is asked. If the leaf has seen the key
/// work, its refusal is an outage, and the next tier is asked. A leaf remembers about a thousand such keys, as hashes,
/// until the process ends.
///
/// A leaf at a cloud's door is passed by in the same way: the caller's client sends the request to the caller's
/// address, without the door's changes.
///
/// Differences from the caller's head: no `content-length`, which the client adds, no `accept-encoding`, since the
/// client asks for what it can decompress, and no header that begins with `x-steadfast-`.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use steadfast::{Dialect, LlmRequest, Wire, providers::{OpenAi, http::CallerTransport}};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
/// let client = tower::service_fn(|request: http::Request<Full<Bytes>>| async move {
///     assert_eq!(request.uri(), "https://proxy.example/v1/chat/completions");
///     assert_eq!(request.headers()["authorization"], "Bearer the caller's");
///     let answer = r#"{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}"#;
///     Ok::<_, std::io::Error>(http::Response::new(Full::new(Bytes::from(answer))))
/// });
/// let (head, body) = http::Request::post("https://proxy.example/v1/chat/completions")
///     .header("authorization", "Bearer the caller's")
///     .body(r#"{"model": "gpt-4o", "messages": []}"#)?
///     .into_parts();
/// let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body)?)
///     .with_extension(CallerTransport::new(Dialect::OpenAi, head, client));
///
/// let response = OpenAi::new("the leaf's").model("gpt-4o").oneshot(request).await?;
/// assert_eq!(response.text().await?, "hi");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CallerTransport {
    dialect: Dialect,
    head: Arc<Parts>,
    client: Transport,
}

impl CallerTransport {
    /// Creates it from the head of a request in this dialect, and the client that would have sent the request.
    ///
    /// The client gets the body as any type that can be made of [`Bytes`]. Its errors count as a leaf's transport's.
    pub fn new<S, R, B>(dialect: Dialect, head: Parts, client: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<Bytes> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = tower::ServiceExt::map_request(client, |request: Request<RequestBody>| {
            request.map(|body| R::from(body.into_bytes()))
        });
        Self { dialect, head: Arc::new(head), client: boxed(client) }
    }

    /// Returns the one that a leaf of this dialect is to use for a request, if any.
    pub(super) fn of(request: &LlmRequest, dialect: Dialect) -> Option<&Self> {
        let own = request.extensions().get::<Self>()?;
        (own.dialect == dialect && !request.context().has_left_primary()).then_some(own)
    }

    pub(super) fn client(&self) -> Transport {
        self.client.clone()
    }

    /// Returns the key in the caller's headers.
    pub(super) fn key(&self) -> Option<Arc<str>> {
        let value = KEYS.iter().find_map(|name| self.head.headers.get(name))?.to_str().ok()?;
        let (_, key) = value.rsplit_once(' ').unwrap_or(("", value));
        (!key.is_empty()).then(|| key.into())
    }

    /// Returns the base of the caller's address: the part before a protocol's path.
    pub(super) fn place(&self) -> String {
        let uri = &self.head.uri;
        let (scheme, authority) =
            (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |host| host.as_str()));
        let ends = ["/messages", "/chat/completions", "/responses", "/models/"];
        let path = uri.path();
        let end = ends.iter().filter_map(|end| path.find(end)).min().unwrap_or(path.len());
        format!("{scheme}://{}{}", authority.to_ascii_lowercase(), &path[..end])
    }

    /// Returns the request that the caller's client sends. `path` names the model, where the body does not.
    pub(super) fn request(&self, path: Option<&str>, body: RequestBody) -> Result<Request<RequestBody>, http::Error> {
        let mut request = Request::from_parts(Parts::clone(&self.head), body);
        if let Some(path) = path {
            *request.uri_mut() = self.uri_with(path)?;
        }
        clean(request.headers_mut());
        Ok(request)
    }

    /// Returns the caller's address with the model of this path in place of its own.
    fn uri_with(&self, path: &str) -> Result<Uri, http::Error> {
        let own = self.head.uri.path();
        let (model, _query) = path.split_once('?').unwrap_or((path, ""));
        let base = own.rfind("/models/").map_or("", |at| &own[..at]);
        let mut parts = self.head.uri.clone().into_parts();
        let query = self.head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(format!("{base}{model}{query}"))?);
        Ok(Uri::from_parts(parts)?)
    }
}

/// The headers that carry a provider's key.
const KEYS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The prefix of the headers that are for a gateway and not for a provider.
const FOR_THE_GATEWAY: &str = "x-steadfast-";

/// Removes the headers that do not describe the request as it is sent.
fn clean(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_ENCODING);
    let steering: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(FOR_THE_GATEWAY)).cloned().collect();
    for name in steering {
        headers.remove(name);
    }
}

impl fmt::Debug for CallerTransport {
    /// Writes neither the address nor the headers, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerTransport").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}
