//! A client of reqwest-middleware with a stack among its middlewares.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::Extensions;
use http_body_util::BodyExt;
use reqwest::{Client, Request, Response, header::HeaderValue, retry};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, RequestBuilder};
use reqwest_retry::{RetryTransientMiddleware, Retryable, RetryableStrategy, policies::ExponentialBackoff};
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, FallbackLayer, HedgeLayer, LlmRequest, LlmService, RetryWithJitterLayer, TimeoutLayer,
    providers::{
        Anthropic, Gemini, OpenAi,
        simulated::{Fault, Simulated, SimulatedHandle},
    },
};
use steadfast_gateway::HttpLlmLayer;
use steadfast_reqwest::{LlmMiddleware, middleware, service};
use steadfast_simulator::SimulatedServer;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::server::{Reply, Server, chat, response};

const SHORT: Duration = Duration::from_millis(100);
/// The layer's limit of an attempt.
const LIMIT: Duration = Duration::from_secs(2);
const CHAT: &str = "/v1/chat/completions";

/// The request's own provider, three times, then another.
fn stack<S: LlmService + Clone + Send + Sync + 'static>(backup: S) -> BoxLlmService
where
    S::Future: Send,
{
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::new("gpt").tier("backup", backup))
        .layer(RetryWithJitterLayer::new().max_attempts(3).max_delay(Duration::from_millis(1)))
        .layer(TimeoutLayer::new(LIMIT))
        .service(OpenAi::new("").model("gpt-4o"));
    BoxLlmService::new(stack)
}

fn client(middleware: impl Middleware) -> ClientWithMiddleware {
    ClientBuilder::new(Client::new()).with(middleware).build()
}

/// A client whose second tier says "from the backup".
fn with_backup() -> (ClientWithMiddleware, SimulatedHandle) {
    let backup = Simulated::new("claude").reply("from the backup");
    let handle = backup.handle();
    (client(middleware(stack(backup))), handle)
}

fn hello(client: &ClientWithMiddleware, url: &str, stream: bool) -> RequestBuilder {
    let body = json!({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
    client.post(format!("{url}{CHAT}")).bearer_auth("sk-of-the-caller").json(&body)
}

async fn text(response: Response) -> String {
    let answer: Value = response.json().await.unwrap();
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

async fn until(mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(50 * SHORT, waiting).await.expect("it comes within 5 s");
}

#[tokio::test]
async fn the_primary_gets_the_request_as_the_client_would_have_sent_it() {
    let mut server = Server::start(|_| chat("from gpt")).await;
    // In an order and with spaces of the caller's own.
    let body = r#"{ "messages":[{"content":"h\u00e9llo","role":"user"}],  "seed": 7, "model":"gpt-4o" }"#;
    let send = async |client: &ClientWithMiddleware| {
        let request = client.post(format!("{}{CHAT}?api-version=1", server.url)).bearer_auth("sk-of-the-caller");
        request.header("x-team", "weather").header("content-type", "application/json").body(body).send().await.unwrap()
    };
    let plain = send(&Client::new().into()).await;
    let (client, backup) = with_backup();
    let ours = send(&client).await;
    assert_eq!((ours.url(), ours.status()), (plain.url(), plain.status()));
    assert_eq!(text(ours).await, "from gpt");
    let received = server.received();
    let [plain, ours] = &*received else { panic!("{received:?}") };
    assert_eq!(sorted(&ours.head), sorted(&plain.head));
    assert_eq!(ours.body, body.as_bytes());
    assert_eq!(backup.stats().calls, 0);
}

#[tokio::test]
async fn each_protocol_is_known_by_its_path_and_both_ways_are_byte_for_byte() {
    const QUESTION: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    const MESSAGE: &str = r#"{"max_tokens":9,"messages":[{"role":"user","content":"hi"}],"model":"claude-sonnet-4-5"}"#;
    const CANDIDATE: &str =
        r#"{"candidates":[{"finishReason":"STOP","content":{"role":"model","parts":[{"text":"from gemini"}]}}]}"#;
    const CONTENT: &str = r#"{"stop_reason":"end_turn","type":"message","role":"assistant","id":"m","model":"c",
        "content":[{"text":"from claude","type":"text"}],"usage":{"input_tokens":1,"output_tokens":2}}"#;
    let anthropic = || BoxLlmService::new(Anthropic::new("").model("claude-sonnet-4-5"));
    let gemini = || BoxLlmService::new(Gemini::new("").model("gemini-2.5-pro"));
    for (leaf, path, key, question, answer) in [
        (anthropic(), "/v1/messages?beta=true", "x-api-key", MESSAGE, CONTENT),
        (gemini(), "/v1beta/models/gemini-2.5-pro:generateContent", "x-goog-api-key", QUESTION, CANDIDATE),
    ] {
        let sent = response("200 OK", "application/json", answer);
        let mut server = Server::start(move |_| Reply::Close(sent.clone())).await;
        let client = client(middleware(leaf));
        let request = client.post(format!("{}{path}", server.url)).header(key, "of the caller").body(question);
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key("x-steadfast-request-id"), "{path} went through the stack");
        assert_eq!(response.text().await.unwrap(), answer);
        let received = server.next().await;
        assert_eq!(received.head[0], format!("POST {path} HTTP/1.1"));
        assert_eq!((received.header(key), &*received.body), (Some("of the caller"), question.as_bytes()));
    }
}

fn sorted(head: &[String]) -> Vec<&String> {
    let mut head: Vec<&String> = head.iter().collect();
    head.sort();
    head
}

#[tokio::test]
async fn the_callers_headers_reach_its_own_provider_only() {
    let mut primary = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let mut other = Server::start(|_| chat("from the backup")).await;
    let backup = OpenAi::new("sk-of-the-backup").base_url(&format!("{}/v1", other.url)).unwrap().model("gpt-4o");
    let client = client(middleware(stack(backup)));
    let request =
        hello(&client, &primary.url, false).header("cookie", "id=caller").header("x-api-key", "sk-of-the-caller");
    assert_eq!(text(request.send().await.unwrap()).await, "from the backup");
    let received = primary.received();
    assert_eq!(received.len(), 3, "the stack's attempts");
    assert!(received.iter().all(|request| request.header("authorization") == Some("Bearer sk-of-the-caller")));
    let received = other.next().await;
    assert_eq!(received.header("authorization"), Some("Bearer sk-of-the-backup"));
    assert!(!format!("{received:?}").contains("caller"), "{received:?}");
}

#[tokio::test]
async fn other_requests_pass_untouched() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let (client, backup) = with_backup();
    let plain = Client::new().into();
    for (method, path) in [
        ("GET", CHAT),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/chat/completions/1"),
        ("POST", "/rooms/7/messages"),
        ("PUT", "/v1/messages"),
        ("DELETE", "/?q=/v1/messages"),
    ] {
        let mut answers = Vec::new();
        for client in [&plain, &client] {
            let request = client.request(method.parse().unwrap(), format!("{}{path}", server.url)).body("not JSON");
            let answer = request.send().await.unwrap();
            let facts = (answer.status(), answer.url().clone(), answer.headers().clone(), answer.remote_addr());
            answers.push((facts, answer.content_length(), answer.text().await.unwrap(), server.next().await));
        }
        assert_eq!(answers[0], answers[1], "{method} {path}");
    }
    assert!(server.received().is_empty());
    assert_eq!(backup.stats().calls, 0);

    let error = client.get("http://127.0.0.1:1/").send().await.unwrap_err();
    assert!(error.is_connect(), "reqwest's own error: {error:?}");
}

#[tokio::test]
async fn hosts_of_the_layer_are_the_only_ones() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let layer = HttpLlmLayer::new(stack(Simulated::new("claude"))).hosts(["api.openai.com"]);
    let answer = hello(&client(LlmMiddleware::from(layer)), &server.url, false).send().await.unwrap();
    assert_eq!((answer.text().await.unwrap(), server.received().len()), ("busy".to_owned(), 1));
}

#[tokio::test]
async fn a_callers_mistake_is_answered_in_the_providers_own_words() {
    const WORDS: &str = r#"{"error":{"message":"Unknown parameter: 'seeed'.","type":"invalid_request_error","param":"seeed","code":"unknown_parameter"}}"#;
    let mut server = Server::start(|_| Reply::Close(response("400 Bad Request", "application/json", WORDS))).await;
    let (client, backup) = with_backup();
    let answer = hello(&client, &server.url, false).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.text().await.unwrap(), WORDS);
    assert_eq!((server.received().len(), backup.stats().calls), (1, 0));
}

#[tokio::test]
async fn a_primary_that_is_not_there_or_sends_a_page_or_nothing_loses_no_request() {
    let page = response("200 OK", "text/html", "<html><title>Sign in</title></html>");
    let html = Server::start(move |_| Reply::Close(page.clone())).await;
    let closing = Server::start(|_| Reply::Close(String::new())).await;
    let silent = Server::start(|_| Reply::Silence(String::new())).await;
    let (client, backup) = with_backup();
    for (number, url) in ["http://127.0.0.1:1", &html.url, &closing.url, &silent.url].into_iter().enumerate() {
        assert_eq!(text(hello(&client, url, false).send().await.unwrap()).await, "from the backup", "{url}");
        assert_eq!(backup.stats().calls as usize, number + 1);
    }
}

#[tokio::test]
async fn an_exchange_that_the_stack_gives_up_ends_while_the_call_goes_on() {
    let provider = Simulated::new("gpt-4o");
    provider.handle().fail(Fault::Hang);
    let server = SimulatedServer::start(provider).await.unwrap();
    let backup = Simulated::new("claude").latency(1_000 * SHORT);
    let second = backup.handle();
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::new("gpt").tier("backup", backup))
        .layer(TimeoutLayer::new(SHORT))
        .service(OpenAi::new("").model("gpt-4o"));
    let calling = tokio::spawn(hello(&client(middleware(stack)), &server.base_url(), false).send());
    until(|| server.handle().stats().in_flight == 1).await;
    until(|| second.stats().in_flight == 1).await;
    until(|| server.handle().stats().in_flight == 0).await;
    assert!(!calling.is_finished());
    calling.abort();
    until(|| second.stats().in_flight == 0).await;
}

#[tokio::test]
async fn two_exchanges_of_one_call_run_beside_each_other() {
    let mut server = Server::start(|number| match number {
        0 => Reply::Silence(String::new()),
        _ => chat("from gpt"),
    })
    .await;
    let hedge = HedgeLayer::new("gpt").after(SHORT).extra(1.0);
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(50 * SHORT))
        .layer(hedge)
        .service(OpenAi::new("").model("gpt-4o"));
    let client = client(middleware(stack));
    assert_eq!(text(hello(&client, &server.url, false).send().await.unwrap()).await, "from gpt");
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn a_timeout_of_the_request_limits_the_primary_and_not_the_backup() {
    let silent = Server::start(|_| Reply::Silence(String::new())).await;
    let (client, _) = with_backup();
    let begun = tokio::time::Instant::now();
    let request = hello(&client, &silent.url, false).timeout(SHORT);
    assert_eq!(text(request.send().await.unwrap()).await, "from the backup");
    assert!(begun.elapsed() < LIMIT, "reqwest's limit, and not the layer's: {:?}", begun.elapsed());
}

#[tokio::test]
async fn streams_go_on_at_the_backup_before_the_first_token_and_end_with_an_error_after_it() {
    let provider = Simulated::new("gpt-4o").reply("one two three four five six");
    let server = SimulatedServer::start(provider).await.unwrap();
    let (client, _) = with_backup();
    let ask = async || hello(&client, &server.base_url(), true).send().await.unwrap().text().await;
    let whole = ask().await.unwrap();
    assert!(whole.contains("six") && whole.trim_end().ends_with("data: [DONE]"), "{whole}");

    server.handle().fail(Fault::ServerError);
    let whole = ask().await.unwrap();
    assert!(whole.contains("backup") && whole.trim_end().ends_with("data: [DONE]"), "{whole}");

    server.handle().fail(Fault::CutAfter(3));
    let cut = ask().await.unwrap();
    assert!(cut.contains("three") && !cut.contains("six") && !cut.contains("[DONE]"), "{cut}");
    assert!(cut.contains("\"error\""), "no half answer passes for a whole one: {cut}");
}

#[tokio::test]
async fn a_call_or_a_stream_that_is_dropped_drops_the_providers() {
    let server = SimulatedServer::start(Simulated::new("gpt-4o")).await.unwrap();
    let handle = server.handle();
    let (client, backup) = with_backup();
    handle.fail(Fault::Hang);
    let calling = tokio::spawn(hello(&client, &server.base_url(), false).send());
    until(|| handle.stats().in_flight == 1).await;
    calling.abort();
    until(|| handle.stats().in_flight == 0).await;

    handle.fail(Fault::StallAfter(1));
    let answer = hello(&client, &server.base_url(), true).send().await.unwrap();
    until(|| handle.stats().in_flight == 1).await;
    drop(answer);
    until(|| handle.stats().in_flight == 0).await;
    assert_eq!(backup.stats().calls, 0);
}

#[tokio::test]
async fn a_call_that_outlives_its_caller_goes_on_at_the_other_tiers() {
    let server = SimulatedServer::start(Simulated::new("gpt-4o")).await.unwrap();
    let handle = server.handle();
    handle.fail(Fault::Hang);
    let backup = Simulated::new("claude");
    let other = backup.handle();
    let stack = stack(backup);
    let in_a_task = service_fn(move |request: LlmRequest| {
        let call = stack.clone().oneshot(request);
        async { tokio::spawn(call).await.unwrap() }
    });
    let calling = tokio::spawn(hello(&client(middleware(in_a_task)), &server.base_url(), false).send());
    until(|| handle.stats().in_flight == 1).await;
    calling.abort();
    until(|| handle.stats().in_flight == 0).await;
    until(|| other.stats().calls == 1).await;
    assert_eq!(handle.stats().calls, 1);
}

#[tokio::test]
async fn a_body_that_comes_as_a_stream_is_sent_at_each_attempt() {
    let mut server = Server::start(|number| match number {
        0 => Reply::Close(response("500 Internal Server Error", "text/plain", "")),
        _ => chat("from gpt"),
    })
    .await;
    let (client, _) = with_backup();
    let pieces = [r#"{"model": "gpt-4o", "#, r#""messages": [{"role": "user", "content": "hi"}]}"#];
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces.map(Ok::<_, std::io::Error>)));
    let answer = client.post(format!("{}{CHAT}", server.url)).body(body).send().await.unwrap();
    assert_eq!(text(answer).await, "from gpt");
    let received = server.received();
    assert!(received.len() == 2 && received.iter().all(|request| request.body == pieces.concat().as_bytes()));
}

/// A middleware of the caller's own: it adds a key, and counts requests in the extensions.
struct Signed;

#[derive(Clone, Debug, PartialEq)]
struct Count(usize);

#[async_trait]
impl Middleware for Signed {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer sk-of-a-middleware"));
        let count = extensions.get::<Count>().map_or(0, |count| count.0);
        extensions.insert(Count(count + 1));
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn the_rest_of_the_chain_treats_each_request_to_the_primary() {
    let mut server = Server::start(|number| match number {
        0 | 1 => Reply::Close(response("500 Internal Server Error", "text/plain", "")),
        _ => chat("from gpt"),
    })
    .await;
    let stack = stack(Simulated::new("claude"));
    let client = ClientBuilder::new(Client::new()).with(middleware(stack)).with(Signed).build();
    let mut extensions = Extensions::new();
    let request = hello(&client, &server.url, false).build().unwrap();
    let answer = client.execute_with_extensions(request, &mut extensions).await.unwrap();
    assert_eq!(text(answer).await, "from gpt");
    assert_eq!(extensions.get(), Some(&Count(3)), "one chain after the other, with one memory");
    let keys: Vec<_> =
        server.received().iter().map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert_eq!(keys, vec![Some("Bearer sk-of-a-middleware".to_owned()); 3]);
}

/// A middleware that fails before it sends.
struct Refusing;

#[async_trait]
impl Middleware for Refusing {
    async fn handle(&self, _: Request, _: &mut Extensions, _: Next<'_>) -> reqwest_middleware::Result<Response> {
        let refused = Client::new().get("http://user:secret@127.0.0.1:1/?key=secret").send().await.unwrap_err();
        Err(reqwest_middleware::Error::middleware(TokenError(refused)))
    }
}

#[derive(Debug)]
struct TokenError(reqwest::Error);

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no token")
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn a_chain_that_fails_is_an_outage_of_the_primary() {
    let backup = Simulated::new("claude").reply("from the backup");
    let handle = backup.handle();
    let client = ClientBuilder::new(Client::new()).with(middleware(stack(backup))).with(Refusing).build();
    assert_eq!(text(hello(&client, "http://127.0.0.1:1", false).send().await.unwrap()).await, "from the backup");
    handle.fail(Fault::ServerError);
    let answer = hello(&client, "http://127.0.0.1:1", false).send().await.unwrap();
    assert!(answer.status().is_server_error());
    let words = answer.text().await.unwrap();
    assert!(words.contains("\"error\"") && !words.contains("secret"), "{words}");
}

#[tokio::test]
async fn two_of_them_on_one_client_are_one() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let inner = Simulated::new("inner");
    let unused = inner.handle();
    let outer = Simulated::new("claude").reply("from the backup");
    let client =
        ClientBuilder::new(Client::new()).with(middleware(stack(outer))).with(middleware(stack(inner))).build();
    assert_eq!(text(hello(&client, &server.url, false).send().await.unwrap()).await, "from the backup");
    assert_eq!((server.received().len(), unused.stats().calls), (3, 0), "the outer stack's attempts, and no more");
}

#[tokio::test]
async fn a_client_multiplies_the_attempts_only_by_a_retry_policy_of_its_own() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let policy = retry::for_host("127.0.0.1").no_budget().max_retries_per_request(2).classify_fn(|exchange| {
        match exchange.status() {
            Some(status) if status == 503 => exchange.retryable(),
            _ => exchange.success(),
        }
    });
    let with = |retries: retry::Builder| Client::builder().retry(retries).build().unwrap();
    for (client, attempts) in [(Client::new(), 3), (with(retry::never()), 3), (with(policy), 9)] {
        let client = ClientBuilder::new(client).with(middleware(stack(Simulated::new("claude")))).build();
        assert!(hello(&client, &server.url, false).send().await.unwrap().status().is_success());
        assert_eq!(server.received().len(), attempts);
    }
}

/// Leaves the answers of a stack as they are, as the README has it.
struct NotTheStacks;

impl RetryableStrategy for NotTheStacks {
    fn handle(&self, result: &reqwest_middleware::Result<Response>) -> Option<Retryable> {
        match result {
            Ok(answer) if answer.headers().contains_key("x-steadfast-request-id") => None,
            _ => reqwest_retry::DefaultRetryableStrategy.handle(result),
        }
    }
}

#[tokio::test]
async fn retries_around_a_stack_leave_its_answers_alone_by_their_header() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let failing = Simulated::new("claude");
    failing.handle().fail(Fault::ServerError);
    let stack: Arc<dyn Middleware> = Arc::new(middleware(stack(failing)));
    let bounds = (Duration::ZERO, Duration::from_millis(1));
    let policy = ExponentialBackoff::builder().retry_bounds(bounds.0, bounds.1).build_with_max_retries(2);
    let around = |retries: Arc<dyn Middleware>| {
        ClientBuilder::new(Client::new()).with_arc(retries).with_arc(stack.clone()).build()
    };
    let careful = around(Arc::new(RetryTransientMiddleware::new_with_policy_and_strategy(policy, NotTheStacks)));
    assert!(hello(&careful, &server.url, false).send().await.unwrap().status().is_server_error());
    assert_eq!(server.received().len(), 3, "the stack's own");
    // Other requests are repeated as before.
    careful.get(&server.url).send().await.unwrap();
    assert_eq!(server.received().len(), 3);
}

#[tokio::test]
async fn a_service_under_the_layer_needs_no_middlewares() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let layer = HttpLlmLayer::new(stack(Simulated::new("claude").reply("from the backup")));
    let client = ServiceBuilder::new().layer(layer).service(service(Client::new()));
    let url = server.url.clone();
    let send = async |path: &str| {
        let body = reqwest::Body::from(r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}"#);
        let request = http::Request::post(format!("{url}{path}")).header("authorization", "Bearer sk-mine");
        let response = client.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
        (status.as_u16(), String::from_utf8(body.into()).unwrap())
    };
    assert_eq!(send("/v1/embeddings").await, (503, "busy".to_owned()));
    assert_eq!(server.received().len(), 1);
    let (status, answer) = send(CHAT).await;
    assert!(status == 200 && answer.contains("from the backup"), "{status} {answer}");
    let received = server.received();
    assert_eq!(received.len(), 3, "the stack's own");
    assert!(received.iter().all(|request| request.header("authorization") == Some("Bearer sk-mine")));
}
