//! The rows: the same call without steadfast and with it.

use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_openai::{
    config::OpenAIConfig,
    error::OpenAIError,
    middleware::HttpRequestFactory,
    types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs},
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use reqwest_middleware::{ClientWithMiddleware, Middleware, Next};
use rig_core::{
    DynModel,
    http_client::{self, HttpClientExt, LazyBody, MultipartForm, StreamingResponse},
    operation::Completion,
    providers::openai::OpenAIConfig as RigConfig,
};
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, Dialect, FallbackLayer, LlmRequest, LlmService, RetryWithJitterLayer,
    TimeoutLayer, Wire,
    providers::{Canned, OpenAi, http::RequestBody},
};
use steadfast_gateway::{Gateway, HttpLlmLayer};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// One call, made as often as it is called.
pub(crate) type Call = Box<dyn FnMut() -> Pin<Box<dyn Future<Output = ()>>>>;

/// A call without steadfast, or with less of it, and the same with it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) without: Call,
    pub(crate) with: Call,
}

/// Returns all rows.
pub(crate) fn all() -> Vec<Row> {
    vec![gateway(), http_llm_over_a_bare_leaf(), http_llm(), reqwest(), async_openai(), rig()]
}

const BODY: &str = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "How is the weather?"}]}"#;
const ANSWER: &str = r#"{"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [{"index": 0, "message": {"role": "assistant", "content": "It rains."}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}"#;

fn answer() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// A leaf whose provider is in the process.
fn leaf() -> OpenAi {
    let provider = service_fn(|_: Request<RequestBody>| ready(Ok::<_, Infallible>(answer())));
    OpenAi::new("sk-of-the-leaf").transport(provider)
}

/// The five layers around a leaf.
fn stack(leaf: OpenAi) -> impl LlmService<Future: Send> + Clone + Send + Sync + 'static {
    ServiceBuilder::new()
        .layer(BulkheadLayer::new())
        .layer(FallbackLayer::new("gpt").tier("sorry", Canned::text("In a minute, please.")))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("gpt"))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .service(leaf)
}

/// Makes a call through a clone of a service, as a program's handler does, and reads its answer.
fn http<S, B, E>(service: S) -> Call
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = E> + Clone + 'static,
    S::Future: 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: std::fmt::Debug,
    E: std::fmt::Debug,
{
    Box::new(move || {
        let request = Request::post("http://provider.test/v1/chat/completions")
            .header("authorization", "Bearer sk-of-the-caller")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .expect("a request");
        let service = service.clone();
        Box::pin(async move {
            let response = service.oneshot(request).await.expect("a response");
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body, ANSWER);
        })
    })
}

fn gateway() -> Row {
    let alone = stack(leaf());
    let without: Call = Box::new(move || {
        let alone = alone.clone();
        Box::pin(async move {
            let wire = Wire::new(Dialect::OpenAi, BODY).expect("a request");
            let response = alone.oneshot(LlmRequest::from(wire)).await.map_err(Into::into).expect("a response");
            assert_eq!(response.body().wire().expect("the provider's bytes").1, ANSWER);
        })
    });
    let gateway = Gateway::new(stack(leaf())).map_request(|request: Request<Full<Bytes>>| at_the_gateway(request));
    Row { name: "`Gateway` over the stack alone", without, with: http(gateway) }
}

/// Returns a request for the gateway's own path.
fn at_the_gateway(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    *request.uri_mut() = http::Uri::from_static("/v1/chat/completions");
    request
}

/// A program's own client, whose provider is in the process.
#[derive(Clone)]
struct Client;

impl Service<Request<Full<Bytes>>> for Client {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        ready(Ok(answer()))
    }
}

fn http_llm_over_a_bare_leaf() -> Row {
    let with = HttpLlmLayer::new(OpenAi::new("")).layer(Client);
    Row { name: "`HttpLlmLayer` of a leaf alone over the bare client", without: http(Client), with: http(with) }
}

fn http_llm() -> Row {
    let with = HttpLlmLayer::new(stack(OpenAi::new(""))).layer(Client);
    Row { name: "`HttpLlmLayer` of the five layers over the bare client", without: http(Client), with: http(with) }
}

/// The end of a reqwest client's chain, in place of the network.
struct InProcess;

#[async_trait]
impl Middleware for InProcess {
    async fn handle(
        &self,
        _: reqwest::Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        Ok(answer().map(reqwest::Body::wrap).into())
    }
}

fn reqwest() -> Row {
    let builder = || reqwest_middleware::ClientBuilder::new(reqwest::Client::new());
    let asking = |client: ClientWithMiddleware| -> Call {
        Box::new(move || {
            let request = client
                .post("http://provider.test/v1/chat/completions")
                .header("authorization", "Bearer sk-of-the-caller")
                .body(BODY);
            Box::pin(async move {
                let answer = request.send().await.expect("a response").bytes().await.expect("a body");
                assert_eq!(answer, ANSWER);
            })
        })
    };
    let stack = steadfast_reqwest::middleware(stack(OpenAi::new("")));
    Row {
        name: "`steadfast-reqwest` in a reqwest-middleware client",
        without: asking(builder().with(InProcess).build()),
        with: asking(builder().with(stack).with(InProcess).build()),
    }
}

fn async_openai() -> Row {
    let bare = service_fn(|factory: HttpRequestFactory| async move {
        factory.build().await?;
        Ok::<reqwest::Response, OpenAIError>(answer().map(reqwest::Body::wrap).into())
    });
    let client = || async_openai::Client::with_config(OpenAIConfig::new().with_api_key("sk-of-the-caller"));
    let without = asking(client().with_http_service(bare));
    let with = asking(client().with_http_service(steadfast_async_openai::service(stack(leaf()))));
    Row { name: "`steadfast-async-openai` under an async-openai client", without, with }
}

fn asking(client: async_openai::Client<OpenAIConfig>) -> Call {
    Box::new(move || {
        let client = client.clone();
        Box::pin(async move {
            let message = ChatCompletionRequestUserMessage::from("How is the weather?");
            let request = CreateChatCompletionRequestArgs::default().model("gpt-4o").messages([message.into()]).build();
            let answer = client.chat().create(request.expect("a request")).await.expect("an answer");
            assert_eq!(answer.choices[0].message.content.as_deref(), Some("It rains."));
        })
    })
}

/// rig's HTTP client, in place of the network.
#[derive(Clone)]
struct Answers;

impl HttpClientExt for Answers {
    fn send<T, U>(
        &self,
        _: Request<T>,
    ) -> impl Future<Output = http_client::Result<Response<LazyBody<U>>>> + Send + 'static
    where
        T: Into<Bytes> + Send,
        U: From<Bytes> + Send + 'static,
    {
        let body = || -> LazyBody<U> { Box::pin(ready(Ok(U::from(Bytes::from_static(ANSWER.as_bytes()))))) };
        ready(Ok(answer().map(|_| body())))
    }

    fn send_multipart<U>(
        &self,
        _: Request<MultipartForm>,
    ) -> impl Future<Output = http_client::Result<Response<LazyBody<U>>>> + Send + 'static
    where
        U: From<Bytes> + Send + 'static,
    {
        pending()
    }

    fn send_streaming<T>(&self, _: Request<T>) -> impl Future<Output = http_client::Result<StreamingResponse>> + Send
    where
        T: Into<Bytes> + Send,
    {
        pending()
    }
}

fn rig() -> Row {
    let asking = |model: DynModel<Completion>| -> Call {
        Box::new(move || {
            let model = model.clone();
            Box::pin(async move {
                let answer = model.call("How is the weather?").await.expect("an answer");
                assert_eq!(answer.text(), "It rains.");
            })
        })
    };
    let config = || RigConfig::new("sk-of-the-caller");
    Row {
        name: "`steadfast-rig` under a rig client",
        without: asking(config().connect(Answers).chat("gpt-4o").erase()),
        with: asking(config().connect(steadfast_rig::http_client(stack(leaf()))).chat("gpt-4o").erase()),
    }
}
