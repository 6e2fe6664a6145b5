//! The words of errors that callers read, in each protocol: none is another reader's, and all things named are there.

use std::collections::BTreeSet;

use serde_json::Value;
use steadfast::{
    BoxLlmService, ErrorKind, LlmError, LlmRequest, LlmResponse,
    error::Reader,
    providers::simulated::{Fault, Simulated},
};

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
    walk(&steadfast_stack::Config::json_schema(), &mut keys);
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
