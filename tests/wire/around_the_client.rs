//! tower-http's layers around a leaf's HTTP client: compressed answers, traces, headers.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderName, HeaderValue, header};
use steadfast::{
    ErrorKind, LlmRequest,
    providers::{Anthropic, OpenAi, transport::HttpClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::{
    decompression::DecompressionLayer,
    sensitive_headers::{SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer},
    set_header::SetRequestHeaderLayer,
    trace::{DefaultMakeSpan, DefaultOnResponse, TraceLayer},
};
use tracing::{Dispatch, Level, subscriber::set_default};

/// Reads a request with a body, and returns its head.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(read[..at].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if read.len() >= at + 4 + length.parse::<usize>().unwrap() {
                return head;
            }
        }
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
}

/// Starts a provider that answers one request, and returns the head that it read.
async fn provider<F>(answer: impl FnOnce(TcpStream) -> F + Send + 'static) -> (String, JoinHandle<String>)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_request(&mut stream).await;
        answer(stream).await;
        head
    });
    (url, served)
}

/// Starts a provider that answers one request with these bytes.
async fn whole(content_encoding: &str, body: Vec<u8>) -> (String, JoinHandle<String>) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{content_encoding}content-length: {}\r\n\r\n",
        body.len()
    );
    provider(async move |mut stream: TcpStream| stream.write_all(&[head.into_bytes(), body].concat()).await.unwrap())
        .await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

async fn chunk(stream: &mut TcpStream, data: &[u8]) {
    stream.write_all(&[format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()).await.unwrap();
}

const ANSWER: &[u8] = br#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5",
    "content":[{"type":"text","text":"It rains."}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}"#;

#[tokio::test]
async fn a_compressed_answer_passes_as_the_bytes_that_were_compressed() {
    let (url, served) = whole("content-encoding: gzip\r\n", gzip(ANSWER)).await;
    let client = ServiceBuilder::new().layer(DecompressionLayer::new()).service(HttpClient::new().no_proxy());
    let leaf = Anthropic::new("sk").base_url(&url).unwrap().model("claude-sonnet-4-5").transport(client);
    let response = leaf.oneshot(LlmRequest::prompt("How is the weather?")).await.unwrap();
    assert_eq!(response.body().wire().unwrap().1, ANSWER);
    assert_eq!(response.text().await.unwrap(), "It rains.");
    assert!(served.await.unwrap().contains("\r\naccept-encoding: gzip\r\n"), "the layer has asked for it");
}

#[tokio::test]
async fn without_the_layer_the_leaf_asks_for_plain_answers_and_opens_a_compressed_one() {
    let (url, served) = whole("content-encoding: gzip\r\n", gzip(ANSWER)).await;
    let leaf = Anthropic::new("sk").base_url(&url).unwrap().model("claude-sonnet-4-5");
    let leaf = leaf.transport(HttpClient::new().no_proxy());
    // The stack's packages have the feature `codings`.
    let response = leaf.oneshot(LlmRequest::prompt("How is the weather?")).await.unwrap();
    assert_eq!(response.body().wire().unwrap().1, ANSWER);
    assert!(served.await.unwrap().contains("\r\naccept-encoding: identity\r\n"));
}

#[tokio::test]
async fn without_a_layer_that_knows_it_the_leaf_names_an_encoding() {
    let (url, served) = whole("content-encoding: compress\r\n", gzip(ANSWER)).await;
    let leaf = Anthropic::new("sk").base_url(&url).unwrap().model("claude-sonnet-4-5");
    let leaf = leaf.transport(HttpClient::new().no_proxy());
    let error = leaf.oneshot(LlmRequest::prompt("How is the weather?")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("DecompressionLayer"), "{error}");
    assert!(served.await.unwrap().contains("\r\naccept-encoding: identity\r\n"));
}

#[tokio::test]
async fn an_event_of_a_compressed_stream_is_seen_before_the_next_is_sent() {
    let (seen, go_on) = oneshot::channel();
    let (url, served) = provider(async move |mut stream: TcpStream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"It \"}}]}\n\n").unwrap();
        // A server that compresses a stream flushes behind each event.
        packed.flush().unwrap();
        chunk(&mut stream, &std::mem::take(packed.get_mut())).await;
        go_on.await.expect("the caller has seen the first event");
        packed.write_all(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"rains.\"}}]}\n\n").unwrap();
        packed.write_all(b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n").unwrap();
        packed.write_all(b"data: [DONE]\n\n").unwrap();
        chunk(&mut stream, &packed.finish().unwrap()).await;
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let client = ServiceBuilder::new().layer(DecompressionLayer::new()).service(HttpClient::new().no_proxy());
    let leaf = OpenAi::compatible("house", &url).unwrap().model("m").transport(client);
    let ask = leaf.oneshot(LlmRequest::prompt("How is the weather?").with_stream(true));
    // The response is there with the first token.
    let response = timeout(Duration::from_secs(10), ask).await.expect("a delayed event").unwrap();
    seen.send(()).unwrap();
    assert_eq!(response.text().await.unwrap(), "It rains.");
    served.await.unwrap();
}

#[tokio::test]
async fn a_compressed_answer_has_the_limit_of_its_plain_form() {
    let long = [b"\"".as_slice(), &vec![b' '; 64 << 20], b"\""].concat();
    let (url, _) = whole("content-encoding: gzip\r\n", gzip(&long)).await;
    let client = ServiceBuilder::new().layer(DecompressionLayer::new()).service(HttpClient::new().no_proxy());
    let leaf = Anthropic::new("sk").base_url(&url).unwrap().model("claude-sonnet-4-5").transport(client);
    let error = leaf.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("larger than the limit"), "{error}");
}

const TEAM: HeaderName = HeaderName::from_static("x-team");

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn traces_and_headers_of_ones_own_are_around_the_client_and_no_key_is_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(move || writer.clone());
    // With one subscriber alone, tracing asks the thread that meets a line first, which may be another test's.
    let (_second, _here) =
        (Dispatch::new(tracing_subscriber::registry()), set_default(subscriber.with_ansi(false).finish()));

    let (url, served) = whole("set-cookie: edge=secret\r\n", ANSWER.to_vec()).await;
    let client = ServiceBuilder::new()
        .layer(SetRequestHeaderLayer::overriding(TEAM, HeaderValue::from_static("secret weather")))
        // A trace must see the marks: of the request further out, of the response further in.
        .layer(SetSensitiveRequestHeadersLayer::new([TEAM]))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(DefaultMakeSpan::new().level(Level::DEBUG).include_headers(true))
                .on_response(DefaultOnResponse::new().level(Level::DEBUG).include_headers(true)),
        )
        .layer(SetSensitiveResponseHeadersLayer::new([header::SET_COOKIE]))
        .layer(DecompressionLayer::new())
        .service(HttpClient::new().no_proxy());
    let leaf = Anthropic::new("sk-secret").base_url(&url).unwrap().model("claude-sonnet-4-5").transport(client);
    let response = leaf.oneshot(LlmRequest::prompt("How is the weather?")).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "It rains.");
    let head = served.await.unwrap();
    assert!(head.contains("\r\nx-team: secret weather\r\n") && head.contains("\r\nx-api-key: sk-secret\r\n"), "{head}");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("finished processing request") && log.contains("anthropic-version") && log.contains("x-team"),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");
}
