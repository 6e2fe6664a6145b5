//! OpenAI Responses, held against recordings and against the decoder of OpenAI's own SDK.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, Write as _},
    process::{Command, Stdio},
};

use super::{recorded::recordings, *};

fn asking(more: Value) -> Value {
    let mut body = json!({ "model": "m", "input": "Hi" });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn say(server: &SimulatedServer, more: Value) -> Reply {
    let body = asking(more).to_string();
    send(server.addr(), request(RESPONSES, body.as_bytes())).await.unwrap()
}

/// Requests that bring each kind of item, and what the tools of each are called with.
fn kinds() -> Vec<(Value, Vec<(&'static str, Value)>)> {
    let schema = json!({ "type": "object", "properties": {} });
    let function = json!({ "type": "function", "name": "weather", "parameters": schema });
    let custom = json!({ "type": "custom", "name": "apply_patch", "format": { "type": "text" } });
    let namespace =
        json!({ "type": "namespace", "name": "mcp__crm", "description": "A CRM.", "tools": [function, custom] });
    let thinks = json!({ "include": ["reasoning.encrypted_content"], "reasoning": { "summary": "auto" } });
    let patch = json!({ "input": "*** Begin Patch\n+\"é\"\\\n*** End Patch" });
    let with = |tool: &Value| json!({ "tools": [{ "type": "web_search" }, tool] });
    let later = json!({ "type": "additional_tools", "role": "developer", "tools": [namespace] });
    vec![
        (json!({}), vec![]),
        (thinks, vec![]),
        (json!({ "include": ["reasoning.encrypted_content"] }), vec![]),
        (with(&function), vec![("weather", json!({ "city": "Oslo" }))]),
        (with(&custom), vec![("apply_patch", patch.clone())]),
        (with(&namespace), vec![("mcp__crm__weather", json!({}))]),
        (with(&namespace), vec![("mcp__crm__apply_patch", patch.clone())]),
        (
            json!({ "input": [later, { "role": "user", "content": "Hi" }] }),
            vec![("mcp__crm__weather", json!({ "city": "Oslo" }))],
        ),
    ]
}

/// The item of the plan, as the SDK shows it.
fn planned(name: &str, arguments: &Value) -> Value {
    let (namespace, name) = match name.strip_prefix("mcp__crm__") {
        Some(name) => (Some("mcp__crm"), name),
        None => (None, name),
    };
    let mut item = match name {
        "apply_patch" => json!({ "type": "custom_tool_call", "input": arguments["input"] }),
        _ => json!({ "type": "function_call", "arguments": arguments.to_string() }),
    };
    item["name"] = name.into();
    if let Some(namespace) = namespace {
        item["namespace"] = namespace.into();
    }
    item
}

/// The pairs of neighbours among a stream's events. Equal neighbours, the deltas of one text, count as one.
fn neighbours(events: &[Value]) -> BTreeSet<(String, String)> {
    let mut kinds: Vec<String> = events.iter().filter_map(|event| event["type"].as_str().map(str::to_owned)).collect();
    kinds.dedup();
    kinds.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

#[tokio::test]
async fn events_follow_one_another_as_in_recordings() {
    let Some(recordings) = recordings("fixtures2/responses") else { return };
    let mut known = BTreeSet::new();
    for recording in recordings {
        known.extend(neighbours(&recording.events));
    }
    let server = start(provider()).await;
    let handle = server.handle();
    let mut shown = BTreeSet::new();
    for (more, calls) in kinds() {
        handle.plan_calls(calls);
        for fault in [None, Some(Fault::ErrorEventAfter(0)), Some(Fault::ErrorEventAfter(0))] {
            if let Some(fault) = &fault {
                handle.fail_next(1, fault);
            }
            let mut more = more.clone();
            more["stream"] = true.into();
            let events = say(&server, more).await.events();
            let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64()).collect();
            let expected: Vec<_> = (0..numbers.len() as u64).map(Some).collect();
            assert_eq!(numbers, expected, "{events:#?}");
            // An error comes wherever it comes.
            let calm = |event: &&Value| {
                fault != Some(Fault::ErrorEventAfter(0))
                    || event["type"] != "response.failed" && event["type"] != "error"
            };
            let events: Vec<Value> = events.iter().filter(calm).cloned().collect();
            shown.extend(neighbours(&events));
        }
    }
    let unknown: Vec<_> = shown.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(shown.len() > 15, "{shown:#?}");
}

/// A failure is one as recorded: `response.failed`, by itself or after `error`.
#[tokio::test]
async fn a_failure_in_a_stream_is_the_last_event_and_keeps_the_id() {
    let server = start(provider()).await;
    for kinds in [&["error", "response.failed"][..], &["response.failed"]] {
        server.handle().fail_next(1, &Fault::ErrorEventAfter(2));
        let events = say(&server, json!({ "stream": true })).await.events();
        let last: Vec<_> = events[events.len() - kinds.len()..].iter().map(|event| event["type"].clone()).collect();
        assert_eq!(last, kinds);
        let failed = &events.last().unwrap()["response"];
        assert_eq!((&failed["id"], &failed["status"]), (&events[0]["response"]["id"], &json!("failed")));
        assert_eq!(failed["error"]["code"], "server_error");
        assert!(events.iter().all(|event| event["type"] != "response.completed"));
    }
}

#[tokio::test]
async fn a_stream_without_its_end_has_all_but_the_end() {
    let server = start(provider()).await;
    server.handle().fail_next(1, &Fault::NoEndMark);
    let events = say(&server, json!({ "stream": true })).await.events();
    assert_eq!(events.last().unwrap()["type"], "response.output_item.done");
    server.handle().fail_next(1, &Fault::TruncatedAfter(9));
    let events = say(&server, json!({ "stream": true })).await.events();
    assert_eq!(events.last().unwrap()["type"], "response.output_text.delta");
    server.handle().fail_next(1, &Fault::CutAfter(1));
    let cut = say(&server, json!({ "stream": true })).await;
    assert!(!cut.whole && cut.text.contains("Hello ") && !cut.text.contains("from"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_own_sdk_decodes_what_was_planned() {
    let Some(mut python) = python() else { return };
    let server = start(provider()).await;
    let mut child = python.arg(server.base_url()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut lines = io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut decode = |method: &str, body: Value| -> Value {
        writeln!(to, "{}", json!([method, body])).unwrap();
        tokio::task::block_in_place(|| serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap())
    };
    for (more, calls) in kinds() {
        let mut expected = Vec::new();
        if more["include"].is_array() {
            let summary =
                if more["reasoning"].is_object() { json!(["**Considering the question**"]) } else { json!([]) };
            expected.push(json!({ "reasoning": summary, "sealed": true }));
        }
        let mut deltas = json!({ "text": "", "arguments": "", "input": "" });
        match calls.first() {
            Some((name, arguments)) => {
                let item = planned(name, arguments);
                let field = if item["input"].is_string() { "input" } else { "arguments" };
                deltas[field] = item[field].clone();
                expected.push(item);
            }
            None => {
                deltas["text"] = "Hello from afar".into();
                expected.push(json!({ "message": "Hello from afar", "status": "completed" }));
            }
        }
        server.handle().plan_calls(calls);
        let expected = json!({ "status": "completed", "items": expected });
        assert_eq!(decode("whole", asking(more.clone())), expected);
        let mut streamed = expected;
        streamed["deltas"] = deltas;
        assert_eq!(decode("streamed", asking(more)), streamed);
    }
    server.handle().plan_calls::<String>([]);
    for (fault, error, code) in [
        (Fault::ServerError, "InternalServerError", Value::Null),
        (Fault::RateLimited { retry_after: None }, "RateLimitError", "rate_limit_exceeded".into()),
        (Fault::InsufficientQuota, "RateLimitError", "insufficient_quota".into()),
        (Fault::Unauthorized, "AuthenticationError", "invalid_api_key".into()),
        (Fault::ContextLength, "BadRequestError", "context_length_exceeded".into()),
        (Fault::ContentFilter, "BadRequestError", "invalid_prompt".into()),
    ] {
        for method in ["whole", "streamed"] {
            server.handle().fail_next(1, &fault);
            let said = decode(method, asking(json!({})));
            assert_eq!((&said["error"], &said["code"]), (&error.into(), &code), "{fault} {method}: {said}");
        }
    }
    drop(to);
    child.wait().unwrap();
}

/// A Python with OpenAI's SDK, about to run the decoder.
fn python() -> Option<Command> {
    let named = std::env::var("STEADFAST_SDK_PYTHON");
    let python = named.clone().unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import openai"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        assert!(named.is_err(), "{python} has no openai");
        eprintln!("skipped: {python} has no openai (STEADFAST_SDK_PYTHON)");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/sdk.py"));
    Some(command)
}

#[tokio::test]
async fn an_answer_refers_to_its_own_account_alone() {
    let thinks = json!({ "include": ["reasoning.encrypted_content"] });
    let (here, there) = (start(provider()).await, start(Simulated::new("other").reply("Hi")).await);
    let answer = say(&here, thinks.clone()).await.json();
    let own = json!({ "previous_response_id": answer["id"] });
    assert_eq!(say(&here, own.clone()).await.status, 200);
    let refused = say(&there, own).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["code"]),
        (400, &json!("previous_response_not_found"))
    );
    let unstored = say(&here, json!({ "store": false })).await.json();
    assert_eq!(say(&here, json!({ "previous_response_id": unstored["id"] })).await.status, 400);

    let mut items = answer["output"].as_array().unwrap().clone();
    items.push(json!({ "role": "user", "content": "And?" }));
    let history = json!({ "input": items });
    assert_eq!(say(&here, history.clone()).await.status, 200);
    let refused = say(&there, history).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (400, &json!("invalid_encrypted_content")));
    let reference = json!({ "input": [{ "type": "item_reference", "id": answer["output"][1]["id"] }] });
    assert_eq!(say(&here, reference.clone()).await.status, 200);
    assert_eq!(say(&there, reference).await.status, 404);
}

#[tokio::test]
async fn a_refusal_names_the_place_and_the_code() {
    let server = start(provider().models(["m"])).await;
    let call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
    let output = |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": "4" });
    for (more, param, code, words) in [
        (json!({ "input": null }), json!("input"), json!("missing_required_parameter"), "Missing required parameter"),
        (json!({ "input": 5 }), "input".into(), "invalid_type".into(), "but got an integer instead."),
        (json!({ "input": [{ "type": "x" }] }), "input[0]".into(), "invalid_value".into(), "Invalid value: 'x'."),
        // Recorded as openai-responses-unary-400-o1-pro-tool-round-trip-2.
        (
            json!({ "input": [{ "role": "user", "content": "?" }, { "role": "tool", "content": "4" }] }),
            "input[1]".into(),
            "invalid_value".into(),
            "Invalid value: 'tool'. Supported values are: 'assistant', 'system', 'developer', and 'user'.",
        ),
        (
            json!({ "input": [output("c")] }),
            "input".into(),
            Value::Null,
            "No tool call found for function call output with call_id c.",
        ),
        (json!({ "input": [call] }), "input".into(), Value::Null, "No tool output found for function call c."),
        (json!({ "input": [call, output("c"), call] }), "input".into(), Value::Null, "Duplicate item found"),
        (
            json!({ "stream": true, "stream_options": { "include_usage": true } }),
            "stream_options.include_usage".into(),
            "unknown_parameter".into(),
            "Unknown parameter: 'stream_options.include_usage'.",
        ),
        (json!({ "messages": [] }), "messages".into(), "unsupported_parameter".into(), "has moved to 'input'"),
        (
            json!({ "tools": [{ "type": "function" }] }),
            "tools[0].name".into(),
            "missing_required_parameter".into(),
            "Missing required parameter: 'tools[0].name'.",
        ),
        (json!({ "max_output_tokens": 2 }), "max_output_tokens".into(), "integer_below_min_value".into(), ">= 16"),
        (json!({ "model": "x" }), "model".into(), "model_not_found".into(), "The requested model 'x' does not exist."),
    ] {
        let refused = say(&server, more.clone()).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status.as_u16(), &error["param"], &error["code"]), (400, &param, &code), "{more}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{more}: {error}");
    }
    assert_eq!(server.handle().stats().calls, 0);
}

#[tokio::test]
async fn an_answer_that_the_caller_cut_short_is_incomplete() {
    let server = start(provider().tokens(50..=50).reply("word ".repeat(50))).await;
    for stream in [false, true] {
        let got = say(&server, json!({ "max_output_tokens": 16, "stream": stream })).await;
        let response = if stream { got.events().last().unwrap()["response"].clone() } else { got.json() };
        assert_eq!(
            (&response["status"], &response["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
        assert_eq!(response["output"][0]["content"][0]["text"], "word ".repeat(16));
        assert_eq!(got.text.contains("response.incomplete"), stream);
    }
}

#[tokio::test]
async fn a_shape_and_a_demanded_tool_are_followed() {
    let server = start(provider()).await;
    let schema = json!({ "type": "object", "properties": { "days": { "type": "integer", "minimum": 3 } },
        "required": ["days"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "name": "plan", "schema": schema, "strict": true });
    let said = say(&server, json!({ "text": { "format": format } })).await.json();
    let text = said["output"][0]["content"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({ "days": 3 }));
    let tool = |name: &str| json!({ "type": "function", "name": name, "parameters": schema, "strict": true });
    for choice in [
        json!({ "type": "function", "name": "plan" }),
        json!({ "type": "allowed_tools", "mode": "required", "tools": [{ "type": "function", "name": "plan" }] }),
    ] {
        let said = say(&server, json!({ "tools": [tool("other"), tool("plan")], "tool_choice": choice })).await.json();
        let item = &said["output"][0];
        assert_eq!((&item["name"], &item["arguments"]), (&json!("plan"), &json!(r#"{"days":3}"#)));
    }
}
