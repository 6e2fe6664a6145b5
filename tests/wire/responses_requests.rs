//! Recorded requests of the Responses dialect in the neutral form: as many turns, texts, calls and results as an own
//! reading of the raw JSON finds, and the same settings. Encoded again, they mean the same.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, LlmRequest, Wire,
    chat::{Chat, Media, Part, Role, Thinking, ToolChoice},
    providers::OpenAiResponses,
};
use tower::ServiceExt;

use crate::{
    recorded::meaning,
    recordings::{Exchange, Recordings, folders},
};

/// The recorded exchanges of the dialect that have a request.
fn exchanges() -> Vec<Exchange> {
    let read = folders().into_iter().map(|folder| Recordings::read(&folder).unwrap_or_else(|error| panic!("{error}")));
    let exchanges = read.flat_map(|read| read.exchanges);
    let exchanges: Vec<_> = exchanges
        .filter(|exchange| exchange.dialect == Dialect::Responses && exchange.request.body.is_some())
        .collect();
    if exchanges.is_empty() {
        println!("skipped: no recordings of this dialect beside the repository");
    }
    exchanges
}

/// A conversation, with each part as a word and its content.
#[derive(Debug, Default, PartialEq)]
struct Conversation {
    system: Vec<String>,
    turns: Vec<(&'static str, Vec<String>)>,
}

impl Conversation {
    /// Reads the neutral form.
    fn of(chat: &Chat) -> Self {
        let mut read = Self::default();
        read.system.extend(chat.system.clone());
        for message in &chat.messages {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            read.turns.push((role, message.content.iter().filter_map(neutral_part).collect()));
        }
        read
    }

    /// Reads the raw JSON.
    fn read(body: &Value) -> Self {
        let mut read = Self::default();
        let mut system: Vec<&str> = body["instructions"].as_str().into_iter().filter(|text| !text.is_empty()).collect();
        // The kind of items in the last turn.
        let mut last = "";
        let items = match &body["input"] {
            Value::String(text) => {
                read.turns.push(("user", vec![format!("text {text}")]));
                &[][..]
            }
            input => input.as_array().map_or(&[][..], Vec::as_slice),
        };
        for item in items {
            let untyped = if item["role"].is_null() { "item_reference" } else { "message" };
            let kind = item["type"].as_str().unwrap_or(untyped);
            let role = item["role"].as_str().unwrap_or_default();
            let of_system = kind == "message" && matches!(role, "system" | "developer");
            if of_system && read.turns.is_empty() {
                system.extend(texts(&item["content"]));
                continue;
            }
            let (turn, parts) = match kind {
                "message" => (if role == "assistant" { "model" } else { "closed" }, raw_parts(&item["content"])),
                "function_call_output" | "custom_tool_call_output" => (
                    "outputs",
                    vec![format!("result {} {}", word(&item["call_id"]), raw_parts(&item["output"]).join("+"))],
                ),
                "reasoning" => {
                    let of = |name: &str| texts(&item[name]).join("\n\n");
                    let text = if of("summary").is_empty() { of("content") } else { of("summary") };
                    let sealed = match item["encrypted_content"].as_str() {
                        Some(sealed) => format!("{}:{sealed}", word(&item["id"])),
                        None => String::new(),
                    };
                    ("model", vec![format!("thought {text} {sealed}")])
                }
                "function_call" => (
                    "model",
                    vec![format!("call {} {} {}", word(&item["call_id"]), call_name(item), word(&item["arguments"]))],
                ),
                "custom_tool_call" => {
                    let arguments = serde_json::json!({"input": item["input"]});
                    ("model", vec![format!("call {} {} {arguments}", word(&item["call_id"]), call_name(item))])
                }
                kind if kind.ends_with("_output") => ("outputs", vec![format!("other {item}")]),
                _ => ("model", vec![format!("other {item}")]),
            };
            if turn == "closed" || turn != last {
                let role = match turn {
                    "closed" if of_system => "system",
                    "model" => "assistant",
                    _ => "user",
                };
                read.turns.push((role, parts));
            } else if let Some((_, so_far)) = read.turns.last_mut() {
                so_far.extend(parts);
            }
            last = turn;
        }
        read.system.extend((!system.is_empty()).then(|| system.join("\n\n")));
        read
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The name of a call, behind that of its namespace. None of the recordings has a namespace among its tools: they are
/// functions that were found by a search, each its own namespace.
fn call_name(item: &Value) -> &str {
    assert!(item["namespace"].is_null() || item["namespace"] == item["name"], "{item}");
    word(&item["name"])
}

fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        content => content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

fn raw_parts(content: &Value) -> Vec<String> {
    if let Some(text) = content.as_str() {
        return if text.is_empty() { Vec::new() } else { vec![format!("text {text}")] };
    }
    let parts = content.as_array().into_iter().flatten();
    parts
        .map(|part| match word(&part["type"]) {
            "input_text" | "output_text" => format!("text {}", word(&part["text"])),
            "refusal" => format!("refusal {}", word(&part["refusal"])),
            "input_image" => format!("image {}{}", word(&part["image_url"]), word(&part["file_id"])),
            "input_file" => {
                let place = ["file_data", "file_url", "file_id"].map(|name| word(&part[name])).concat();
                format!("file {place} {}", word(&part["filename"]))
            }
            _ => format!("other {part}"),
        })
        .collect()
}

fn neutral_part(part: &Part) -> Option<String> {
    let media = |media: &Media| match media {
        Media::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Media::Url(place) | Media::File(place) => place.clone(),
    };
    Some(match part {
        Part::Text(text) => format!("text {text}"),
        Part::Refusal(text) => format!("refusal {text}"),
        Part::Image(image) => format!("image {}", media(&image.media)),
        Part::Document(document) => {
            format!("file {} {}", media(&document.media), document.name.as_deref().unwrap_or_default())
        }
        Part::Reasoning(thought) => {
            let token = thought.opaque.as_ref().map_or("", |opaque| &opaque.token);
            format!("thought {} {token}", thought.text)
        }
        Part::ToolCall(call) => format!("call {} {} {}", call.id, call.name, call.arguments),
        Part::ToolResult(result) => {
            let parts: Vec<_> = result.content.iter().filter_map(neutral_part).collect();
            format!("result {} {}", result.call_id, parts.join("+"))
        }
        Part::Other { value, .. } => format!("other {}", value.value().expect("JSON")),
        Part::Extra { .. } => return None,
        other => panic!("{other:?}"),
    })
}

#[test]
fn recorded_requests_have_the_turns_of_their_items() {
    let (mut decoded, mut refused) = (0, 0);
    for exchange in exchanges() {
        let body = exchange.request.body.clone().expect("it was looked for");
        let raw: Value = serde_json::from_slice(&body).expect("JSON");
        let request = LlmRequest::from(Wire::new(Dialect::Responses, body).expect("an object"));
        match request.chat() {
            Ok(chat) => {
                assert_eq!(Conversation::of(chat), Conversation::read(&raw), "{}", exchange.id);
                decoded += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{}", exchange.id);
                assert!(exchange.status.is_client_error(), "{}: {error}; its provider took it", exchange.id);
                refused += 1;
            }
        }
    }
    println!("{decoded} requests decoded, {refused} refused as their provider did");
    assert!(refused <= decoded / 20);
}

#[test]
fn recorded_requests_keep_their_settings_and_tools() {
    for exchange in exchanges() {
        let body = exchange.request.body.clone().expect("it was looked for");
        let raw: Value = serde_json::from_slice(&body).expect("JSON");
        let request = LlmRequest::from(Wire::new(Dialect::Responses, body).expect("an object"));
        let Ok(chat) = request.chat() else { continue };
        let id = &exchange.id;
        assert_eq!(chat.model.as_deref(), raw["model"].as_str(), "{id}");
        assert_eq!(chat.stream, raw["stream"] == true, "{id}");
        assert_eq!(chat.max_tokens.map(u64::from), raw["max_output_tokens"].as_u64(), "{id}");
        assert_eq!((chat.temperature, chat.top_p), (raw["temperature"].as_f64(), raw["top_p"].as_f64()), "{id}");
        assert_eq!(chat.parallel_tool_calls, raw["parallel_tool_calls"].as_bool(), "{id}");
        let effort = match chat.thinking {
            None => None,
            Some(Thinking::Effort(effort)) => Some(format!("{effort:?}").to_lowercase()),
            other => panic!("{id}: {other:?}"),
        };
        assert_eq!(effort.as_deref(), raw["reasoning"]["effort"].as_str(), "{id}");
        let choice = match &chat.tool_choice {
            None => Value::Null,
            Some(ToolChoice::Named(name)) => name.as_str().into(),
            Some(choice) => format!("{choice:?}").to_lowercase().into(),
        };
        let raw_choice = &raw["tool_choice"];
        let expected = if raw_choice.is_object() {
            ["mode", "name"].iter().map(|name| &raw_choice[name]).find(|value| !value.is_null()).unwrap_or(&Value::Null)
        } else {
            raw_choice
        };
        assert_eq!(choice, *expected, "{id}");
        let format = &raw["text"]["format"];
        match &chat.output {
            Some(output) if format["type"] == "json_schema" => {
                assert_eq!(
                    (output.name.as_str(), output.strict),
                    (word(&format["name"]), format["strict"] == true),
                    "{id}"
                );
                assert_eq!(
                    output.schema.as_ref().map(|schema| schema.value().expect("JSON")),
                    Some(format["schema"].clone())
                );
            }
            Some(output) => assert!(format["type"] == "json_object" && output.schema.is_none(), "{id}"),
            None => assert!(format.is_null() || format["type"] == "text", "{id}"),
        }
        let tools = raw_tools(&raw);
        assert_eq!(chat.tools.len(), tools.len(), "{id}");
        for (tool, raw) in chat.tools.iter().zip(tools) {
            let is_local = raw["type"] == "function" || raw["type"] == "custom";
            assert_eq!(tool.runs_at_provider(), !is_local, "{id}");
            assert_eq!(tool.name, word(&raw[if is_local { "name" } else { "type" }]), "{id}");
            assert_eq!(tool.description.as_deref(), raw["description"].as_str().filter(|_| is_local), "{id}");
            if raw["parameters"].is_object() && is_local {
                assert_eq!(tool.parameters, raw["parameters"], "{id}");
            }
        }
        // All else is kept as it stood.
        let kept = chat.extra.as_ref().expect("a request of a dialect").fields.value().expect("JSON");
        for (name, value) in raw.as_object().expect("an object") {
            if !["model", "stream", "input", "tools"].contains(&name.as_str()) && !value.is_null() {
                assert_eq!(kept[name], *value, "{id}: {name}");
            }
        }
    }
}

/// The request's own tools, then those that its items define, each once.
fn raw_tools(raw: &Value) -> Vec<&Value> {
    let mut tools: Vec<&Value> = raw["tools"].as_array().into_iter().flatten().collect();
    for item in raw["input"].as_array().into_iter().flatten() {
        if !["additional_tools", "tool_search_output"].contains(&word(&item["type"])) {
            continue;
        }
        for tool in item["tools"].as_array().into_iter().flatten() {
            if tools.iter().all(|earlier| earlier["name"] != tool["name"]) {
                tools.push(tool);
            }
        }
    }
    tools
}

/// Encodes a conversation for this dialect.
async fn encoded(chat: Chat) -> Bytes {
    let sent = Arc::new(Mutex::new(Bytes::new()));
    let seen = sent.clone();
    let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let seen = seen.clone();
        async move {
            *seen.lock().unwrap() = request.into_body().collect().await?.to_bytes();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
        }
    });
    let _no_answer = OpenAiResponses::new("key").transport(transport).oneshot(chat.into()).await;
    sent.lock().unwrap().clone()
}

#[tokio::test]
async fn recorded_requests_mean_the_same_once_they_are_encoded_again() {
    let mut wrong = Vec::new();
    for exchange in exchanges() {
        let body = exchange.request.body.clone().expect("it was looked for");
        let request = LlmRequest::from(Wire::new(Dialect::Responses, body.clone()).expect("an object"));
        let Ok(chat) = request.chat() else { continue };
        // A stored prompt has a model of its own; a leaf does not know it.
        let mut chat = chat.clone();
        let model = chat.model.get_or_insert_with(|| "m".to_owned()).clone();
        let sent = encoded(chat.clone()).await;
        let read = |bytes: &[u8]| {
            let mut request: Value = serde_json::from_slice(bytes).unwrap_or_default();
            request["model"] = model.as_str().into();
            meaning::of(Dialect::Responses, &request)
        };
        let (recorded, encoded) = (read(&body), read(&sent));
        if recorded != encoded {
            wrong.push(format!("{}:\n{recorded}\n{encoded}", exchange.id));
        }
        let again = LlmRequest::from(Wire::new(Dialect::Responses, sent).expect("an object"));
        assert_eq!(*again.chat().expect("it was just encoded"), chat, "{}", exchange.id);
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
}
