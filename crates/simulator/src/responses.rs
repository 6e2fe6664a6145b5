//! OpenAI Responses (platform.openai.com, "Responses", "Streaming events"; the answers as recorded).

use std::{borrow::Cow, fmt::Write};

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::check::examine;
use super::openai::OpenAi;
use super::protocol::{Answer, BAD_KEY, ParsedRequest, Protocol, bearer, text_field};
use super::refusal::Refusal;
use super::response_form::{Account, Form, check_references, items};
use steadfast::{Dialect, providers::simulated::RateStatus};

#[derive(Debug)]
pub(super) struct Responses;

/// The summary of all simulated reasoning.
const SUMMARY: &str = "**Considering the question**";

impl Protocol for Responses {
    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        if bearer(request) == Some(BAD_KEY) {
            return Err(Refusal::BadKey);
        }
        let missing = |name: &'static str| Refusal::invalid(name, format!("Missing required parameter: '{name}'."));
        let model = text_field(body, "model").ok_or_else(|| missing("model"))?;
        examine(Dialect::Responses, model, body)?;
        let account = Account::named(account);
        check_references(body, account)?;
        let (form, chat) = Form::parse(body, account);
        Ok(ParsedRequest {
            model: model.to_owned(),
            stream: body["stream"] == true,
            max_tokens: chat.max_tokens,
            prefilled: items(&body["input"]).last().is_some_and(|last| last["role"] == "assistant"),
            include_usage: true,
            chat: Some(chat),
            form: Some(form),
            ..ParsedRequest::default()
        })
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        let (mut status, mut body) = OpenAi.refuse(refusal, request_id);
        let error = &mut body["error"];
        let mut set = |param: Option<&str>, code: &str, message: Option<String>| {
            error["param"] = param.into();
            error["code"] = code.into();
            if let Some(message) = message {
                error["message"] = message.into();
            }
        };
        match refusal {
            Refusal::Invalid { message, .. } => {
                error["code"] = code_beside(message).into();
                if message.starts_with("Item with id") || message.starts_with("Conversation with id") {
                    status = StatusCode::NOT_FOUND;
                }
            }
            Refusal::UnknownModel(model) => {
                status = StatusCode::BAD_REQUEST;
                let message = format!("The requested model '{model}' does not exist.");
                set(Some("model"), "model_not_found", Some(message));
            }
            Refusal::ContextLength => {
                let message = "Your input exceeds the context window of this model. Please adjust your input and try \
                               again.";
                set(Some("input"), "context_length_exceeded", Some(message.to_owned()));
            }
            Refusal::ContentFilter => {
                let message = "Invalid prompt: your prompt was flagged as potentially violating our usage policy. \
                               Please try again with a different prompt.";
                set(None, "invalid_prompt", Some(message.to_owned()));
            }
            Refusal::Prefill => error["param"] = "input".into(),
            _ => {}
        }
        (status, body)
    }

    fn headers(&self, headers: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        OpenAi.headers(headers, request_id, rate, refusal);
    }

    fn whole(&self, answer: &Answer) -> Value {
        finished(answer)
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        let mut events = Events { number: 0, to };
        let begun = response(answer, "in_progress", vec![]);
        events.add(json!({ "type": "response.created", "response": begun }));
        events.add(json!({ "type": "response.in_progress", "response": begun }));
        if let Some(item) = reasoning(answer) {
            events.reasoning(&item);
        }
        let Some((output_index, item)) = content(answer, "in_progress") else { return };
        let item_id = item["id"].clone();
        let is_message = item["type"] == "message";
        events.add(json!({ "type": "response.output_item.added", "output_index": output_index, "item": item }));
        if is_message {
            events.add(json!({
                "type": "response.content_part.added",
                "item_id": item_id,
                "output_index": output_index,
                "content_index": 0,
                "part": part(""),
            }));
        }
    }

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        let Some((output_index, item)) = content(answer, "in_progress") else { return };
        let mut event = json!({
            "type": kind_of_delta(&item, "delta"),
            "item_id": item["id"],
            "output_index": output_index,
            "delta": answer.piece(index),
        });
        if item["type"] == "message" {
            event["content_index"] = 0.into();
            event["logprobs"] = json!([]);
        }
        Events { number: before_tokens(answer) + u64::from(index), to }.add(event);
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        let mut events = Events { number: before_tokens(answer) + u64::from(answer.tokens), to };
        if let Some((output_index, item)) = content(answer, status(answer)) {
            let id = &item["id"];
            let mut event =
                json!({ "type": kind_of_delta(&item, "done"), "item_id": id, "output_index": output_index });
            match item["type"].as_str() {
                Some("message") => {
                    event["content_index"] = 0.into();
                    event["text"] = item["content"][0]["text"].clone();
                    event["logprobs"] = json!([]);
                    events.add(event);
                    events.add(json!({
                        "type": "response.content_part.done",
                        "item_id": id,
                        "output_index": output_index,
                        "content_index": 0,
                        "part": item["content"][0],
                    }));
                }
                kind => {
                    let field = if kind == Some("custom_tool_call") { "input" } else { "arguments" };
                    event[field] = item[field].clone();
                    events.add(event);
                }
            }
            events.add(json!({ "type": "response.output_item.done", "output_index": output_index, "item": item }));
        }
        to.push_str(&self.end_mark(answer));
    }

    fn end_mark(&self, answer: &Answer) -> Cow<'static, str> {
        let mut to = String::new();
        let after_tokens = match content(answer, "completed") {
            Some((_, item)) if item["type"] == "message" => 3,
            Some(_) => 2,
            None => 0,
        };
        let number = before_tokens(answer) + u64::from(answer.tokens) + after_tokens;
        let kind = if answer.cut_short { "response.incomplete" } else { "response.completed" };
        Events { number, to: &mut to }.add(json!({ "type": kind, "response": finished(answer) }));
        to.into()
    }

    /// Writes a failure as `response.failed`, in every second call after an event `error`: both were recorded.
    fn error_event(&self, answer: &Answer, tokens: u32, to: &mut String) {
        let error = json!({
            "code": "server_error",
            "message": "An error occurred while processing your request. You can retry your request.",
        });
        let mut events = Events { number: before_tokens(answer) + u64::from(tokens), to };
        if answer.id.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) {
            let mut said = error.clone();
            said["param"] = Value::Null;
            events.add(json!({ "type": "error", "error": said }));
        }
        let mut failed = response(answer, "failed", vec![]);
        failed["error"] = error;
        events.add(json!({ "type": "response.failed", "response": failed }));
    }

    fn keep_alive(&self) -> &'static str {
        ": keep-alive\n\n"
    }
}

/// The events of a stream, numbered from `number`.
struct Events<'a> {
    number: u64,
    to: &'a mut String,
}

impl Events<'_> {
    fn add(&mut self, mut event: Value) {
        event["sequence_number"] = self.number.into();
        self.number += 1;
        let kind = event["type"].as_str().unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(self.to, "event: {kind}\ndata: {event}\n\n");
    }

    /// Adds an item of reasoning from its beginning to its end.
    fn reasoning(&mut self, item: &Value) {
        let mut begun = item.clone();
        begun["summary"] = json!([]);
        self.add(json!({ "type": "response.output_item.added", "output_index": 0, "item": begun }));
        for (index, whole) in items(&item["summary"]).iter().enumerate() {
            let empty = json!({ "type": "summary_text", "text": "" });
            for (kind, field, value) in [
                ("response.reasoning_summary_part.added", "part", &empty),
                ("response.reasoning_summary_text.delta", "delta", &whole["text"]),
                ("response.reasoning_summary_text.done", "text", &whole["text"]),
                ("response.reasoning_summary_part.done", "part", whole),
            ] {
                let mut event =
                    json!({ "type": kind, "item_id": item["id"], "output_index": 0, "summary_index": index });
                event[field] = value.clone();
                self.add(event);
            }
        }
        self.add(json!({ "type": "response.output_item.done", "output_index": 0, "item": item }));
    }
}

/// Returns the number of events before the first token.
fn before_tokens(answer: &Answer) -> u64 {
    let reasoning = reasoning(answer).map_or(0, |item| 2 + 4 * items(&item["summary"]).len() as u64);
    let content = match content(answer, "in_progress") {
        Some((_, item)) if item["type"] == "message" => 2,
        Some(_) => 1,
        None => 0,
    };
    2 + reasoning + content
}

/// Returns the end of the ids of an answer's items, which no other account gives. The account recognises only those of
/// stored answers.
fn own_id(answer: &Answer) -> String {
    match &answer.form {
        Some(form) if form.is_stored => form.account.id(&answer.id),
        Some(form) => form.account.passing_id(&answer.id),
        None => answer.id.clone(),
    }
}

fn reasoning(answer: &Answer) -> Option<Value> {
    let form = answer.form.as_ref().filter(|form| form.has_reasoning && answer.tokens > 0)?;
    let summary = if form.has_summary { json!([{ "type": "summary_text", "text": SUMMARY }]) } else { json!([]) };
    Some(json!({
        "id": format!("rs_{}", own_id(answer)),
        "type": "reasoning",
        "encrypted_content": form.account.seal(&answer.id),
        "summary": summary,
    }))
}

/// Returns the item of the answer's content, and its place. An item in progress is empty.
fn content(answer: &Answer, status: &str) -> Option<(u32, Value)> {
    if answer.tokens == 0 {
        return None;
    }
    let place = u32::from(reasoning(answer).is_some());
    let own_id = own_id(answer);
    let whole = || if status == "in_progress" { String::new() } else { answer.text() };
    let Some(tool) = &answer.tool else {
        let parts = if status == "in_progress" { json!([]) } else { json!([part(&answer.text())]) };
        let id = format!("msg_{own_id}");
        return Some((
            place,
            json!({ "id": id, "type": "message", "status": status, "content": parts, "role": "assistant" }),
        ));
    };
    let own = answer.form.as_ref().and_then(|form| form.tool(&tool.name));
    let is_custom = own.is_some_and(|own| own.is_custom);
    let (kind, prefix, field) =
        if is_custom { ("custom_tool_call", "ctc", "input") } else { ("function_call", "fc", "arguments") };
    // The length of OpenAI's.
    let call_id = &own_id[own_id.len().saturating_sub(24)..];
    let mut item = json!({
        "id": format!("{prefix}_{own_id}"),
        "type": kind,
        "status": status,
        "call_id": format!("call_{call_id}"),
        "name": own.map_or(&tool.name, |own| &own.name),
    });
    item[field] = whole().into();
    if let Some(namespace) = own.and_then(|own| own.namespace.as_ref()) {
        item["namespace"] = namespace.as_str().into();
    }
    Some((place, item))
}

fn kind_of_delta(item: &Value, end: &str) -> String {
    let kind = match item["type"].as_str() {
        Some("custom_tool_call") => "custom_tool_call_input",
        Some("function_call") => "function_call_arguments",
        _ => "output_text",
    };
    format!("response.{kind}.{end}")
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text })
}

fn status(answer: &Answer) -> &'static str {
    if answer.cut_short { "incomplete" } else { "completed" }
}

/// Returns the whole response.
fn finished(answer: &Answer) -> Value {
    let status = status(answer);
    let items = reasoning(answer).into_iter().chain(content(answer, status).map(|(_, item)| item));
    let mut response = response(answer, status, items.collect());
    if answer.cut_short {
        response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
    }
    response["usage"] = json!({
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": answer.tokens,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": answer.prompt_tokens.saturating_add(u64::from(answer.tokens)),
    });
    response
}

fn response(answer: &Answer, status: &str, output: Vec<Value>) -> Value {
    let mut response = json!({
        "id": format!("resp_{}", own_id(answer)),
        "object": "response",
        "created_at": answer.created,
        "completed_at": (status == "completed").then_some(answer.created),
        "status": status,
        "error": null,
        "incomplete_details": null,
        "model": answer.model,
        "output": output,
        "usage": null,
    });
    for (name, value) in answer.form.iter().flat_map(|form| &form.echo) {
        response[name] = value.clone();
    }
    response
}

/// Returns the code beside a refusal's words, as recorded or as reported in users' issues.
fn code_beside(message: &str) -> Option<&'static str> {
    const CODES: &[(&str, &str)] = &[
        ("Missing required parameter", "missing_required_parameter"),
        ("Unknown parameter", "unknown_parameter"),
        ("Unsupported parameter", "unsupported_parameter"),
        ("Unsupported value", "unsupported_value"),
        ("Invalid type for", "invalid_type"),
        ("Invalid schema for function", "invalid_function_parameters"),
        ("Invalid schema for response_format", "invalid_json_schema"),
        ("Previous response with id", "previous_response_not_found"),
        ("The encrypted content", "invalid_encrypted_content"),
        ("The file type you uploaded", "unsupported_file"),
        ("decimal above maximum", "decimal_above_max_value"),
        ("decimal below minimum", "decimal_below_min_value"),
        ("integer below minimum", "integer_below_min_value"),
        ("array too long", "array_above_max_length"),
        ("empty array", "empty_array"),
        ("string too long", "string_above_max_length"),
        ("Invalid value", "invalid_value"),
        ("Invalid 'input[", "invalid_value"),
    ];
    CODES.iter().find(|(words, _)| message.contains(words)).map(|(_, code)| *code)
}
