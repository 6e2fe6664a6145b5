//! Requests and answers of the four dialects, written from the vendors' references.
//!
//! A probe judges by these readers, and not by the library's decoders: a fault of those would pass for right.

mod chat;
mod gemini;
mod messages;
mod responses;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use serde_json::Value;
use steadfast::Dialect;

use crate::{answer::Answer, caller::Caller, prompt::Prompt};

/// A response as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// True if the connection broke in the body.
    pub(crate) is_broken: bool,
}

/// A request in a dialect.
#[derive(Debug)]
pub(crate) struct DialectRequest {
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// Writes a request.
pub(crate) fn request(caller: Caller, model: &str, prompt: &Prompt) -> DialectRequest {
    let body = match caller.dialect {
        Dialect::Anthropic => messages::body(prompt),
        Dialect::OpenAi => chat::body(prompt, caller.is_streamed),
        Dialect::Responses => responses::body(prompt),
        Dialect::Gemini => gemini::body(prompt),
    };
    let mut request = DialectRequest { path: path(caller, model), body };
    if caller.dialect != Dialect::Gemini {
        request.body["model"] = model.into();
        if caller.is_streamed {
            request.body["stream"] = true.into();
        }
    }
    request
}

/// Returns the path and the query.
pub(crate) fn path(caller: Caller, model: &str) -> String {
    match caller.dialect {
        Dialect::Anthropic => "/v1/messages".to_owned(),
        Dialect::OpenAi => "/v1/chat/completions".to_owned(),
        Dialect::Responses => "/v1/responses".to_owned(),
        Dialect::Gemini if caller.is_streamed => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        Dialect::Gemini => format!("/v1beta/models/{model}:generateContent"),
    }
}

/// Reads a response up to its end or the break of its connection.
pub(crate) fn read(caller: Caller, response: &Received) -> Answer {
    let mut answer = Answer::new(response.status, response.headers.clone());
    let text = match str::from_utf8(&response.body) {
        Ok(text) => text,
        // A character that the break has cut.
        Err(error) if response.is_broken => str::from_utf8(&response.body[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => {
            answer.stumble("the body is no UTF-8");
            return answer;
        }
    };
    let type_of = response.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !(200..300).contains(&response.status) {
        read_refusal(caller.dialect, text, &mut answer);
    } else if caller.is_streamed {
        if !type_of.starts_with("text/event-stream") {
            answer.stumble(format!("the stream's content-type is {type_of:?}"));
        }
        let mut events = events(text);
        if response.is_broken && !text.ends_with(['\r', '\n']) {
            events.pop();
        }
        read_events(caller.dialect, &events, &mut answer);
    } else if !response.is_broken {
        answer.is_marked = true;
        match serde_json::from_str(text) {
            Ok(value) => whole(caller.dialect, &value, &mut answer),
            Err(_) => answer.stumble("the body is no JSON"),
        }
    }
    // Every client hears of a connection that breaks before the end.
    if response.is_broken && !answer.is_marked && answer.error.is_none() {
        answer.error = Some("the connection broke".to_owned());
    }
    answer
}

fn whole(dialect: Dialect, value: &Value, answer: &mut Answer) {
    match dialect {
        Dialect::Anthropic => messages::whole(value, answer),
        Dialect::OpenAi => chat::whole(value, answer),
        Dialect::Responses => responses::whole(value, answer),
        Dialect::Gemini => gemini::event(value, answer),
    }
}

/// Reads an error, which each vendor's SDK takes from these fields.
fn read_refusal(dialect: Dialect, text: &str, answer: &mut Answer) {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &value["error"];
    let is_of_dialect = match dialect {
        Dialect::Anthropic => value["type"] == "error" && error["type"].is_string(),
        Dialect::OpenAi | Dialect::Responses => error.get("type").is_some() || error.get("code").is_some(),
        Dialect::Gemini => error["status"].is_string() && error["code"] == answer.status,
    };
    match error["message"].as_str() {
        Some(message) if is_of_dialect => answer.error = Some(message.to_owned()),
        _ => {
            let beginning: String = text.chars().take(120).collect();
            answer.stumble(format!("the error has not the dialect's form: {beginning:?}"));
        }
    }
}

fn read_events(dialect: Dialect, events: &[Event<'_>], answer: &mut Answer) {
    let mut reader = responses::Reader::default();
    for event in events {
        // OpenAI's SDKs stop reading here, of Responses too, which has an end of its own.
        if event.data == "[DONE]" && matches!(dialect, Dialect::OpenAi | Dialect::Responses) {
            answer.is_marked |= dialect == Dialect::OpenAi;
            break;
        }
        // Whatever follows an end or an error meets a client that has left.
        if answer.is_marked || answer.error.is_some() {
            answer.stumble("an event after the end");
        }
        let Ok(value) = serde_json::from_str::<Value>(&event.data) else {
            answer.stumble("an event is no JSON");
            continue;
        };
        match dialect {
            Dialect::Anthropic => messages::event(event.name, &value, answer),
            Dialect::OpenAi => chat::event(&value, answer),
            Dialect::Responses => reader.event(event.name, &value, answer),
            Dialect::Gemini => {
                gemini::event(&value, answer);
                answer.is_marked = answer.end.is_some();
            }
        }
    }
}

/// An event of a stream.
struct Event<'a> {
    name: &'a str,
    data: String,
}

/// Splits a stream into its events, as the HTML standard has it (9.2.6), with any of its three line ends. The last
/// event needs no empty line: the vendors' SDKs take it too.
fn events(text: &str) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    let (mut name, mut data): (&str, Option<String>) = ("", None);
    let mut offset = 0;
    while offset < text.len() {
        let rest = &text[offset..];
        let length = rest.find(['\r', '\n']).unwrap_or(rest.len());
        let line = &rest[..length];
        let mark = if rest[length..].starts_with("\r\n") { 2 } else { usize::from(length < rest.len()) };
        offset += length + mark;
        if let Some(value) = line.strip_prefix("event:") {
            name = value.strip_prefix(' ').unwrap_or(value);
        } else if let Some(value) = line.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            }
        }
        if line.is_empty() || offset >= text.len() {
            events.extend(data.take().map(|data| Event { name, data }));
            name = "";
        }
    }
    events
}
