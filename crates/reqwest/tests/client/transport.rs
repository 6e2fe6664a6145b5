//! A reqwest client as the transport of a leaf and as a tower service, and its errors.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use reqwest::{Client, redirect::Policy, retry};
use steadfast::{
    Dialect, ErrorKind, LlmError, LlmRequest, Wire,
    providers::{
        OpenAi,
        simulated::{Fault, Simulated},
    },
};
use steadfast_reqwest::{llm_error, service, transport};
use steadfast_simulator::SimulatedServer;
use tower::ServiceExt;

use crate::server::{Reply, Server, chat, response, written};

const SHORT: Duration = Duration::from_millis(50);

fn leaf(client: Client, url: &str) -> OpenAi {
    OpenAi::new("sk-of-the-leaf").base_url(&format!("{url}/v1")).unwrap().model("gpt-4o").transport(transport(client))
}

async fn ask(leaf: OpenAi, stream: bool) -> Result<String, LlmError> {
    leaf.oneshot(LlmRequest::prompt("hello").with_stream(stream)).await?.text().await
}

#[tokio::test]
async fn a_leaf_over_a_client_answers_whole_and_in_streams() {
    let server = SimulatedServer::start(Simulated::new("gpt-4o").reply("It rains.")).await.unwrap();
    for stream in [false, true] {
        assert_eq!(ask(leaf(Client::new(), &server.base_url()), stream).await.unwrap(), "It rains.");
    }
}

#[tokio::test]
async fn a_forwarded_body_goes_out_in_its_pieces_with_its_length() {
    let mut server = Server::start(|_| chat("hi")).await;
    let words = "all work and no play ".repeat(10_000);
    let body = format!(r#"{{"model": "another", "messages": [{{"role": "user", "content": "{words}"}}]}}"#);
    let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body.clone()).unwrap());
    leaf(Client::new(), &server.url).oneshot(request).await.unwrap();
    let received = server.next().await;
    let expected = body.replacen("another", "gpt-4o", 1);
    assert!(received.body == expected.as_bytes(), "{}", String::from_utf8_lossy(&received.body[..100]));
    assert_eq!(received.header("content-length"), Some(&*expected.len().to_string()));
    assert_eq!(received.header("authorization"), Some("Bearer sk-of-the-leaf"));
}

#[tokio::test]
async fn a_redirect_is_an_error_whether_or_not_the_client_follows_it() {
    let mut elsewhere = Server::start(|_| chat("stolen")).await;
    let moved = format!("HTTP/1.1 303 See Other\r\nlocation: {}/v1\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
    let server = Server::start(move |_| Reply::Close(moved.clone())).await;

    let careful = Client::builder().redirect(Policy::none()).build().unwrap();
    let error = ask(leaf(careful, &server.url), false).await.unwrap_err();
    assert_eq!((error.kind(), elsewhere.received().len()), (ErrorKind::Malformed, 0), "{error}");

    let error = ask(leaf(Client::new(), &server.url), false).await.unwrap_err();
    assert_eq!((error.kind(), elsewhere.received().len()), (ErrorKind::Malformed, 1), "{error}");
    assert!(error.message().contains("redirect::Policy::none()"), "{error}");
}

#[tokio::test]
async fn the_clients_own_retries_do_not_repeat_a_leafs_call() {
    let mut server = Server::start(|_| Reply::Close(response("503 Service Unavailable", "text/plain", "busy"))).await;
    let policy = retry::for_host("127.0.0.1").no_budget().max_retries_per_request(2).classify_fn(|exchange| {
        match exchange.status() {
            Some(status) if status == 503 => exchange.retryable(),
            _ => exchange.success(),
        }
    });
    let client = Client::builder().retry(policy).build().unwrap();
    assert_eq!(client.post(&server.url).body("hello").send().await.unwrap().status(), 503);
    assert_eq!(server.received().len(), 3, "the policy repeats whatever can be sent again");
    let error = ask(leaf(client, &server.url), false).await.unwrap_err();
    assert_eq!((error.kind(), server.received().len()), (ErrorKind::Overloaded, 1), "{error}");
}

#[tokio::test]
async fn a_leafs_failures_have_their_kinds() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    let impatient = || Client::builder().timeout(SHORT).build().unwrap();
    for (client, reply, kind) in [
        (impatient(), Some(Reply::Silence(String::new())), ErrorKind::Timeout),
        (impatient(), Some(Reply::Silence(format!("{HEAD}{{"))), ErrorKind::Timeout),
        (Client::new(), Some(Reply::Close(format!("{HEAD}{{"))), ErrorKind::StreamBroken),
        (Client::new(), Some(Reply::Close(String::new())), ErrorKind::Connect),
        (Client::new(), Some(Reply::Close(response("200 OK", "text/html", "<title>x</title>"))), ErrorKind::Malformed),
        (Client::new(), None, ErrorKind::Connect),
    ] {
        let url = match reply {
            Some(Reply::Close(bytes)) => Server::start(move |_| Reply::Close(bytes.clone())).await.url,
            Some(Reply::Silence(bytes)) => Server::start(move |_| Reply::Silence(bytes.clone())).await.url,
            None => "http://127.0.0.1:1".to_owned(),
        };
        let error = ask(leaf(client, &url), false).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", written(&error));
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_at_the_clients_limit_is_a_timeout() {
    let provider = Simulated::new("gpt-4o").reply("one two three four");
    provider.handle().fail(Fault::StallAfter(2));
    let server = SimulatedServer::start(provider).await.unwrap();
    let client = Client::builder().read_timeout(SHORT).build().unwrap();
    let answer = leaf(client, &server.base_url()).oneshot(LlmRequest::prompt("hello").with_stream(true)).await.unwrap();
    let error = answer.text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", written(&error));
}

#[tokio::test]
async fn a_dropped_call_or_stream_ends_the_providers() {
    let provider = Simulated::new("gpt-4o");
    let server = SimulatedServer::start(provider.clone()).await.unwrap();
    let handle = server.handle();
    let in_flight = async |count| {
        while handle.stats().in_flight != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    handle.fail(Fault::Hang);
    let calling = tokio::spawn(ask(leaf(Client::new(), &server.base_url()), false));
    in_flight(1).await;
    calling.abort();
    in_flight(0).await;

    handle.fail(Fault::StallAfter(1));
    let request = LlmRequest::prompt("hello").with_stream(true);
    let answer = leaf(Client::new(), &server.base_url()).oneshot(request).await.unwrap();
    in_flight(1).await;
    drop(answer);
    in_flight(0).await;
}

#[tokio::test]
async fn a_service_takes_any_body_of_reqwests_and_gives_back_reqwests_response() {
    let mut server = Server::start(|_| Reply::Close(response("418 I'm a teapot", "text/plain", "short"))).await;
    let request = http::Request::put(format!("{}/pot?a=b", server.url)).body("tea").unwrap();
    let response = service(Client::new()).oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (418, &"text/plain".parse().unwrap())
    );
    assert_eq!(reqwest::Response::from(response).text().await.unwrap(), "short");
    let received = server.next().await;
    assert_eq!((&*received.head[0], &*received.body), ("PUT /pot?a=b HTTP/1.1", &b"tea"[..]));

    let relative = http::Request::get("/pot").body(Bytes::new()).unwrap();
    assert_eq!(service(Client::new()).oneshot(relative).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_services_body_that_breaks_off_has_a_typed_error() {
    const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc";
    let server = Server::start(|_| Reply::Close(CUT.to_owned())).await;
    let request = http::Request::get(&server.url).body("").unwrap();
    let response = service(Client::new()).oneshot(request).await.unwrap();
    let error: LlmError = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken, "{}", written(&error));
}

#[tokio::test]
async fn no_error_has_a_secret_of_the_url() {
    let silent = Server::start(|_| Reply::Silence(String::new())).await.url;
    let closing = Server::start(|_| Reply::Close(String::new())).await.url;
    let cut = Server::start(|_| Reply::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned())).await.url;
    let prose = Server::start(|_| Reply::Close(response("200 OK", "text/plain", "\"It rains.\""))).await.url;
    let missing = Server::start(|_| Reply::Close(response("404 Not Found", "text/plain", ""))).await.url;
    let round = Server::start(|_| {
        Reply::Close("HTTP/1.1 302 Found\r\nlocation: /?key=secret\r\ncontent-length: 0\r\n\r\n".to_owned())
    });
    let round = round.await.url;
    for (url, kind) in [
        ("http://127.0.0.1:1", ErrorKind::Connect),
        ("ftp://127.0.0.1", ErrorKind::InvalidRequest),
        (&silent, ErrorKind::Timeout),
        (&closing, ErrorKind::Connect),
        (&cut, ErrorKind::StreamBroken),
        (&prose, ErrorKind::Malformed),
        (&missing, ErrorKind::NotFound),
        (&round, ErrorKind::Malformed),
    ] {
        let url = url.replacen("://", "://user:secret@", 1) + "/?key=secret";
        let limit = if kind == ErrorKind::Timeout { SHORT } else { 1_000 * SHORT };
        let request = Client::new().get(url).timeout(limit);
        let answer = async { request.send().await?.error_for_status()?.json::<u8>().await };
        let error = answer.await.unwrap_err();
        assert!(written(&error).contains("secret"), "reqwest's own words have it: {}", written(&error));
        let error = llm_error(error);
        assert_eq!(error.kind(), kind, "{}", written(&error));
        assert!(!error.to_string().contains("rains"), "a decoder quotes what it cannot read: {error}");
        assert!(!written(&error).contains("secret"), "{}", written(&error));
    }
}
