//! A stack around a program's own HTTP client: what reaches the provider, the other tiers and the caller.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    CircuitBreakerLayer, FallbackLayer, HedgeLayer, LlmRequest, MirrorLayer, RetryWithJitterLayer, RouteLayer,
    TimeoutLayer,
    layers::route::Rule,
    providers::{Anthropic, Gemini, OpenAi, Simulated, http::RequestBody, simulated::Fault},
};
use steadfast_gateway::{Gateway, HttpLlm, HttpLlmLayer, ResponseBody};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

const SECOND: Duration = Duration::from_secs(1);
const CHAT: &str = "https://api.openai.com/v1/chat/completions";

/// An HTTP client of a program's own, boxed so that tests can name it.
type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody>, BoxError>;

/// The heads and the bodies of the requests that reached a client.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<(Parts, Bytes)>>>);

impl Sent {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn last(&self) -> (Parts, Bytes) {
        self.0.lock().unwrap().last().cloned().expect("something was sent")
    }

    async fn note<B: http_body::Body<Error: Into<BoxError>>>(&self, request: Request<B>) -> Request<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(Into::into).unwrap().to_bytes();
        self.0.lock().unwrap().push((head.clone(), body.clone()));
        Request::from_parts(head, Full::new(body))
    }
}

/// A client whose provider is a simulated one, which speaks Anthropic's and OpenAI's protocol.
fn client(provider: Simulated) -> (Client, Sent) {
    let (sent, provider) = (Sent::default(), Gateway::new(provider));
    let noted = sent.clone();
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        let (noted, provider) = (noted.clone(), provider.clone());
        async move {
            let mut request = noted.note(request).await;
            *request.uri_mut() = request.uri().path().parse()?;
            Ok::<_, BoxError>(provider.oneshot(request).await?)
        }
    });
    (BoxCloneSyncService::new(client), sent)
}

/// A client that answers each request with these bytes.
fn canned(status: u16, content_type: &'static str, body: &'static str) -> (Client, Sent) {
    let sent = Sent::default();
    let noted = sent.clone();
    let client = service_fn(move |request: Request<Full<Bytes>>| {
        let noted = noted.clone();
        async move {
            noted.note(request).await;
            let response = Response::builder().status(status).header("content-type", content_type);
            Ok::<_, BoxError>(response.body(Full::new(Bytes::from(body)))?)
        }
    });
    // The layer's own response type, by a layer that treats no call.
    let none = HttpLlmLayer::new(Simulated::new("none")).hosts(["none.invalid"]);
    (BoxCloneSyncService::new(none.layer(client)), sent)
}

/// A second tier, as a leaf with a client and a key of its own; and what reached it.
fn second_tier(provider: Simulated) -> (OpenAi, Sent) {
    let (client, sent) = client(provider);
    let own = service_fn(move |request: Request<RequestBody>| {
        client.clone().oneshot(request.map(|body| Full::new(body.into_bytes())))
    });
    (OpenAi::new("sk-of-the-second-tier").model("gpt-4o-mini").transport(own), sent)
}

fn chat(body: &str) -> Request<Full<Bytes>> {
    Request::post(CHAT)
        .header("authorization", "Bearer sk-of-the-caller")
        .header("openai-organization", "org-of-the-caller")
        .header("x-steadfast-feature", "chat")
        .header("x-team", "blue")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// A request that is spelled as no encoder would spell it.
const HELLO: &str =
    "{ \"messages\" : [ {\"content\":\"h\\u0065llo\", \"role\":\"user\"} ],\n \"x_own\":1.50, \"model\":\"gpt-4o\"}";

async fn ask<S, E>(client: &S, request: Request<Full<Bytes>>) -> (StatusCode, String)
where
    S: Service<Request<Full<Bytes>>, Response = Response<ResponseBody>, Error = E> + Clone,
    E: std::fmt::Debug,
{
    let (head, body) = client.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.expect("the body comes to its end").to_bytes();
    (head.status, String::from_utf8(body.into()).unwrap())
}

fn text(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let text = [&body["choices"][0]["message"]["content"], &body["content"][0]["text"]].map(Value::as_str);
    text.into_iter().flatten().next().unwrap_or_else(|| panic!("an answer: {body}")).to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_primary_gets_the_callers_own_head_and_bytes() {
    let (client, sent) = client(Simulated::new("gpt-4o").reply("from the primary"));
    let stack = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).service(OpenAi::new("sk-of-the-leaf"));
    let client = HttpLlmLayer::new(stack).layer(client);
    let (status, body) = ask(&client, chat(HELLO)).await;
    assert_eq!((status, &*text(&body)), (StatusCode::OK, "from the primary"));
    let (head, body) = sent.last();
    assert_eq!((head.uri.to_string(), body), (CHAT.to_owned(), Bytes::from(HELLO)));
    assert_eq!(head.headers["authorization"], "Bearer sk-of-the-caller");
    assert_eq!(
        (&head.headers["x-team"], &head.headers["openai-organization"]),
        (&"blue".parse().unwrap(), &"org-of-the-caller".parse().unwrap())
    );
    assert!(!head.headers.contains_key("x-steadfast-feature"));
    assert_eq!(sent.count(), 1);
}

/// The provider keeps such a response, and the client alone knows where.
#[tokio::test(start_paused = true)]
async fn a_response_in_the_background_is_the_clients_own_matter() {
    const QUEUED: &str = r#"{"id":"resp_1", "object":"response","status":"queued","output":[] }"#;
    const BODY: &str = "{ \"background\" :true, \"model\":\"o3\", \"input\":\"h\\u0065llo\"}";
    for status in [200, 503] {
        let (own, sent) = canned(status, "application/json", QUEUED);
        let (second, elsewhere) = second_tier(Simulated::new("gpt-4o-mini"));
        let stack = FallbackLayer::new("primary").tier("second", second).layer(OpenAi::new("").model("o4").responses());
        let client = HttpLlmLayer::new(stack).layer(own);
        let request = Request::post("https://api.openai.com/v1/responses?x=1")
            .header("authorization", "Bearer sk-of-the-caller")
            .header("x-steadfast-feature", "chat");
        let answer = ask(&client, request.body(Full::new(Bytes::from(BODY))).unwrap()).await;
        assert_eq!(answer, (StatusCode::from_u16(status).unwrap(), QUEUED.to_owned()));
        let (head, body) = sent.last();
        assert_eq!(
            (head.uri.to_string().as_str(), body),
            ("https://api.openai.com/v1/responses?x=1", Bytes::from(BODY))
        );
        assert_eq!(
            (&head.headers["authorization"], &head.headers["x-steadfast-feature"]),
            (&"Bearer sk-of-the-caller".parse().unwrap(), &"chat".parse().unwrap())
        );
        assert_eq!((sent.count(), elsewhere.count()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_prepared_beside_the_runtime_and_goes_the_same_way() {
    let (client, sent) = client(Simulated::new("gpt-4o"));
    let client = HttpLlmLayer::new(OpenAi::new("").model("o3-mini")).layer(client);
    let words = "hello ".repeat(100_000);
    let body = json!({"model": "gpt-4o", "temperature": 0.5, "messages": [{"role": "user", "content": words}]});
    assert_eq!(ask(&client, chat(&body.to_string())).await.0, StatusCode::OK);
    let (head, body) = sent.last();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["model"], &body["messages"][0]["content"]), (&"o3-mini".into(), &words.into()));
    assert_eq!(head.headers["authorization"], "Bearer sk-of-the-caller");
}

#[tokio::test(start_paused = true)]
async fn none_of_2000_calls_is_lost_in_an_outage_and_no_other_tier_sees_the_callers_key() {
    let primary = Simulated::new("gpt-4o").reply("from the primary");
    let handle = primary.handle();
    let (client, by_client) = client(primary);
    let (second, by_second) = second_tier(Simulated::new("gpt-4o-mini").reply("from the second"));
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(60 * SECOND))
        .layer(FallbackLayer::new("gpt").tier("mini", second))
        .layer(RetryWithJitterLayer::new())
        .service(OpenAi::new(""));
    let client = HttpLlmLayer::new(stack).layer(client);
    for number in 0..2_000 {
        match number {
            500 => handle.fail(Fault::ServerError),
            1_500 => handle.heal(),
            _ => {}
        }
        let stream = number % 2 == 0;
        let body = json!({"model": "gpt-4o", "stream": stream, "messages": [{"role": "user", "content": "hello"}]});
        let (status, body) = ask(&client, chat(&body.to_string())).await;
        let from = if (500..1_500).contains(&number) { "second" } else { "primary" };
        let is_whole = if stream { body.trim_end().ends_with("data: [DONE]") } else { body.starts_with('{') };
        assert!(status == StatusCode::OK && is_whole && body.contains(from), "call {number}: {status} {body}");
    }
    assert_eq!(by_second.count(), 1_000);
    for (head, body) in &*by_second.0.lock().unwrap() {
        assert_eq!(head.headers["authorization"], "Bearer sk-of-the-second-tier");
        assert!(!head.headers.contains_key("openai-organization") && !head.headers.contains_key("x-team"));
        assert!(String::from_utf8_lossy(body).contains("gpt-4o-mini"));
    }
    for (head, _) in &*by_client.0.lock().unwrap() {
        assert_eq!(head.headers["authorization"], "Bearer sk-of-the-caller");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_call_a_cheaper_chain_and_a_candidate_have_clients_of_their_own() {
    // The caller's client never answers, so that a hedge is asked.
    let (hedge, by_hedge) = second_tier(Simulated::new("gpt-4o-mini").reply("from the hedge"));
    let hedging = HedgeLayer::new("gpt").tier("mini", hedge).after(SECOND).extra(1.0);
    let stack = ServiceBuilder::new().layer(TimeoutLayer::new(20 * SECOND)).layer(hedging).service(OpenAi::new(""));
    let silent = service_fn(|_: Request<Full<Bytes>>| pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let (status, body) = ask(&HttpLlmLayer::new(stack).layer(silent), chat(HELLO)).await;
    assert_eq!((status, &*text(&body)), (StatusCode::OK, "from the hedge"));
    assert_eq!(by_hedge.last().0.headers["authorization"], "Bearer sk-of-the-second-tier");

    let (own, by_client) = client(Simulated::new("gpt-4o").reply("from the primary"));
    let (cheap, by_cheap) = second_tier(Simulated::new("gpt-4o-mini").reply("from the cheap chain"));
    let rule = Rule::new("short").max_input_tokens(1_000);
    let stack = RouteLayer::new().rule(rule, cheap).layer(OpenAi::new(""));
    let (_, body) = ask(&HttpLlmLayer::new(stack).layer(own), chat(HELLO)).await;
    assert_eq!((&*text(&body), by_client.count()), ("from the cheap chain", 0));
    assert_eq!(by_cheap.last().0.headers["authorization"], "Bearer sk-of-the-second-tier");

    let (own, by_client) = client(Simulated::new("gpt-4o").reply("from the primary"));
    let (candidate, by_candidate) = second_tier(Simulated::new("gpt-4o-mini"));
    let stack = MirrorLayer::new(candidate).share(1.0).layer(OpenAi::new(""));
    let (_, body) = ask(&HttpLlmLayer::new(stack).layer(own), chat(HELLO)).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((&*text(&body), by_client.count(), by_candidate.count()), ("from the primary", 1, 1));
    assert_eq!(by_candidate.last().0.headers["authorization"], "Bearer sk-of-the-second-tier");
}

#[tokio::test(start_paused = true)]
async fn everything_else_passes_untouched() {
    let (client, sent) = canned(418, "text/plain", "as ever");
    let client = HttpLlmLayer::new(Simulated::new("gpt-4o")).hosts(["api.openai.com"]).layer(client);
    let post = |url: &str| Request::post(url).header("x-steadfast-feature", "chat");
    for (request, why) in [
        (Request::get(CHAT), "another method"),
        (post("https://api.openai.com/v1/embeddings"), "another path"),
        (post("https://api.twilio.example/v1/messages"), "another host"),
        (post(CHAT).header("content-encoding", "zstd"), "a body that is not to be read"),
    ] {
        let request = request.body(Full::from("no JSON")).unwrap();
        let head = request.headers().clone();
        assert_eq!(ask(&client, request).await, (StatusCode::IM_A_TEAPOT, "as ever".to_owned()), "{why}");
        assert_eq!((sent.last().0.headers, &*sent.last().1), (head, &b"no JSON"[..]), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_json_is_an_error_of_the_callers_protocol_and_is_not_sent() {
    let (client, sent) = canned(200, "application/json", "{}");
    let client = HttpLlmLayer::new(OpenAi::new("")).layer(client);
    let (status, body) = ask(&client, chat("{\"model\":")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["error"]["type"]), (StatusCode::BAD_REQUEST, &"invalid_request_error".into()));
    assert_eq!(sent.count(), 0);
}

/// A client that is never ready.
#[derive(Clone)]
struct NeverReady;

impl Service<Request<Full<Bytes>>> for NeverReady {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        unreachable!("it was never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_never_ready_fails_or_answers_with_a_page_does_not_keep_the_next_tier_from_answering() {
    let stack = || {
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(20 * SECOND))
            .layer(FallbackLayer::new("gpt").tier("other", Simulated::new("other").reply("from the second")))
            .service(OpenAi::new(""))
    };
    let (status, body) = ask(&HttpLlmLayer::new(stack()).layer(NeverReady), chat(HELLO)).await;
    assert_eq!((status, &*text(&body)), (StatusCode::OK, "from the second"), "never ready");

    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let failing = service_fn(move |_: Request<Full<Bytes>>| async move { Err::<Response<Full<Bytes>>, _>(refused()) });
    let (status, body) = ask(&HttpLlmLayer::new(stack()).layer(failing), chat(HELLO)).await;
    assert_eq!((status, &*text(&body)), (StatusCode::OK, "from the second"), "failing");

    for status in [200, 403, 502] {
        let (page, _) = canned(status, "text/html", "<html>Who are you?</html>");
        let (status, body) = ask(&HttpLlmLayer::new(stack()).layer(page), chat(HELLO)).await;
        assert_eq!((status, &*text(&body)), (StatusCode::OK, "from the second"), "a page with {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_primary_comes_back_in_its_own_bytes() {
    const ERROR: &str = "{ \"error\": {\"message\": \"no such model\", \"type\": \"invalid_request_error\", \"param\":null, \"code\":\"x\"}}";
    let (client, _) = canned(400, "application/json", ERROR);
    let client = HttpLlmLayer::new(OpenAi::new("")).layer(client);
    assert_eq!(ask(&client, chat(HELLO)).await, (StatusCode::BAD_REQUEST, ERROR.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_repeats_the_callers_key_does_not_bring_it_into_the_record() {
    let (client, _) =
        canned(401, "application/json", r#"{"error": {"message": "Incorrect API key: sk-of-the-caller"}}"#);
    let seen = Arc::new(Mutex::new(String::new()));
    let note = seen.clone();
    let stack = ServiceBuilder::new()
        .map_err(move |error: steadfast::LlmError| {
            *note.lock().unwrap() = format!("{error} {error:?}");
            error
        })
        .service(OpenAi::new(""));
    let (status, body) = ask(&HttpLlmLayer::new(stack).layer(client), chat(HELLO)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let seen = seen.lock().unwrap();
    assert!(
        !seen.is_empty() && !seen.contains("sk-of-the-caller") && !body.contains("sk-of-the-caller"),
        "{seen} {body}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_key_is_refused_gets_the_providers_words_and_no_other_tiers_answer() {
    const REFUSED: &str =
        r#"{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let primary = service_fn(|request: Request<Full<Bytes>>| async move {
        let knows = request.headers()["authorization"] == "Bearer sk-of-the-caller";
        let (status, body) = match knows {
            true => (200, r#"{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}"#),
            false => (401, REFUSED),
        };
        let response = Response::builder().status(status).header("content-type", "application/json");
        response.body(Full::new(Bytes::from(body)))
    });
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::new("gpt").tier("other", Simulated::new("other")))
        .layer(CircuitBreakerLayer::new("gpt"))
        .service(OpenAi::new(""));
    let client = HttpLlmLayer::new(stack).layer(primary);
    // The key of this provider has worked, so that another refusal would go on to the next tier.
    assert_eq!(ask(&client, chat(HELLO)).await.0, StatusCode::OK);
    for _ in 0..100 {
        let mut stranger = chat(HELLO);
        stranger.headers_mut().insert("authorization", "Bearer sk-of-a-stranger".parse().unwrap());
        assert_eq!(ask(&client, stranger).await, (StatusCode::UNAUTHORIZED, REFUSED.to_owned()));
    }
    let (status, body) = ask(&client, chat(HELLO)).await;
    assert_eq!((status, &*text(&body)), (StatusCode::OK, "hi"), "strangers open no circuit");
}

#[tokio::test(start_paused = true)]
async fn a_callers_key_that_worked_and_is_then_refused_is_an_outage() {
    const GOOD: [&str; 3] = [
        r#"{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}"#,
        r#"{"type": "message", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}"#,
        r#"{"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}"#,
    ];
    let calls = [
        ("/v1/chat/completions", "authorization", HELLO),
        (
            "/v1/messages",
            "x-api-key",
            r#"{"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}"#,
        ),
        ("/v1beta/models/m:generateContent", "x-goog-api-key", r#"{"contents": [{"parts": [{"text": "a"}]}]}"#),
    ];
    for (status, (good, (path, header, body))) in
        [401, 403].into_iter().flat_map(|status| GOOD.into_iter().zip(calls).map(move |call| (status, call)))
    {
        let revoked = Arc::new(AtomicBool::new(false));
        let is_revoked = revoked.clone();
        let primary = service_fn(move |request: Request<Full<Bytes>>| {
            let key = request.headers()[header].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
            let works = key == "sk-first" && !is_revoked.load(SeqCst) || key == "sk-second";
            let (status, body) = if works { (200, good) } else { (status, r#"{"error": {"message": "no such key"}}"#) };
            let response = Response::builder().status(status).header("content-type", "application/json");
            std::future::ready(response.body(Full::new(Bytes::from(body))))
        });
        let other = Simulated::new("other").reply("from the backup");
        let stack = ServiceBuilder::new()
            .layer(FallbackLayer::new("own").tier("other", other))
            .layer(CircuitBreakerLayer::new("own"));
        let client = match header {
            "x-api-key" => HttpLlmLayer::new(stack.service(Anthropic::new(""))),
            "x-goog-api-key" => HttpLlmLayer::new(stack.service(Gemini::new(""))),
            _ => HttpLlmLayer::new(stack.service(OpenAi::new(""))),
        }
        .layer(primary);
        let asked = async |key: &str| {
            let key = if header == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
            let request = Request::post(format!("https://a.test{path}")).header(header, key);
            ask(&client, request.body(Full::from(body)).unwrap()).await
        };
        for _ in 0..5 {
            let (status, body) = asked("sk-first").await;
            assert!(status == StatusCode::OK && body.contains("hi"), "{path}: {body}");
        }
        revoked.store(true, SeqCst);
        for _ in 0..7 {
            let (was, body) = asked("sk-first").await;
            assert!(was == StatusCode::OK && body.contains("from the backup"), "{path}, {status}: {was} {body}");
            let (was, body) = asked("sk-stranger").await;
            assert!(matches!(was.as_u16(), 401 | 403), "{path}: a key that has never worked: {was} {body}");
            let (was, body) = asked("sk-second").await;
            assert!(was == StatusCode::OK && body.contains("hi"), "{path}: another's key goes on: {body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_layers_one_treats_a_call() {
    let (client, sent) = canned(503, "application/json", "{}");
    let stack = || RetryWithJitterLayer::new().max_attempts(3).layer(OpenAi::new(""));
    let inner: HttpLlm<Client> = HttpLlmLayer::new(stack()).layer(client.clone());
    let once = ask(&inner, chat(HELLO)).await.0;
    assert_eq!((once, sent.count()), (StatusCode::SERVICE_UNAVAILABLE, 3));
    let twice = HttpLlmLayer::new(stack()).layer(inner);
    ask(&twice, chat(HELLO)).await;
    assert_eq!(sent.count(), 6, "the retries did not multiply");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_drops_the_clients() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let count = under_way.clone();
    let silent = service_fn(move |_: Request<Full<Bytes>>| {
        let count = count.clone();
        async move {
            struct Under(Arc<AtomicUsize>);
            impl Drop for Under {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Relaxed);
                }
            }
            count.fetch_add(1, Relaxed);
            let _under = Under(count);
            pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }
    });
    let client = HttpLlmLayer::new(OpenAi::new("")).layer(silent);
    let mut call = Box::pin(client.oneshot(chat(HELLO)));
    assert!((&mut call).now_or_never().is_none());
    assert_eq!(under_way.load(Relaxed), 1);
    drop(call);
    assert_eq!(under_way.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn each_protocol_is_treated_in_its_own() {
    const BODY: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}],  "safetySettings":[]}"#;
    const ANSWER: &str =
        r#"{"candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}"#;
    let url = |method: &str| format!("https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:{method}");
    let gemini =
        |url: &str| Request::post(url).header("x-goog-api-key", "AIza-of-the-caller").body(Full::from(BODY)).unwrap();
    let (own, sent) = canned(200, "application/json", ANSWER);
    let client = HttpLlmLayer::new(Gemini::new("")).layer(own.clone());
    assert_eq!(ask(&client, gemini(&url("generateContent"))).await, (StatusCode::OK, ANSWER.to_owned()));
    assert_eq!((sent.last().0.uri.to_string(), &*sent.last().1), (url("generateContent"), BODY.as_bytes()));
    assert_eq!(sent.last().0.headers["x-goog-api-key"], "AIza-of-the-caller");

    // A leaf's own model stands in the path.
    let client = HttpLlmLayer::new(Gemini::new("").model("gemini-2.5-flash")).layer(own);
    ask(&client, gemini(&format!("{}?key=k", url("generateContent")))).await;
    let path = sent.last().0.uri.to_string();
    assert_eq!(path, "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent?key=k");

    // Another provider's answer comes back in the caller's protocol, whole and streamed.
    let down = canned(503, "application/json", "{}").0;
    let stack =
        FallbackLayer::new("gemini").tier("gpt", Simulated::new("gpt-4o").reply("It rains.")).layer(Gemini::new(""));
    let client = HttpLlmLayer::new(stack).layer(down);
    let (_, body) = ask(&client, gemini(&url("generateContent"))).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "It rains.");
    let (_, body) = ask(&client, gemini(&format!("{}?alt=sse", url("streamGenerateContent")))).await;
    assert!(body.starts_with("data: {") && body.contains("\"finishReason\":\"STOP\""), "{body}");

    // A request in one protocol to a primary of another: that leaf's own client, and the caller's protocol again.
    let (own, by_client) = canned(200, "application/json", "{}");
    let (second, by_leaf) = second_tier(Simulated::new("gpt-4o-mini").reply("from the leaf's client"));
    let client = HttpLlmLayer::new(second).layer(own);
    let messages =
        Request::post("https://api.anthropic.com/v1/messages").header("x-api-key", "sk-ant-of-the-caller").body(
            Full::from(r#"{"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}"#),
        );
    let (status, body) = ask(&client, messages.unwrap()).await;
    assert_eq!((status, &*text(&body), by_client.count()), (StatusCode::OK, "from the leaf's client", 0));
    assert!(!by_leaf.last().0.headers.contains_key("x-api-key"));
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_asked_by_itself_uses_its_own_client() {
    let (leaf, sent) = second_tier(Simulated::new("gpt-4o-mini"));
    leaf.oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert_eq!(sent.last().0.headers["authorization"], "Bearer sk-of-the-second-tier");
    let _types_are_exported = |leaf: Anthropic| HttpLlmLayer::new(leaf);
}
