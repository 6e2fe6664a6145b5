//! Objects that belong to one provider: files, batches, threads and the like. Their ids decide the tier, also after a
//! restart, and no other provider is ever asked. The official SDKs, and a plain client where a test needs none.

mod provider;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::provider::Provider;
use crate::common::{
    sdk,
    serve::{Serve, Served},
};

/// Two accounts of each protocol.
struct World {
    main: Provider,
    other: Provider,
    claude: Provider,
    gateway: Served,
}

const FORM: &str = "multipart/form-data; boundary=x";
const KEYS: [(&str, &str); 2] = [("one", "sk-one"), ("two", "sk-two")];

fn entries() -> String {
    use sha2::{Digest as _, Sha256};
    let hash = |key: &str| Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    KEYS.iter().map(|(name, key)| format!("  - {{ name: {name}, hash: 'sha256:{}' }}\n", hash(key))).collect()
}

impl World {
    async fn start(more: &str, has_keys: bool) -> Self {
        let (main, other) = (Provider::start("main").await, Provider::start("other").await);
        let claude = Provider::start("claude").await;
        let config = format!(
            "tiers:\n\
             \x20 - {{ name: main, provider: openai, model: gpt-4o, base_url: '{}/v1', api_key: '${{ONE}}' }}\n\
             \x20 - {{ name: other, provider: openai, model: gpt-other, base_url: '{}/v1', api_key: '${{TWO}}' }}\n\
             \x20 - {{ name: claude, provider: anthropic, model: claude-sonnet-4-5, base_url: '{}', \
             api_key: '${{THREE}}' }}\n\
             features: {{ batches: {{ tiers: [other, main] }} }}\n{more}",
            main.url(),
            other.url(),
            claude.url(),
        );
        let serve = Serve::with(&config).env("ONE", "sk-main").env("TWO", "sk-other").env("THREE", "sk-c");
        let serve = if has_keys { serve.keys(&entries()) } else { serve };
        Self { main, other, claude, gateway: serve.start() }
    }

    /// Sends a request, with a key of the gateway's.
    async fn ask(&self, request: &str, key: &str, body: &str) -> (u16, String) {
        let kind = if body.starts_with('{') || body.is_empty() { "application/json" } else { FORM };
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: g\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
             content-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        self.raw(&[head.as_bytes(), body.as_bytes()].concat()).await
    }

    async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.gateway.address()).await.unwrap();
        stream.write_all(request).await.unwrap();
        answer_on(stream).await
    }

    async fn make(&self, request: &str, key: &str, body: &str) -> Value {
        let (status, answer) = self.ask(request, key, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
        json_in(&answer)
    }
}

async fn answer_on(mut stream: TcpStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer}")).parse().unwrap(), answer)
}

/// The JSON of an answer, which may be in a chunk.
fn json_in(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let (begin, end) = (body.find('{').unwrap(), body.rfind('}').unwrap());
    serde_json::from_str(&body[begin..=end]).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}

fn message(answer: &str) -> String {
    json_in(answer)["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_decides_while_its_provider_fails_and_after_a_restart() {
    let folder = crate::common::Folder::new("objects");
    let file = folder.path("places.db");
    let mut world = World::start(&format!("stores: {{ durable: 'sqlite:{}' }}\n", file.display()), false).await;
    let uploaded = id(&world.make("POST /v1/files", "", "--x\r\n\r\nlines\r\n--x--\r\n").await);
    assert!(uploaded.starts_with("file-main"), "{uploaded}");
    let order = json!({"input_file_id": uploaded, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    // The feature's first tier is another: the file decides.
    let head = "POST /v1/batches HTTP/1.1\r\nhost: g\r\nconnection: close\r\nx-steadfast-feature: batches\r\n";
    let order = order.to_string();
    let (status, batch) = world.raw(format!("{head}content-length: {}\r\n\r\n{order}", order.len()).as_bytes()).await;
    assert_eq!(status, 200, "{batch}");
    assert!(batch.contains("x-steadfast-tier: main\r\n"), "{batch}");
    let batch = json_in(&batch);
    let output = batch["output_file_id"].as_str().unwrap().to_owned();
    // A model names the tier of what is made.
    let helper = id(&world.make("POST /v1/assistants", "", r#"{"model":"gpt-other"}"#).await);
    assert!(helper.starts_with("asst_other"), "{helper}");
    let (status, mixed) =
        world.ask("POST /v1/threads", "", &json!({"assistant_id": helper, "file_ids": [uploaded]}).to_string()).await;
    assert_eq!(status, 400, "{mixed}");
    assert!(message(&mixed).contains("a request goes to one"), "{mixed}");

    for round in 0..2 {
        let reads = format!("GET /v1/batches/{}?api-version=1&key=k&x=1", id(&batch));
        assert_eq!(world.make(&reads, "", "").await["input_file_id"], uploaded.as_str());
        let calls = world.main.calls();
        assert_eq!(calls.last().unwrap(), &format!("GET /v1/batches/{}?x=1", id(&batch)));
        let (status, content) = world.ask(&format!("GET /openai/files/{output}/content"), "", "").await;
        assert!(status == 200 && content.contains(&format!("content of {output}")), "{content}");

        let before = world.other.calls();
        world.main.set_down(true);
        let (status, down) = world.ask(&reads, "", "").await;
        assert_eq!((status, message(&down).as_str()), (503, "down for maintenance"), "{down}");
        world.main.set_down(false);
        let (status, unknown) = world.ask("GET /v1/files/file-of-yesterday", "", "").await;
        assert_eq!(status, 404, "{unknown}");
        assert!(message(&unknown).contains("file-of-yesterday") && message(&unknown).contains("main, other"));
        assert_eq!(world.other.calls(), before, "round {round}");
        world.gateway.start_again();
    }
    assert_eq!(world.make(&format!("DELETE /v1/files/{uploaded}"), "", "").await["deleted"], true);
    let (status, gone) = world.ask(&format!("GET /v1/files/{uploaded}"), "", "").await;
    assert_eq!((status, message(&gone).contains("main, other")), (404, true), "{gone}");
    assert_eq!(
        (world.main.keys(), world.other.keys()),
        (vec!["Bearer sk-main".into()], vec!["Bearer sk-other".into()])
    );

    // Nobody is there any more.
    let World { main, other, gateway, claude } = world;
    drop(main);
    let world = World { main: Provider::start("new").await, other, gateway, claude };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = world.other.calls();
    let (status, silent) = world.ask(&format!("GET /v1/batches/{}", id(&batch)), "", "").await;
    assert!((500..=504).contains(&status), "{silent}");
    let told = message(&silent);
    assert!(told.contains("`main`") && told.contains("no other provider has it"), "{told}");
    assert_eq!(world.other.calls(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_sees_the_objects_of_another() {
    let world = World::start("", true).await;
    let own = id(&world.make("POST /v1/files", "sk-one", "--x--").await);
    let others = id(&world.make("POST /v1/files", "sk-two", "--x--").await);
    assert_eq!(world.ask("GET /v1/files", "sk-three", "").await.0, 401);
    for (request, body) in [
        (format!("GET /v1/files/{others}"), String::new()),
        (format!("GET /v1/files/{others}/content"), String::new()),
        (format!("DELETE /v1/files/{others}"), String::new()),
        ("GET /v1/files/file-of-nobody".to_owned(), String::new()),
        ("POST /v1/batches".to_owned(), json!({ "input_file_id": others }).to_string()),
        ("POST /v1/vector_stores".to_owned(), json!({"file_ids": [own, others]}).to_string()),
        ("POST /v1/vector_stores/vs_none/files".to_owned(), json!({ "file_id": own }).to_string()),
    ] {
        let calls = world.main.calls();
        let (status, refused) = world.ask(&request, "sk-one", &body).await;
        assert_eq!(status, 404, "{request}: {refused}");
        assert!(message(&refused).contains("no object of this key has this id"), "{refused}");
        assert_eq!(world.main.calls(), calls, "{request}");
    }
    let listed = world.make("GET /v1/files?limit=10", "sk-one", "").await;
    let ids: Vec<String> = listed["data"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [own.as_str()]);
    let store = world.make("POST /v1/vector_stores", "sk-one", &json!({ "file_ids": [own] }).to_string()).await;
    world.make(&format!("GET /v1/vector_stores/{}/files", id(&store)), "sk-one", "").await;
    for path in ["/v1/files/..%2fchat", "/v1/files/../models", "/v1/files/a/b/c/d/e/f/g/h/i"] {
        assert_eq!(world.ask(&format!("GET {path}"), "sk-one", "").await.0, 404, "{path}");
    }
    assert_eq!(world.ask("PUT /v1/files", "sk-one", "").await.0, 405);
    let (status, wrong) = world.ask("POST /v1/batches", "sk-one", "{\"input_file_id\":").await;
    assert!(status == 400 && message(&wrong).contains("no JSON"), "{wrong}");
}

/// The sender's own word for a body's type decides nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_looked_at_whatever_its_body_is_called() {
    let world = World::start("", true).await;
    let own = id(&world.make("POST /v1/files", "sk-one", "--x--").await);
    let others = id(&world.make("POST /v1/files", "sk-two", "--x--").await);
    let store = id(&world.make("POST /v1/vector_stores", "sk-one", &json!({ "file_ids": [own] }).to_string()).await);
    let send = async |path: &str, lines: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\nauthorization: Bearer sk-one\r\n");
        let request = format!("{head}content-length: {}\r\n{lines}\r\n\r\n{body}", body.len());
        world.raw(request.as_bytes()).await
    };
    let into = format!("/v1/vector_stores/{store}/files");
    let json = |id: &str| json!({ "file_id": id }).to_string();
    for kind in [
        "application/json",
        "application/json; charset=utf-16",
        "application/vnd.api+json",
        "application/json-seq",
        "text/json",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "image/png",
        "x",
        "",
    ] {
        let calls = world.main.calls();
        let line = format!("content-type: {kind}");
        let (status, refused) = send(&into, &line, &json(&others)).await;
        assert_eq!((status, world.main.calls()), (404, calls), "{kind}: {refused}");
        assert!(message(&refused).contains("no object of this key has this id"), "{kind}: {refused}");
        assert_eq!(send(&into, &line, &json(&own)).await.0, 200, "{kind}");
    }
    let field =
        |name: &str, value: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let file = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nlines\r\n";
    let form = format!("content-type: {FORM}");
    let calls = world.main.calls();
    for (path, lines, body, expected) in [
        (&*into, &*form, field("file_id", &others) + "--x--", 415),
        ("/v1/assistants", &*form, field("model", "gpt-4o") + "--x--", 415),
        (&*into, "content-type: text/plain, application/json", json(&own), 415),
        (&*into, "content-type: application/json\r\ncontent-type: text/plain", json(&own), 415),
        (&*into, "content-type: application/json\r\ncontent-encoding: compress", json(&own), 415),
        ("/v1/files", "content-type: text/plain", "lines".to_owned(), 400),
        ("/v1/files", "content-type: multipart/form-data", "--x--".to_owned(), 400),
        ("/v1/files", "content-type: multipart/form-data; boundary=x; boundary=y", "--x--".to_owned(), 400),
        ("/v1/files", &*form, field("file_id", &others) + file + "--x--", 404),
        ("/v1/files", &*form, file.to_owned() + &field("FILE_IDS[]", &others) + "--x--", 404),
        ("/v1/files", &*form, file.replace("; name", "; name=\"x\"; name") + "--x--", 400),
        ("/v1/files", &*form, file.to_owned(), 400),
        ("/v1/vector_stores", "x-steadfast-feature: B\u{fc}ro", json(&own), 400),
    ] {
        let (status, refused) = send(path, lines, &body).await;
        assert_eq!((status, world.main.calls()), (expected, calls.clone()), "{path} {lines} {body}: {refused}");
    }
    let uploaded = field("purpose", "batch") + &field("user_id", "me") + file + "--x--\r\n";
    assert_eq!(send("/v1/files", &form, &uploaded).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_streams_and_is_bounded() {
    let world = World::start("gateway: { max_body: 1MiB, body_idle_timeout: 500ms, memory: 64MiB }\n", false).await;
    let head = "POST /v1/files HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\
                content-type: multipart/form-data; boundary=x\r\n";
    // Larger than everything that the gateway may hold.
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 200;
    for announced in [true, false] {
        let mut stream = TcpStream::connect(world.gateway.address()).await.unwrap();
        let length = match announced {
            true => format!("content-length: {}", PIECE * PIECES),
            false => "transfer-encoding: chunked".to_owned(),
        };
        stream.write_all(format!("{head}{length}\r\n\r\n").as_bytes()).await.unwrap();
        let piece = vec![b'a'; PIECE];
        for _ in 0..PIECES {
            if !announced {
                stream.write_all(format!("{PIECE:x}\r\n").as_bytes()).await.unwrap();
            }
            stream.write_all(&piece).await.unwrap();
            if !announced {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if !announced {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let (status, answer) = answer_on(stream).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(world.main.bytes_of(&id(&json_in(&answer))), (PIECE * PIECES) as u64);
    }
    let (status, large) = world.raw(format!("{head}content-length: 3000000000\r\n\r\n").as_bytes()).await;
    assert!(status == 413 && message(&large).contains("2147483648"), "{large}");
    // A body without an end.
    for length in ["content-length: 100", "transfer-encoding: chunked"] {
        let part = if length.contains("chunked") { "5\r\nabcde\r\n" } else { "abcde" };
        let (status, slow) = world.raw(format!("{head}{length}\r\n\r\n{part}").as_bytes()).await;
        assert_eq!(status, 408, "{slow}");
    }
    let json = format!("{{\"name\":\"{}\"}}", "a".repeat(2 << 20));
    assert_eq!(world.ask("POST /v1/assistants", "", &json).await.0, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_provider_is_asked_for_an_id_that_is_unknown() {
    let provider = Provider::start("only").await;
    let config = format!(
        "tiers:\n  - {{ name: main, provider: openai, model: gpt-4o, base_url: '{url}/v1', api_key: '${{ONE}}' }}\n\
         \x20 - {{ name: mini, provider: openai, model: gpt-mini, base_url: '{url}/v1', api_key: '${{ONE}}' }}\n",
        url = provider.url()
    );
    let gateway = Serve::with(&config).env("ONE", "sk-main").start();
    let (status, answer) = {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        let request = "GET /v1/files/file-of-yesterday HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        answer_on(stream).await
    };
    assert_eq!((status, message(&answer).as_str()), (404, "no such object"));
    // No tier is Anthropic's.
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let request = "GET /v1/messages/batches HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (status, answer) = answer_on(stream).await;
    assert_eq!((status, json_in(&answer)["type"].as_str()), (404, Some("error")), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_keep_files_and_batches_at_their_providers() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/objects/objects.py");
    let Some(mut python) = sdk::python_with("STEADFAST_SDK_PYTHON", script, &["openai", "anthropic"]) else { return };
    let world = World::start("", true).await;
    python.arg(world.gateway.address());
    let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
    assert!(world.other.calls().is_empty(), "{:?}", world.other.calls());
    assert_eq!(world.claude.keys(), ["sk-c"]);
}
