//! The words of errors that callers read, in each protocol: none is another reader's, and all things named are there.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, ErrorKind, LlmError, LlmRequest, LlmResponse,
    error::Reader,
    providers::simulated::{Fault, Simulated},
};
use steadfast_stack::{Config, Format, Stack};

use super::harness::*;
use crate::limits::Settings;

/// The code that reads callers' headers.
const OPTIONS: &str = include_str!("../api/request_options.rs");

/// A service that fails in this way.
fn failing(kind: ErrorKind, words: &'static str) -> BoxLlmService {
    BoxLlmService::new(steadfast::provider_fn(move |_: LlmRequest| async move {
        Err::<LlmResponse, _>(LlmError::new(kind, words).with_model("openai", "gpt-4o"))
    }))
}

/// Returns what is wrong with a text for a caller.
fn problem(said: &str) -> Option<String> {
    let quoted = || said.split('`').skip(1).step_by(2);
    let is_type = |word: &&str| word.starts_with(char::is_uppercase) && word.chars().any(char::is_lowercase);
    let header = |word: &&str| word.starts_with("x-steadfast-");
    let unknown = |word: &&str| !OPTIONS.contains(&format!("\"{}\"", word.split(':').next().unwrap_or_default()));
    let owners = ["::", "named above", "base URL", "API key", "add a tier", "raise the", "bulkhead refused"];
    let found = owners.into_iter().find(|words| said.contains(words));
    let found = found.or_else(|| quoted().find(is_type)).or_else(|| quoted().filter(header).find(unknown));
    found.map(|found| format!("{found}: {said}"))
}

#[tokio::test]
async fn a_caller_of_each_protocol_hears_what_it_can_do_and_no_word_of_another_reader() {
    for kind in ErrorKind::ALL {
        for words in ["", "its words"] {
            let server = Server::start(failing(*kind, words), Settings::default()).await;
            for (path, stream) in PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]) {
                let answer = server.post(path, &[], &hello(stream)).await;
                let told = answer.json()["error"]["message"].as_str().unwrap().to_owned();
                assert_eq!(problem(&told), None, "{kind} {path}");
                assert!(told.contains("; "), "{kind} {path}: no advice: {told}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_advises_what_a_caller_can_ask_for() {
    for path in PATHS {
        let broken = Simulated::new("main").reply("An answer of words");
        broken.handle().fail(Fault::CutAfter(2));
        let server = Server::start(BoxLlmService::new(broken), Settings::default()).await;
        let answer = server.post(path, &[], &hello(true)).await;
        let error: Value = answer.error_event();
        let told = error["message"].as_str().unwrap();
        assert_eq!(problem(told), None, "{path}");
        assert!(told.contains("`x-steadfast-commit: complete`"), "{path}: {told}");
    }
}

/// Alone a client reads the provider's 404 for a wrong id; only a model that is not there is the owner's mistake.
#[tokio::test]
async fn an_id_of_the_callers_that_is_not_there_is_no_fault_of_the_owners() {
    const UNKNOWN: &str =
        r#"{"type":"error","error":{"type":"not_found_error","message":"No such object: file-abc123def456"}}"#;
    const RETIRED: &str = r#"{"type":"error","error":{"type":"not_found_error","message":"no such model: gpt-4o"}}"#;
    let file = json!([{"type": "file", "file": {"file_id": "file-abc123def456"}}]);
    let document = json!([{"type": "document", "source": {"type": "file", "file_id": "file-abc123def456"}}]);
    let input = json!([{"type": "input_file", "file_id": "file-abc123def456"}]);
    for (path, provider, content) in [
        (CHAT, "provider: openai, api: chat", file),
        (MESSAGES, "provider: anthropic", document),
        (RESPONSES, "provider: openai, api: responses", input),
    ] {
        for (said, expected) in [(UNKNOWN, 404), (RETIRED, 502)] {
            let config = format!("tiers: [{{ name: main, {provider}, model: gpt-4o }}]\n");
            let (stack, sent) = scripted(&config, &[(404, said)]);
            let server = Server::with_stack(&stack, None, Settings::default()).await;
            let mut asked = hello(false);
            asked["messages"][0]["content"] = content.clone();
            let answer = server.post(path, &[], &asked).await;
            assert_eq!(answer.status, expected, "{path}: {}", answer.body);
            assert_eq!(answer.body == said, expected == 404, "{path}: {}", answer.body);
            assert_eq!(sent.lock().unwrap().len(), 1, "{path}");
        }
    }
}

/// The keys of the file, as its schema has them.
fn keys_of_the_file() -> BTreeSet<String> {
    fn walk(value: &Value, keys: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
                    keys.extend(properties.keys().cloned());
                }
                fields.values().for_each(|value| walk(value, keys));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, keys)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    walk(&Config::json_schema(), &mut keys);
    keys
}

#[test]
fn an_operator_is_told_of_settings_that_the_file_has() {
    let keys = keys_of_the_file();
    for kind in ErrorKind::ALL {
        let said = LlmError::new(*kind, "").for_reader(Reader::Operator).to_string();
        let quoted = said.split('`').skip(1).step_by(2);
        let words = quoted.flat_map(|quoted| quoted.split(|c: char| !(c.is_ascii_lowercase() || c == '_')));
        for word in words.filter(|word| !word.is_empty() && *word != "complete") {
            assert!(keys.contains(word), "{kind}: `{word}` is no setting: {said}");
        }
    }
}

const FILE: &str = "
tiers: [{ name: main, provider: simulated, model: main }]
models: { main: { tiers: [main] } }
features: { code: { worst_level: 1 } }
";

#[tokio::test]
async fn a_header_that_says_nothing_is_noted_in_the_answer() {
    let server = served(FILE).await;
    for (headers, note) in [
        (&[("x-steadfast-timeout-ms", "soon")][..], Some("x-steadfast-timeout-ms: no number of milliseconds")),
        (&[("x-server-timeout", "soon")], Some("x-server-timeout: no number of seconds")),
        (
            &[("x-steadfast-timeout-ms", "soon"), ("x-server-timeout", "9")],
            Some("x-steadfast-timeout-ms: no number of milliseconds"),
        ),
        (&[("x-steadfast-no-fallback", "maybe")], Some("x-steadfast-no-fallback: neither 1 nor 0")),
        (&[("x-steadfast-feature", "Code")], Some("no such feature, so the defaults apply; did you mean `code`?")),
        (&[("x-steadfast-feature", "chat")], Some("no such feature, so the defaults apply")),
        (&[("x-steadfast-feature", "code"), ("x-steadfast-timeout-ms", "9000")], None),
    ] {
        for (path, stream) in PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]) {
            let mut asked = hello(stream);
            asked["model"] = "main".into();
            let answer = server.post(path, headers, &asked).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let said = answer.header("x-steadfast-notes").unwrap_or_default();
            assert!(note.map_or_else(|| !said.contains("x-s"), |note| said.contains(note)), "{path}: {said}");
            assert!(!said.contains("soon") && !said.contains("maybe"), "{path}: {said}");
        }
    }
}

#[tokio::test]
async fn a_request_names_its_model_where_the_file_has_models() {
    let (named, any) = (served(FILE).await, served(&FILE.replace("models: { main: { tiers: [main] } }", "")).await);
    // Gemini's path always names one.
    for path in [MESSAGES, CHAT, RESPONSES] {
        let mut asked = hello(false);
        asked.as_object_mut().unwrap().remove("model");
        let answer = named.post(path, &[], &asked).await;
        assert_eq!((answer.status, answer.error_type().as_str()), (400, "invalid_request_error"), "{path}");
        assert!(answer.body.contains("`model` is missing"), "{path}: {}", answer.body);
        assert_eq!(any.post(path, &[], &asked).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_path_of_the_lane_is_unknown_for_want_of_one() {
    let server = served(FILE).await;
    for path in ["/v1/embeddings", "/v1/images/generations", "/v1beta/models/g:embedContent"] {
        let answer = server.post(path, &[], &serde_json::json!({})).await;
        let told = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 404 && told.contains("without `lane` in its file"), "{path}: {told}");
    }
    let other = server.post("/v1/nothing", &[], &serde_json::json!({})).await;
    assert!(other.status == 404 && !other.body.contains("lane"), "{}", other.body);
}

async fn served(file: &str) -> Server {
    let leaf = Simulated::new("main").latency(Duration::ZERO).pace(Duration::ZERO);
    let stack = Stack::builder().leaf("main", leaf).build(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
    Server::with_stack(&stack, None, Settings::default()).await
}
