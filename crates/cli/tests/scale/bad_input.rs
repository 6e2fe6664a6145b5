//! Requests that are wrong: each is told so in its own dialect, and those beside it are served.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Client, Gateway, PATHS, Provider, SOON, client,
    common::{Folder, http::Answer},
    gateway::config,
};

/// Of `sk-of-the-caller`.
const KEYS: &str = "
keys:
  - name: caller
    hash: sha256:6607a081472e7ee37b13c1ab54c9e03aa822d0b1d55b0634e388494a37ceaf86
    models: ['claude-*', 'gpt-*']
";

const PROMPT: &str = r#""messages":[{"role":"user","content":"the words of the prompt"}]"#;

/// A request with this key and body.
fn post(path: &str, key: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: g\r\n{key}{more}content-length: {length}\r\n\r\n{body}")
}

const KEY: &str = "authorization: Bearer sk-of-the-caller\r\n";

/// A defect, the request, its status, and a word of the message.
fn wrong(path: &str) -> Vec<(&'static str, String, u16, &'static str)> {
    let with = |body: &str| post(path, KEY, "", body);
    let whole = format!(r#"{{"model":"claude-sonnet-4-5","max_tokens":5,{PROMPT}}}"#);
    vec![
        ("nothing", with(""), 400, ""),
        ("half an object", with(&whole[..whole.len() - 1]), 400, "at byte"),
        ("half a text", with(&whole[..whole.len() - 6]), 400, "at byte"),
        ("a comma too many", with(&format!(r#"{{"model":"m",,{PROMPT}}}"#)), 400, "at byte"),
        ("a list", with(&format!("[{whole}]")), 400, ""),
        ("two objects", with(&format!("{whole}{whole}")), 400, ""),
        ("not UTF-8 is spelt", with("{\"model\": \u{1}}"), 400, ""),
        ("a model that is no text", with(&format!(r#"{{"model":7,{PROMPT}}}"#)), 400, "model"),
        ("two models", with(&format!(r#"{{"model":"a","model":"b",{PROMPT}}}"#)), 400, "model"),
        (
            "two lists of messages",
            with(&format!(r#"{{"model":"gpt-of-the-caller",{PROMPT},"x":1,{PROMPT}}}"#)),
            400,
            "`messages` is there twice",
        ),
        (
            "two lists of tools",
            with(&format!(r#"{{"model":"gpt-of-the-caller","tools":[],{PROMPT},"tools":[]}}"#)),
            400,
            "`tools` is there twice",
        ),
        (
            "two longest answers",
            with(&format!(r#"{{"model":"gpt-of-the-caller","max_tokens":5,{PROMPT},"max_tokens":6}}"#)),
            400,
            "`max_tokens` is there twice",
        ),
        (
            "a stream that is neither",
            with(&format!(r#"{{"model":"gpt-of-the-caller","stream":"yes",{PROMPT}}}"#)),
            400,
            "stream",
        ),
        ("no messages", with(r#"{"model":"gpt-of-the-caller","max_tokens":5,"user":"of the prompt"}"#), 400, ""),
        (
            "brackets without an end",
            with(&format!(r#"{{"model":"gpt-of-the-caller","x":{}"#, "[".repeat(200_000))),
            400,
            "",
        ),
        ("an unknown model", with(&format!(r#"{{"model":"unheard-of",{PROMPT}}}"#)), 403, "model"),
        ("no key", post(path, "", "", &whole), 401, "key"),
        ("a wrong key", post(path, "x-api-key: sk-of-the-caller-not\r\n", "", &whole), 401, "key"),
        (
            "a key of another scheme",
            post(path, "authorization: Basic c2stb2YtdGhlLWNhbGxlcg==\r\n", "", &whole),
            401,
            "key",
        ),
        (
            "a body over the limit",
            format!("POST {path} HTTP/1.1\r\nhost: g\r\n{KEY}content-length: 99999999\r\n\r\n{{"),
            413,
            "limit",
        ),
        ("a path that is none", post(&format!("{path}/sk-of-the-caller"), KEY, "", &whole), 404, "path"),
        ("a method that is none here", format!("GET {path} HTTP/1.1\r\nhost: g\r\n{KEY}\r\n"), 405, "method"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_in_its_own_dialect_and_quickly_and_others_are_served() {
    let provider = Provider::start();
    let folder = Folder::new("scale-keys");
    let keys = folder.file("keys.yaml", KEYS);
    let keys = keys.to_str().unwrap();
    for arguments in [&["--keys", keys][..], &["--keys", keys, "--log-format", "json"]] {
        let gateway = Gateway::start(&config(&provider.address, ""), arguments);
        for path in PATHS {
            for (what, request, status, word) in wrong(path) {
                let begun = Instant::now();
                let mut client = Client::connect(gateway.address()).await.unwrap();
                client.send(request).await.unwrap();
                let beside = client::ask(gateway.address(), path, true);
                let (answer, beside) = tokio::join!(client.answer(), beside);
                let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(answer.status, status, "{what}: {answer:?}");
                assert!(answer.is_error_of(path) && answer.body.contains(word), "{what}: {answer:?}");
                assert!(beside.as_ref().is_ok_and(Answer::is_whole), "beside {what}: {beside:?}");
                assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
            }
        }
        gateway.end();
    }
}

/// A client that goes on sending must not be broken off before it has read the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_sends_too_much_gets_a_413_while_it_is_still_sending() {
    let provider = Provider::start();
    let gateway = Gateway::start(&config(&provider.address, ""), &[]);
    for path in PATHS {
        for length in ["content-length: 40000000", "transfer-encoding: chunked"] {
            let mut client = Client::connect(gateway.address()).await.unwrap();
            let (mut reading, mut writing) = client.stream.split();
            let head = format!("POST {path} HTTP/1.1\r\nhost: g\r\n{length}\r\n\r\n2625a00\r\n");
            let sending = async {
                writing.write_all(head.as_bytes()).await?;
                for _ in 0..40 {
                    writing.write_all(&[b' '; 1_000_000]).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            let mut answer = String::new();
            let (sent, read) = tokio::join!(sending, reading.read_to_string(&mut answer));
            sent.expect("it can send all of it");
            read.expect("the connection ends in good order");
            assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("limit"), "{answer}");
        }
    }
    gateway.end();
}
