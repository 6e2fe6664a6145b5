//! One reader decides what a request says: a text that another reader would take in another way is refused.

use serde_json::{Value, json};

use super::{bodies::packed_in, harness::*};
use crate::{api::Keys, limits::Settings};

const FILE: &str = "
tiers:
  - { name: a, provider: openai, model: cheap-1 }
  - { name: b, provider: openai, base_url: 'https://other.test/v1', api_key: '${OTHER_KEY}', model: cheap-1 }
lane:
  other: pass
  tiers:
    - { name: small, provider: openai, model: cheap-1, space: small/3 }
    - { name: ears, provider: openai, model: cheap-2 }
retry: { max_attempts: 1 }
";
const CHAT_ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"cheap-1","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"data":[{"embedding":[1,2,3]}]}"#;
const EMBEDDINGS: &str = "/v1/embeddings";
const DREAMS: &str = "/v1/dreams";
const EARS: &str = "/v1/audio/transcriptions";

/// A key for `cheap-*` alone, and one for everything.
const SMALL: (&str, &str) = ("authorization", "Bearer sk-small");
const TWO: (&str, &str) = ("authorization", "Bearer sk-two");

fn keys() -> Option<Keys> {
    Some(keys_of(&[
        entry("small", "sk-small", ", models: ['cheap-*'], pass_through: true"),
        entry("two", "sk-two", ", pass_through: true"),
    ]))
}

async fn served(file: &str, answers: &[(u16, &'static str)]) -> (Server, Sent) {
    let (stack, sent) = scripted(file, answers);
    (Server::with_stack(&stack, keys(), Settings::default()).await, sent)
}

/// Sends a body as it is.
async fn send(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut client = server.connect().await;
    client.send(&request("POST", path, headers, body)).await;
    client.answer().await
}

/// A body of a path, with this text behind its first brace.
fn body(path: &str, first: &str) -> String {
    let rest = match path {
        CHAT => r#""messages":[{"role":"user","content":"hi"}]}"#,
        MESSAGES => r#""max_tokens":10,"messages":[{"role":"user","content":"hi"}]}"#,
        _ => r#""input":"hi"}"#,
    };
    format!("{{{first}{rest}")
}

#[tokio::test]
async fn a_key_is_for_every_model_that_a_body_names_in_any_letters() {
    let (server, sent) = served(FILE, &[(200, CHAT_ANSWER)]).await;
    let before = |sent: &Sent| sent.lock().unwrap().len();
    // Names that only some readers take for a field: refused to everybody.
    for path in [CHAT, MESSAGES, RESPONSES, EMBEDDINGS, DREAMS] {
        for more in [
            r#""Model":"gpt-5-pro","#,
            r#""MODEL":"gpt-5-pro","#,
            r#""mode\u006c\u0000":"gpt-5-pro","#,
            r#""model":"gpt-5-pro","#,
            r#""\u017ftream":true,"#,
            r#""Stream":true,"#,
        ] {
            for key in [SMALL, TWO] {
                let calls = before(&sent);
                let refused =
                    send(&server, path, &[key], body(path, &format!(r#""model":"cheap-1",{more}"#)).as_bytes()).await;
                assert_eq!((refused.status, before(&sent)), (400, calls), "{path} {more}: {}", refused.body);
            }
        }
    }
    // Names of further models: refused to a key that is not for them.
    for path in [CHAT, MESSAGES, RESPONSES, EMBEDDINGS, DREAMS] {
        for (more, status) in [
            (r#""models":["gpt-5-pro"],"#, 403),
            (r#""models":["cheap-2","gpt-5-pro"],"route":"fallback","#, 400),
            (r#""route":"fallback","#, 400),
            (r#""preset":"dear","#, 400),
            (r#""fallbacks":["gpt-5-pro"],"#, 403),
            (r#""fallbacks":[{"cheap-1":["gpt-5-pro"]}],"#, 403),
            (r#""context_window_fallbacks":[{"model":"gpt-5-pro"}],"#, 403),
            (r#""extra_body":{"model":"gpt-5-pro"},"#, 403),
            (r#""provider":{"models":["gpt-5-pro"]},"#, 403),
            (r#""tools":[{"type":"image_generation","model":"gpt-image-1"}],"#, 403),
            (r#""models":["cheap-2"],"fallbacks":["cheap-3"],"#, 200),
            (r#""provider":{"order":["x"],"allow_fallbacks":true},"metadata":{"model":"x"},"#, 200),
        ] {
            let named = format!(r#""model":"cheap-1",{more}"#);
            let calls = before(&sent);
            let answer = send(&server, path, &[SMALL], body(path, &named).as_bytes()).await;
            let is_served = before(&sent) > calls;
            assert_eq!(is_served, status == 200, "{path} {more}: {}", answer.body);
            assert!(is_served || answer.status == status, "{path} {more}: {} {}", answer.status, answer.body);
            let calls = before(&sent);
            send(&server, path, &[TWO], body(path, &named).as_bytes()).await;
            let is_refused = path == MESSAGES || path == RESPONSES;
            assert!(before(&sent) > calls || is_refused, "{path} {more}: a key for everything");
        }
    }
}

#[tokio::test]
async fn a_body_has_one_type_and_an_encoding_that_is_known() {
    let (server, sent) = served(FILE, &[(200, CHAT_ANSWER)]).await;
    for path in [CHAT, MESSAGES, RESPONSES, EMBEDDINGS, DREAMS, "/v1/messages/count_tokens"] {
        let body = body(path, r#""model":"gpt-5-pro","#);
        for headers in [
            [SMALL, ("content-type", "text/plain, application/json")],
            [SMALL, ("content-encoding", "compress")],
            [TWO, ("content-encoding", "gzip, snappy")],
            [TWO, ("content-encoding", "gzip, gzip, gzip, gzip")],
            [TWO, ("content-type", "application/json, multipart/form-data; boundary=b")],
        ] {
            let refused = send(&server, path, &headers, body.as_bytes()).await;
            assert_eq!(refused.status, 415, "{path} {headers:?}: {}", refused.body);
        }
        let twice = [SMALL, ("content-type", "text/plain"), ("content-type", "application/json")];
        assert_eq!(send(&server, path, &twice, body.as_bytes()).await.status, 415, "{path}");
        for kind in [
            "text/plain",
            "application/vnd.api+json",
            "application/x-www-form-urlencoded",
            "application/octet-stream",
            "text/json",
        ] {
            let refused = send(&server, path, &[SMALL, ("content-type", kind)], body.as_bytes()).await;
            assert!([403, 404, 415].contains(&refused.status), "{path} {kind}: {} {}", refused.status, refused.body);
        }
    }
    assert!(sent.lock().unwrap().is_empty());
    // A provider gets it as JSON.
    let cheap = body(EMBEDDINGS, r#""model":"cheap-1","#);
    assert_eq!(send(&server, EMBEDDINGS, &[SMALL, ("content-type", "text/plain")], cheap.as_bytes()).await.status, 200);
    let octets = [SMALL, ("content-type", "application/octet-stream")];
    assert_eq!(send(&server, DREAMS, &octets, b"dear-1").await.status, 415);
}

#[tokio::test]
async fn a_form_whose_model_readers_differ_about_is_refused() {
    let (server, sent) = served(FILE, &[(200, r#"{"text":"hi"}"#)]).await;
    let model = |disposition: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
    };
    let cheap = model("name=\"model\"", "cheap-2");
    let form = [SMALL, ("content-type", "multipart/form-data; boundary=b")];
    assert_eq!(send(&server, EARS, &form, (cheap.clone() + "--b--").as_bytes()).await.status, 200);
    let calls = sent.lock().unwrap().len();
    for more in [
        model("name*=UTF-8\'\'model", "dear-1"),
        model("name=\"x\"; name=\"model\"", "dear-1"),
        "--b\r\nContent-Disposition: form-data;\r\n name=\"model\"\r\n\r\ndear-1\r\n".to_owned(),
        model("name=\"x\"", "1\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndear-1"),
        model("name=\"model\"", "dear-1"),
        model("name=\"Model\"", "dear-1"),
    ] {
        for body in [format!("{cheap}{more}--b--\r\n"), format!("{more}{cheap}--b--\r\n")] {
            let refused = send(&server, EARS, &form, body.as_bytes()).await;
            assert_eq!(refused.status, 400, "{body}: {}", refused.body);
        }
    }
    let twice = [SMALL, ("content-type", "multipart/form-data; boundary=b; boundary=c")];
    assert_eq!(send(&server, EARS, &twice, (cheap + "--b--").as_bytes()).await.status, 400);
    assert_eq!(sent.lock().unwrap().len(), calls);
}

#[tokio::test]
async fn a_request_without_a_model_is_refused_where_the_file_has_models() {
    let file = format!("{FILE}models: {{ cheap-1: {{ tiers: [a] }} }}\n");
    let (server, sent) = served(&file, &[(200, CHAT_ANSWER)]).await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        for first in ["", r#""model":null,"#, r#""Model":"cheap-1","#, r#""model":7,"#] {
            for key in [SMALL, TWO] {
                let refused = send(&server, path, &[key], body(path, first).as_bytes()).await;
                assert_eq!(refused.status, 400, "{path} {first}: {}", refused.body);
                assert!(refused.body.contains("model"), "{}", refused.body);
            }
        }
    }
    assert!(sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_session_is_its_keys_own() {
    let file = format!("{FILE}fallback: {{ session: pin }}\n");
    const BUSY: &str = r#"{"error":{"message":"busy","type":"server_error"}}"#;
    let (server, _) = served(&file, &[(500, BUSY), (200, CHAT_ANSWER)]).await;
    let ask = async |key: (&str, &str)| {
        let headers = [key, ("x-steadfast-session", "user-42")];
        let answer = send(&server, CHAT, &headers, body(CHAT, r#""model":"cheap-1","#).as_bytes()).await;
        answer.header("x-steadfast-tier").unwrap_or_default().to_owned()
    };
    // The first tier fails the first call of `two`, which stays with the second.
    assert_eq!([ask(TWO).await, ask(SMALL).await, ask(TWO).await, ask(SMALL).await], ["b", "a", "b", "a"]);
}

#[tokio::test]
async fn a_name_in_a_header_that_cannot_be_kept_is_refused_on_every_path() {
    let (server, sent) = served(FILE, &[(200, CHAT_ANSWER)]).await;
    for path in [CHAT, MESSAGES, RESPONSES, EMBEDDINGS, "/v1/messages/count_tokens"] {
        for (name, value) in [
            ("idempotency-key", "bestellung-ä-17"),
            ("idempotency-key", ""),
            ("x-steadfast-idempotency-key", "\u{212a}"),
            ("x-steadfast-feature", "Büro"),
            ("x-steadfast-session", "Büro"),
        ] {
            let refused =
                send(&server, path, &[TWO, (name, value)], body(path, r#""model":"cheap-1","#).as_bytes()).await;
            assert_eq!(refused.status, 400, "{path} {name}: {}", refused.body);
            assert!(
                refused.body.contains(name) && !refused.body.contains(value) || value.is_empty(),
                "{}",
                refused.body
            );
        }
    }
    assert!(sent.lock().unwrap().is_empty());
    let said: Value =
        send(&server, CHAT, &[TWO, ("idempotency-key", "a-1")], body(CHAT, r#""model":"cheap-1","#).as_bytes())
            .await
            .json();
    assert_eq!(said["choices"][0]["message"]["content"], json!("hi"));
}

/// The codings of bodies, one in the other, that are opened.
const CODINGS: [&str; 8] = ["gzip", "x-gzip", "GZIP", "zstd", "br", "deflate", "identity", "gzip, zstd"];

/// A path, a body for it with a model that the small key may have, and its content type.
fn bodies() -> Vec<(&'static str, String, &'static str)> {
    let field = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ncheap-2\r\n";
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nsound\r\n--b--\r\n";
    let mut bodies: Vec<_> = [CHAT, MESSAGES, RESPONSES, EMBEDDINGS, DREAMS]
        .map(|path| (path, body(path, r#""model":"cheap-1","#), "application/json"))
        .into();
    let counted = body(MESSAGES, r#""model":"cheap-1","#);
    bodies.push(("/v1/messages/count_tokens", counted, "application/json"));
    let contents = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    bodies.push(("/v1beta/models/cheap-1:generateContent", contents.to_owned(), "application/json"));
    bodies.push((EARS, format!("{field}{file}"), "multipart/form-data; boundary=b"));
    bodies
}

#[tokio::test]
async fn a_body_in_a_known_encoding_is_read_as_if_it_had_none() {
    for (path, body, kind) in bodies() {
        let (server, sent) = served(FILE, &[(200, CHAT_ANSWER)]).await;
        let plain = send(&server, path, &[SMALL, ("content-type", kind)], body.as_bytes()).await;
        assert_eq!(plain.status, 200, "{path}: {}", plain.body);
        let first = sent.lock().unwrap().last().cloned();
        for coding in CODINGS {
            let packed = packed_in(coding, body.as_bytes()).await;
            let headers = [SMALL, ("content-type", kind), ("content-encoding", coding)];
            let answer = send(&server, path, &headers, &packed).await;
            assert_eq!((answer.status, &answer.text()), (200, &plain.text()), "{path} {coding}: {}", answer.body);
            assert_eq!(sent.lock().unwrap().last().cloned(), first, "{path} {coding}: what the provider gets");
            // The models of a body are looked at, whatever is around it.
            let dear = packed_in(coding, body.replace("cheap-", "dear-").as_bytes()).await;
            let path = path.replace("cheap-", "dear-");
            let refused = send(&server, &path, &headers, &dear).await;
            assert!([403, 404].contains(&refused.status), "{path} {coding}: {} {}", refused.status, refused.body);
        }
    }
}

#[tokio::test]
async fn a_body_that_opens_to_more_than_the_limit_is_refused_at_the_limit() {
    let (stack, sent) = scripted(FILE, &[(200, CHAT_ANSWER)]);
    let server = Server::with_stack(&stack, keys(), Settings { body: 1 << 20, ..Settings::default() }).await;
    // Blocks of 128 KiB in four bytes each (RFC 8878, 3.1.1.2): 30 GB.
    let gigabytes = [&b"\x28\xb5\x2f\xfd\x00\x68"[..], &b"\x02\x00\x10 ".repeat(230_000)].concat();
    let mut bombs = vec![("zstd", gigabytes)];
    for coding in ["gzip", "zstd", "br", "deflate", "zstd, gzip"] {
        bombs.push((coding, packed_in(coding, &vec![b' '; 8 << 20]).await));
    }
    for (coding, packed) in bombs {
        assert!(packed.len() < 1 << 20, "{coding}: it is within the limit as it comes");
        for (path, _, kind) in bodies().into_iter().filter(|(path, ..)| *path != EARS) {
            let headers = [SMALL, ("content-type", kind), ("content-encoding", coding)];
            let refused = send(&server, path, &headers, &packed).await;
            let gemini = path.contains("generateContent");
            assert_eq!(refused.status, if gemini { 400 } else { 413 }, "{path} {coding}: {}", refused.body);
            assert!(refused.body.contains("gateway.max_body"), "{path} {coding}: {}", refused.body);
        }
    }
    assert!(sent.lock().unwrap().is_empty());
    assert_eq!(server.gateway.memory.used(), 0);
}

#[tokio::test]
async fn a_body_in_another_encoding_than_its_head_says_is_a_mistake_that_is_named() {
    let (server, sent) = served(FILE, &[(200, CHAT_ANSWER)]).await;
    for (path, body, kind) in bodies() {
        for coding in ["gzip", "zstd", "br", "deflate"] {
            let half = packed_in(coding, body.as_bytes()).await;
            for packed in [body.as_bytes(), &half[..half.len() / 2]] {
                let headers = [SMALL, ("content-type", kind), ("content-encoding", coding)];
                let refused = send(&server, path, &headers, packed).await;
                assert_eq!(refused.status, 400, "{path} {coding}: {}", refused.body);
                assert!(refused.body.contains("Content-Encoding"), "{path} {coding}: {}", refused.body);
            }
        }
        let refused = send(&server, path, &[SMALL, ("content-type", kind), ("content-encoding", "snappy")], b"x").await;
        assert_eq!(refused.status, 415, "{path}: {}", refused.body);
        assert!(refused.body.contains("snappy"), "{path}: {}", refused.body);
    }
    assert!(sent.lock().unwrap().is_empty());
}
