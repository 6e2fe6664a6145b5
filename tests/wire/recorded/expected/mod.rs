//! The content of an answer, read from the recording by a small walk over its JSON: the crate's own decoders have no
//! part in it.

mod anthropic;
mod errors;
mod gemini;
mod openai;
mod responses;

use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind,
    chat::{ExtraOf, FinishReason, Message, Opaque, Part},
};

pub(crate) use self::errors::wait;
use crate::{
    recorded::{events, mapping::Counted},
    recordings::Exchange,
};

/// The content of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) text: String,
    pub(crate) thought: String,
    /// Signatures, encrypted thoughts.
    pub(crate) marks: Vec<String>,
    pub(crate) refusal: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) stop: Option<FinishReason>,
    /// Input, output, read from the cache, written to it, reasoning.
    pub(crate) usage: Option<[u64; 5]>,
    /// The same as its server counts it.
    counted: Option<Counted>,
    /// Citations, grounding, annotations.
    pub(crate) sources: Vec<Value>,
    /// Parts that only this provider knows.
    pub(crate) other: Vec<Value>,
    /// Pictures and the like, by their bytes in base64.
    pub(crate) media: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// The provider's id, if it gave one.
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    /// The arguments as JSON, or as a text if they are none.
    pub(crate) arguments: Value,
}

impl Call {
    fn new(id: Option<&str>, name: &str, arguments: &str) -> Self {
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        let id = id.filter(|id| !id.is_empty()).map(str::to_owned);
        let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
        Self { id, name: name.to_owned(), arguments }
    }
}

/// The expected outcome of an exchange.
#[derive(Debug)]
pub(crate) enum Expected {
    Answer(Box<Said>),
    /// One of these kinds, and the bytes that the error must have (a part of the answer).
    Failure {
        kind: ErrorKind,
        raw: Option<String>,
    },
}

/// Returns what a provider signed. A server of Chat Completions signs nothing itself: its token has the thought's own
/// fields, and signatures of others may be among them.
fn signatures(opaque: Option<&Opaque>) -> Vec<String> {
    let Some(opaque) = opaque else { return Vec::new() };
    if opaque.dialect != Dialect::OpenAi {
        return vec![opaque.token.clone()];
    }
    let fields: Value = serde_json::from_str(opaque.token.split_once(':').expect("digits").1).expect("JSON");
    fields["reasoning_details"].as_array().into_iter().flatten().flat_map(openai::marks).collect()
}

impl Said {
    /// Returns the content that the crate read, for comparison with `self`.
    pub(crate) fn of(message: &Message) -> Self {
        let mut said = Self { id: message.id.clone(), model: message.model.clone(), ..Self::default() };
        for part in &message.content {
            match part {
                Part::Text(text) => said.text.push_str(text),
                Part::Refusal(text) => said.refusal.push_str(text),
                Part::Reasoning(reasoning) => {
                    said.thought.push_str(&reasoning.text);
                    said.marks.extend(signatures(reasoning.opaque.as_ref()));
                }
                Part::ToolCall(call) => {
                    said.marks.extend(signatures(call.opaque.as_ref()));
                    said.calls.push(Call::new(Some(&call.id), &call.name, &call.arguments));
                }
                Part::Image(image) => {
                    if let steadfast::chat::Media::Base64 { data, .. } = &image.media {
                        said.media.push(data.clone());
                    }
                }
                Part::Extra { of, extra } => {
                    let fields: serde_json::Map<String, Value> = extra.fields.read().unwrap();
                    for (name, value) in &fields {
                        match (of, name.as_str(), value) {
                            (_, "thoughtSignature", Value::String(token)) => said.marks.push(token.clone()),
                            (ExtraOf::Turn, "reasoning_details", Value::Array(details)) => {
                                said.marks.extend(details.iter().flat_map(openai::marks));
                            }
                            (_, "citations" | "annotations" | "search_results", Value::Array(many)) => {
                                for source in many {
                                    // A list may come again with more in it.
                                    if *of != ExtraOf::Answer || !said.sources.contains(source) {
                                        said.sources.push(source.clone());
                                    }
                                }
                            }
                            (ExtraOf::Answer, ..) => said.sources.push(value.clone()),
                            _ => {}
                        }
                    }
                }
                Part::Other { value, .. } => {
                    let value = value.value().unwrap();
                    said.marks.extend(value["thoughtSignature"].as_str().map(str::to_owned));
                    said.other.push(value);
                }
                _ => said.other.push(Value::Null),
            }
        }
        said.stop = message.finish.clone();
        said.usage = message
            .usage
            .map(|usage| [usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning]);
        said
    }

    /// Returns the differences between the crate's reading and the recording. Ids that the provider left out are the
    /// crate's own.
    pub(crate) fn differences(&self, mut found: Self) -> Vec<String> {
        for (call, expected) in found.calls.iter_mut().zip(&self.calls) {
            if expected.id.is_none() {
                call.id = None;
            }
        }
        let mut differences = Vec::new();
        let mut compare = |what: &str, same: bool, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
            if !same {
                let short = |value: &dyn std::fmt::Debug| format!("{value:?}").chars().take(300).collect::<String>();
                differences.push(format!("{what}: expected {}, found {}", short(expected), short(found)));
            }
        };
        compare("id", self.id == found.id, &self.id, &found.id);
        compare("model", self.model == found.model, &self.model, &found.model);
        compare("text", self.text == found.text, &self.text, &found.text);
        compare("thought", self.thought == found.thought, &self.thought, &found.thought);
        compare("marks", self.marks == found.marks, &self.marks, &found.marks);
        compare("refusal", self.refusal == found.refusal, &self.refusal, &found.refusal);
        compare("calls", self.calls == found.calls, &self.calls, &found.calls);
        compare("stop", self.stop == found.stop, &self.stop, &found.stop);
        compare("usage", self.usage == found.usage, &self.usage, &found.usage);
        compare("sources", self.sources == found.sources, &self.sources, &found.sources);
        compare("other", self.other == found.other, &self.other, &found.other);
        compare("media", self.media == found.media, &self.media, &found.media);
        differences
    }

    fn is_silent(&self) -> bool {
        self.text.is_empty()
            && self.refusal.is_empty()
            && self.calls.is_empty()
            && self.other.is_empty()
            && self.media.is_empty()
    }

    /// Returns whether a token of it came, thoughts included.
    fn has_begun(&self) -> bool {
        !self.is_silent() || !self.thought.is_empty() || !self.marks.is_empty()
    }
}

/// A reader of one dialect: chunk by chunk, or the whole answer as one.
trait Walk {
    /// Takes one JSON document in. `Err`: it reports a failure.
    fn take(&mut self, name: &str, json: &Value) -> Result<(), Failure>;
    /// Returns the content so far.
    fn said(&self) -> Said;
    /// Returns whether the provider's own end has come.
    fn is_over(&self) -> bool;
}

enum Failure {
    /// An error object in place of an answer.
    Reported,
    /// A failure in the answer's own form.
    Kind(ErrorKind),
}

fn walker(exchange: &Exchange) -> Box<dyn Walk> {
    match exchange.dialect {
        Dialect::Anthropic => Box::new(anthropic::Walker::default()),
        Dialect::Gemini => Box::new(gemini::Walker::default()),
        Dialect::Responses => Box::new(responses::Walker::new(exchange.is_sse)),
        _ => Box::new(openai::Walker::new(exchange.is_sse)),
    }
}

impl Said {
    fn count(&mut self, dialect: Dialect, usage: &Value) {
        let counted = Counted::read(dialect, usage);
        (self.usage, self.counted) = (Some(counted.meaning(dialect)), Some(counted));
    }
}

/// Why an answer ends by its recording, and its tokens as its server counts them.
pub(crate) fn end(exchange: &Exchange) -> (Option<FinishReason>, Option<Counted>) {
    let text = std::str::from_utf8(&exchange.body).unwrap_or_default();
    let mut walk = walker(exchange);
    if !exchange.is_sse {
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        let chunks = json.as_array().cloned().unwrap_or_else(|| vec![json.clone()]);
        chunks.iter().try_for_each(|chunk| walk.take("", chunk).ok());
        let said = walk.said();
        return (said.stop, said.counted);
    }
    for block in events::blocks(text) {
        let json = block.data.and_then(|data| serde_json::from_str::<Value>(&data).ok());
        if json.is_some_and(|json| walk.take(&block.name, &json).is_err() || is_end(&json)) {
            break;
        }
    }
    let said = walk.said();
    (said.stop, said.counted)
}

/// Returns the number of choices or candidates of an answer.
pub(crate) fn choices(exchange: &Exchange) -> u64 {
    let text = std::str::from_utf8(&exchange.body).unwrap_or_default();
    let documents: Vec<Value> = match exchange.is_sse {
        true => {
            let data = events::blocks(text).into_iter().filter_map(|block| block.data);
            data.filter_map(|data| serde_json::from_str(&data).ok()).collect()
        }
        false => serde_json::from_str(text).into_iter().collect(),
    };
    let lists = documents.iter().flat_map(|json| [&json["choices"], &json["candidates"]]).filter_map(Value::as_array);
    let choices = lists.flat_map(|list| {
        list.iter().enumerate().map(|(place, choice)| choice["index"].as_u64().unwrap_or(place as u64) + 1)
    });
    choices.max().unwrap_or(0)
}

/// Returns the expected outcome of an exchange.
pub(crate) fn of(exchange: &Exchange) -> Expected {
    let dialect = exchange.dialect;
    let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
    if !exchange.status.is_success() {
        let kind = errors::kind(dialect, exchange.status.as_u16(), text, wait(exchange).is_some());
        return Expected::Failure { kind, raw: Some(text.to_owned()) };
    }
    let failed = |kind, raw: &str| Expected::Failure { kind, raw: Some(raw.to_owned()) };
    let mut walk = walker(exchange);
    if exchange.is_sse {
        for block in events::blocks(text) {
            let (json, source) = match &block.data {
                // Bytes behind the provider's end mark are no part of the answer.
                Some(data) if data.trim() == "[DONE]" => break,
                Some(data) if data.trim().is_empty() => continue,
                Some(data) => (serde_json::from_str::<Value>(data), data),
                None if block.bare.is_empty() => continue,
                None => {
                    // The rest of the stream is the error, or what stands in a field of that name.
                    let words = match block.bare.trim().strip_prefix("error:") {
                        Some(words) if words.trim_start().starts_with('{') => words.trim(),
                        Some(_) => continue,
                        None => text[block.start..].trim(),
                    };
                    let kind = errors::kind_inside(dialect, words);
                    let kind = if walk.said().has_begun() { ErrorKind::StreamBroken } else { kind };
                    return failed(kind, words);
                }
            };
            let Ok(json) = json else { return failed(ErrorKind::Malformed, source) };
            match walk.take(&block.name, &json) {
                Ok(()) if is_end(&json) => break,
                Ok(()) => {}
                Err(failure) => {
                    let kind = match failure {
                        Failure::Reported => errors::kind_inside(dialect, source),
                        Failure::Kind(kind) => kind,
                    };
                    let named = matches!(kind, ErrorKind::ContentPolicy | ErrorKind::ContextLength);
                    let broken = walk.said().has_begun() && !named;
                    return failed(if broken { ErrorKind::StreamBroken } else { kind }, source);
                }
            }
        }
        if !walk.is_over() {
            return Expected::Failure { kind: ErrorKind::StreamBroken, raw: None };
        }
    } else {
        if text.trim().is_empty() {
            return Expected::Failure { kind: ErrorKind::EmptyAnswer, raw: None };
        }
        let Ok(json) = serde_json::from_str::<Value>(text) else { return failed(ErrorKind::Malformed, text) };
        let chunks = json.as_array().cloned().unwrap_or_else(|| vec![json.clone()]);
        for chunk in &chunks {
            match walk.take("", chunk) {
                Ok(()) => {}
                Err(Failure::Reported) => return failed(errors::kind_inside(dialect, text), text),
                Err(Failure::Kind(kind)) => return failed(kind, text),
            }
        }
    }
    let said = walk.said();
    let has_tokens = said.has_begun() || said.usage.is_some_and(|[_, output, ..]| output > 0);
    match said.is_silent().then(|| silence(said.stop.as_ref(), has_tokens, exchange)).flatten() {
        // The caller of a stream has seen its thoughts, and nothing but the model's own failure makes them none.
        Some(ErrorKind::Malformed) if exchange.is_sse && said.has_begun() => {
            Expected::Failure { kind: ErrorKind::Malformed, raw: None }
        }
        Some(_) if exchange.is_sse && said.has_begun() => Expected::Answer(Box::new(said)),
        Some(kind) => failed(kind, text),
        None => Expected::Answer(Box::new(said)),
    }
}

/// Returns the kind of an answer without content. `has_tokens` says whether it has thoughts, or tokens were counted.
pub(crate) fn silence(stop: Option<&FinishReason>, has_tokens: bool, exchange: &Exchange) -> Option<ErrorKind> {
    let asked: Value =
        exchange.request.body.as_deref().map_or(Value::Null, |body| serde_json::from_slice(body).unwrap());
    let texts = [&asked["stop"], &asked["stop_sequences"], &asked["generationConfig"]["stopSequences"]];
    let names_stops =
        texts.iter().any(|texts| texts.is_string() || texts.as_array().is_some_and(|list| !list.is_empty()));
    Some(match stop {
        // One of the texts at which it was to stop came first.
        Some(FinishReason::Stop) if names_stops => return None,
        // The model had nothing to say: Anthropic's documentation of stop reasons tells of such turns.
        Some(FinishReason::Stop) if has_tokens || is_after_tool_result(&asked) => return None,
        // An answer may be empty because the model would not say more.
        Some(FinishReason::Refusal | FinishReason::Length | FinishReason::Paused | FinishReason::ToolUse) => {
            return None;
        }
        Some(FinishReason::Filtered) => ErrorKind::ContentPolicy,
        Some(FinishReason::ContextFull) => ErrorKind::ContextLength,
        Some(FinishReason::ModelError(_)) => ErrorKind::Malformed,
        _ => ErrorKind::EmptyAnswer,
    })
}

/// Returns whether the last turn of a request, in any dialect, brings a tool's result.
fn is_after_tool_result(asked: &Value) -> bool {
    let turns = ["messages", "input", "contents"].iter().find_map(|name| asked[name].as_array());
    let Some(last) = turns.and_then(|turns| turns.last()) else { return false };
    let parts = last["content"].as_array().or_else(|| last["parts"].as_array());
    last["role"] == "tool"
        || last["type"].as_str().is_some_and(|kind| kind.ends_with("_output"))
        || parts.is_some_and(|parts| {
            parts.iter().any(|part| part["type"] == "tool_result" || part["functionResponse"].is_object())
        })
}

/// The places in the stream, in bytes, where its first token is whole, thoughts included, and where its first text or
/// tool call is.
pub(crate) struct Commits {
    pub(crate) token: Option<usize>,
    pub(crate) content: Option<usize>,
}

impl Commits {
    pub(crate) fn of(exchange: &Exchange) -> Self {
        let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
        let mut walk = walker(exchange);
        let (mut token, mut content) = (None, None);
        // A part of Anthropic's own kind is there when it is whole.
        let mut whole_others = 0;
        for block in events::blocks(text) {
            let Some(json) = block.data.as_ref().and_then(|data| serde_json::from_str::<Value>(data).ok()) else {
                continue;
            };
            if walk.take(&block.name, &json).is_err() {
                break;
            }
            let mut said = walk.said();
            if json["type"] == "content_block_stop" || exchange.dialect != Dialect::Anthropic {
                whole_others = said.other.len();
            }
            said.other.truncate(whole_others);
            if exchange.dialect == Dialect::OpenAi {
                // A router's list of thoughts comes beside their text, and counts when it is whole.
                said.marks.clear();
            }
            if token.is_none() && said.has_begun() {
                token = Some(block.end);
            }
            if content.is_none() && !said.is_silent() {
                content = Some(block.end);
            }
        }
        Self { token, content }
    }
}

/// The bytes of a stream up to its provider's end mark. What comes behind it is no part of the answer.
pub(crate) fn up_to_the_end(exchange: &Exchange) -> &[u8] {
    let text = std::str::from_utf8(&exchange.body).expect("recordings are text");
    let ends = |block: &events::Block| {
        let data = block.data.as_deref().unwrap_or_default().trim();
        data == "[DONE]" || serde_json::from_str(data).is_ok_and(|json| is_end(&json))
    };
    let end = events::blocks(text).iter().find(|block| exchange.is_sse && ends(block)).map(|block| block.end);
    &exchange.body[..end.unwrap_or(exchange.body.len())]
}

/// Returns true if an event is its provider's end mark.
fn is_end(event: &Value) -> bool {
    matches!(event["type"].as_str(), Some("message_stop" | "response.completed" | "response.incomplete"))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
