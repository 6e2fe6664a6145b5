//! A middleware of reqwest-middleware, whose chain is the transport of a stack's primary.

use std::{
    pin::pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Extensions, Method};
use http_body_util::BodyDataStream;
use reqwest::{Body, Request, Response, ResponseBuilderExt};
use reqwest_middleware::{Error, Middleware, Next};
use steadfast::{ErrorKind, LlmError, LlmService};
use steadfast_gateway::HttpLlmLayer;
use tokio::sync::{mpsc, oneshot};
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::{
    ResponseBody, ResponseFuture,
    error::{causes, classified, own},
    llm_error,
    service::typed,
};

/// Returns a middleware that gives the client's calls of models the treatment of a stack, for
/// [`ClientBuilder::with`](reqwest_middleware::ClientBuilder::with).
///
/// The stack is any service of [`LlmRequest`](steadfast::LlmRequest): layers of the program's own, or
/// `Stack::from_path("steadfast.yaml")?.service()`. See the [crate's documentation](crate).
pub fn middleware<S>(stack: S) -> LlmMiddleware
where
    S: LlmService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    HttpLlmLayer::new(stack).into()
}

/// A middleware that gives a client's calls of models the treatment of a stack. See [`middleware`].
///
/// It is made of an [`HttpLlmLayer`] with settings of its own, such as its [hosts](HttpLlmLayer::hosts), by `From`.
///
/// The middlewares after it run within the caller's future, once for each attempt at the first tier. Dropping that
/// future drops them. A call that the stack continues in a task of its own, as for an idempotency key, then goes on at
/// the other tiers.
#[derive(Clone, Debug)]
pub struct LlmMiddleware {
    layer: HttpLlmLayer,
}

impl From<HttpLlmLayer> for LlmMiddleware {
    fn from(layer: HttpLlmLayer) -> Self {
        Self { layer }
    }
}

#[async_trait]
impl Middleware for LlmMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        if !self.is_call(&request) {
            return next.run(request, extensions).await;
        }
        let url = request.url().clone();
        let request = http::Request::try_from(request)?;
        if !self.layer.is_call(&request) {
            // Another of these middlewares has forwarded it.
            return next.run(Request::try_from(request)?, extensions).await;
        }
        let (sends, mut exchanges) = mpsc::unbounded_channel();
        let client = self.layer.layer(Chain { sends });
        let mut answering = pin!(client.oneshot(request));
        // The chain is borrowed, so it runs here, beside the stack's call. Dropping this future drops both.
        let mut running = FuturesUnordered::new();
        let response = loop {
            tokio::select! {
                biased;
                response = &mut answering => break response.map_err(Error::middleware)?,
                Some(exchange) = exchanges.recv() => {
                    running.push(Exchange::run(exchange, next.clone(), extensions.clone()));
                }
                Some(seen) = running.next() => *extensions = seen,
            }
        };
        let mut response = response.map(|body| Body::wrap_stream(BodyDataStream::new(body)));
        if let Some(with_url) = http::Response::builder().url(url).extensions_mut() {
            response.extensions_mut().extend(std::mem::take(with_url));
        }
        Ok(response.into())
    }
}

impl LlmMiddleware {
    /// Returns true if the request has the head of a call. Every other stays as it is.
    fn is_call(&self, request: &Request) -> bool {
        if request.method() != Method::POST {
            return false;
        }
        let Ok(uri) = request.url().as_str().parse() else { return false };
        let mut head = http::Request::new(());
        (*head.method_mut(), *head.uri_mut(), *head.headers_mut()) = (Method::POST, uri, request.headers().clone());
        self.layer.is_call(&head)
    }
}

/// The rest of a middleware's chain as a service, for one call of the client.
#[derive(Clone)]
struct Chain {
    sends: mpsc::UnboundedSender<Exchange>,
}

/// A request to the provider, and the place for the response.
struct Exchange {
    request: http::Request<Body>,
    reply: oneshot::Sender<Result<http::Response<ResponseBody>, LlmError>>,
}

impl Exchange {
    /// Sends the request along the chain, until the stack no longer waits. Returns the extensions that the chain has
    /// left.
    async fn run(mut self, next: Next<'_>, mut extensions: Extensions) -> Extensions {
        let response = async {
            let request = Request::try_from(self.request).map_err(llm_error)?;
            let response = next.run(request, &mut extensions).await.map_err(of_chain)?;
            Ok(typed(response))
        };
        let response = tokio::select! {
            biased;
            () = self.reply.closed() => None,
            response = response => Some(response),
        };
        if let Some(response) = response {
            // The stack may have given up in this moment.
            let _ = self.reply.send(response);
        }
        extensions
    }
}

impl Service<http::Request<Body>> for Chain {
    type Response = http::Response<ResponseBody>;
    type Error = LlmError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> ResponseFuture {
        let (reply, response) = oneshot::channel();
        let sent = self.sends.send(Exchange { request, reply });
        ResponseFuture::new(async move {
            match (sent, response.await) {
                (Ok(()), Ok(response)) => response,
                // The call runs on in a task, and its middleware has returned.
                _ => Err(LlmError::new(
                    ErrorKind::UnsupportedFeature,
                    "the client's call has ended, and its middlewares with it",
                )),
            }
        })
    }
}

/// Returns the failed call that an error of the chain stands for.
fn of_chain(error: Error) -> LlmError {
    let error: BoxError = match error {
        Error::Reqwest(error) => return llm_error(error),
        Error::Middleware(error) => error.into(),
    };
    if let Some(own) = own(&*error) {
        return own;
    }
    // A middleware's error may have one of reqwest's inside, whose URL cannot be removed there.
    let of_reqwest = causes(&*error).find_map(|cause| cause.downcast_ref()).map(classified);
    of_reqwest.unwrap_or_else(|| LlmError::from(error))
}
