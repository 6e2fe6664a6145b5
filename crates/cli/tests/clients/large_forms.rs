//! Forms over `gateway.max_body`: they stream to one provider, once. What their callers do wrong is nobody else's harm.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::common::serve::{Serve, Served};

/// A provider that writes down how many bytes it was sent.
struct Provider {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    is_down: AtomicBool,
    whole: AtomicUsize,
    broken: AtomicUsize,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, task }
    }

    /// Returns the numbers of requests that came whole, and that broke off.
    fn calls(&self) -> (usize, usize) {
        (self.state.whole.load(SeqCst), self.state.broken.load(SeqCst))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (mut body, mut length, mut beginning) = (request.into_body(), 0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            state.broken.fetch_add(1, SeqCst);
            return Ok(Response::new(Full::default()));
        };
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if beginning.len() < 1000 {
            beginning.extend_from_slice(&data);
        }
    }
    state.whole.fetch_add(1, SeqCst);
    let beginning = String::from_utf8_lossy(&beginning);
    let model = beginning.split("\"model\"\r\n\r\n").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut response = Response::new(Full::from(json!({"text": length.to_string(), "model": model}).to_string()));
    if state.is_down.load(SeqCst) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}

/// Two providers of models that stand for each other.
struct World {
    first: Provider,
    second: Provider,
    gateway: Served,
}

impl World {
    async fn start() -> Self {
        let (first, second) = (Provider::start().await, Provider::start().await);
        let config = format!(
            "tiers: [{{ name: chat, provider: simulated }}]\n\
             lane:\n  tiers:\n\
             \x20   - {{ name: first, provider: openai, model: whisper-1, base_url: 'http://{}/v1', api_key: '${{ONE}}', interchangeable: true }}\n\
             \x20   - {{ name: second, provider: openai, model: whisper-large, base_url: 'http://{}/v1', api_key: '${{ONE}}', interchangeable: true }}\n\
             gateway: {{ max_body: 1MiB, body_idle_timeout: 500ms, memory: 64MiB }}\n\
             retry: {{ max_attempts: 1 }}\n",
            first.address, second.address,
        );
        let gateway = Serve::with(&config).env("ONE", "sk-one").start();
        Self { first, second, gateway }
    }

    /// Begins a request with this header for its length.
    async fn begin(&self, length: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.gateway.address()).await.unwrap();
        let head = format!(
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\
             content-type: multipart/form-data; boundary=x\r\n{length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a whole form.
    async fn send(&self, form: &[u8]) -> (u16, Value) {
        let mut stream = self.begin(&format!("content-length: {}", form.len())).await;
        // A gateway that refuses a form need not read all of it.
        let _refused = stream.write_all(form).await;
        answer_on(stream).await
    }

    /// Returns the state of a tier's circuit.
    async fn circuit(&self, tier: &str) -> String {
        let mut stream = TcpStream::connect(self.gateway.address()).await.unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n").await.unwrap();
        let (_, status) = answer_on(stream).await;
        let tiers = status["tiers"].as_array().unwrap();
        let tier = tiers.iter().find(|known| known["name"] == tier).unwrap_or_else(|| panic!("{status}"));
        tier["circuit"].as_str().unwrap().to_owned()
    }
}

async fn answer_on(mut stream: TcpStream) -> (u16, Value) {
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer}")).parse().unwrap();
    let (begin, end) = (answer.find('{').unwrap_or_else(|| panic!("{answer}")), answer.rfind('}').unwrap());
    (status, serde_json::from_str(&answer[begin..=end]).unwrap())
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

fn part(name: &str, value: &str) -> String {
    format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// A form with a file of this many bytes, and parts before and behind it.
fn form(before: &str, file: usize, behind: &str) -> Vec<u8> {
    (before.to_owned() + &part("file", &"a".repeat(file)) + behind + "--x--\r\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_over_the_limit_streams_whatever_its_size() {
    let world = World::start().await;
    const PIECE: usize = 1 << 20;
    // Larger than everything that the gateway may hold.
    const PIECES: usize = 200;
    for announced in [true, false] {
        let beginning = part("model", "whisper-1") + "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n";
        let end = "\r\n--x--\r\n";
        let length = beginning.len() + PIECE * PIECES + end.len();
        let announcement = match announced {
            true => format!("content-length: {length}"),
            false => "transfer-encoding: chunked".to_owned(),
        };
        let mut stream = world.begin(&announcement).await;
        let file = vec![b'a'; PIECE];
        let pieces = std::iter::repeat_n(&file[..], PIECES);
        for piece in std::iter::once(beginning.as_bytes()).chain(pieces).chain([end.as_bytes()]) {
            if !announced {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(piece).await.unwrap();
            if !announced {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if !announced {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let (status, answer) = answer_on(stream).await;
        assert_eq!((status, &answer), (200, &json!({"text": length.to_string(), "model": "whisper-1"})));
    }
    assert_eq!((world.first.calls(), world.second.calls()), ((2, 0), (0, 0)));
    let (status, large) = answer_on(world.begin("content-length: 3000000000").await).await;
    assert!(status == 413 && message(&large).contains("2147483648"), "{large}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_form_is_sent_once_and_to_a_tier_that_is_well() {
    let world = World::start().await;
    let large = form(&part("model", "whisper-1"), 3 << 20, "");
    world.first.state.is_down.store(true, SeqCst);
    let (status, failed) = world.send(&large).await;
    assert_eq!((status, world.first.calls(), world.second.calls()), (503, (1, 0), (0, 0)), "{failed}");
    // Small forms go on to the second tier, until the circuit of the first is open.
    for _ in 0..40 {
        assert_eq!(world.send(&form("", 10, &part("model", "whisper-1"))).await.0, 200);
    }
    assert_eq!(world.circuit("first").await, "open");
    let before = world.first.calls();
    let (status, answer) = world.send(&large).await;
    let length = (large.len() + "whisper-large".len() - "whisper-1".len()).to_string();
    assert_eq!((status, &answer), (200, &json!({"text": length, "model": "whisper-large"})));
    assert_eq!(world.first.calls(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_does_wrong_with_a_large_form_opens_no_circuit() {
    let world = World::start().await;
    let (model, size) = (part("model", "whisper-1"), 3 << 20);
    let (status, late) = world.send(&form("", size, &model)).await;
    assert_eq!(status, 413);
    assert!(message(&late).contains("must have its `model` before its file"), "{late}");
    assert_eq!(world.first.calls(), (0, 0));
    // Many of each: a circuit needs more than one.
    for _ in 0..15 {
        let (status, twice) = world.send(&form(&model, size, &part("model", "gpt-image-1"))).await;
        assert!(status == 400 && message(&twice).contains("two fields are named `model`"), "{status} {twice}");
        let (status, count) = world.send(&form(&model, size, &part("n", "9"))).await;
        assert!(status == 400 && message(&count).contains("must come before the file"), "{status} {count}");
        let whole = form(&model, size, "");
        let (status, endless) = world.send(&whole[..whole.len() - 4]).await;
        assert!(status == 400 && message(&endless).contains("it has no end"), "{status} {endless}");
        let mut stream = world.begin(&format!("content-length: {}", whole.len())).await;
        stream.write_all(&whole[..2 << 20]).await.unwrap();
        drop(stream);
    }
    let mut stream = world.begin("content-length: 4000000").await;
    stream.write_all(&form(&model, 2 << 20, "")).await.unwrap();
    let (status, silent) = answer_on(stream).await;
    assert_eq!(status, 408, "{silent}");
    let (whole, broken) = world.first.calls();
    assert!(whole == 0 && broken > 30, "{whole} {broken}");
    assert_eq!(world.circuit("first").await, "closed");
    let (status, answer) = world.send(&form(&model, size, "")).await;
    assert_eq!((status, &answer["model"], world.second.calls()), (200, &json!("whisper-1"), (0, 0)), "{answer}");
}
