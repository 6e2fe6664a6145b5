//! Compares the simulated providers' answers with recordings of the real ones.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;

/// A recorded answer: its body, or the events of its stream.
pub(super) struct Recording {
    body: Value,
    pub(super) events: Vec<Value>,
}

/// The recordings in a folder, or `None` where they are not there.
pub(super) fn recordings(folder: &str) -> Option<Vec<Recording>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(folder);
    let Ok(files) = fs::read_dir(&path) else {
        eprintln!("skipped: no recordings in ../shared/{folder}");
        return None;
    };
    let read = |file: io::Result<fs::DirEntry>| {
        let exchange: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        let response = &exchange["response"];
        let lines = response["sse"].as_str().unwrap_or_default().lines();
        let events = lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()).collect();
        Recording { body: response["body"].clone(), events }
    };
    Some(files.map(read).collect())
}

/// The recorded bodies and stream events of a provider, or `None` where the recordings are not there.
fn recorded(folder: &str) -> Option<Vec<Value>> {
    let recordings = recordings(folder)?;
    Some(recordings.into_iter().flat_map(|recording| [vec![recording.body], recording.events].concat()).collect())
}

/// The paths of all fields, without the places in lists and without what a tool's arguments hold.
fn paths(value: &Value, prefix: &str, to: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{prefix}/{name}");
                let own = ["input", "args"].contains(&name.as_str());
                if !own {
                    paths(value, &path, to);
                }
                to.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, prefix, to)),
        _ => {}
    }
}

fn all_paths(values: &[Value]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    values.iter().for_each(|value| paths(value, "", &mut all));
    all
}

#[tokio::test]
async fn no_field_is_sent_that_the_real_provider_never_sent() {
    let server = start(provider().call_tools(json!({ "city": "Oslo" }))).await;
    for (folder, whole, stream) in [
        ("fixtures/anthropic", MESSAGES, MESSAGES),
        ("fixtures/openai", CHAT, CHAT),
        ("fixtures/gemini", GENERATE, GENERATE_STREAM),
        ("fixtures2/responses", RESPONSES, RESPONSES),
    ] {
        let Some(recorded) = recorded(folder) else { return };
        let known = all_paths(&recorded);
        let mut said = Vec::new();
        for fault in [
            None,
            Some(Fault::ServerError),
            Some(Fault::Overloaded),
            Some(Fault::RateLimited { retry_after: Some(Duration::from_secs(3)) }),
            Some(Fault::Unauthorized),
            Some(Fault::BadRequest),
            Some(Fault::Empty),
            Some(Fault::ErrorEventAfter(1)),
        ] {
            for (path, streams) in [(whole, false), (stream, true)] {
                if let Some(fault) = &fault {
                    server.handle().fail_next(1, fault);
                }
                let mut body = body_for(path, streams);
                if fault.is_none() {
                    let schema = json!({ "type": "object", "properties": {} });
                    body["tools"] = match path {
                        MESSAGES => json!([{ "name": "weather", "input_schema": schema }]),
                        CHAT => {
                            json!([{ "type": "function", "function": { "name": "weather", "parameters": schema } }])
                        }
                        RESPONSES => json!([{ "type": "function", "name": "weather", "parameters": schema }]),
                        _ => json!([{ "functionDeclarations": [{ "name": "weather" }] }]),
                    };
                }
                let got = send(server.addr(), request(path, body.to_string().as_bytes())).await.unwrap();
                said.extend(serde_json::from_str(&got.text));
                said.extend(got.events());
                said.extend(serde_json::from_str(&ask(&server, path, streams).await.text));
                said.extend(ask(&server, path, streams).await.events());
            }
        }
        let unknown: Vec<_> = all_paths(&said).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{folder}: {unknown:#?}");
        assert!(said.len() > 30, "{folder}: {}", said.len());
    }
}
