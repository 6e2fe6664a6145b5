use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Extra, ExtraOf, FinishReason, Json, Message, Part, Reasoning, Role, ToolCall, Usage},
    providers::{
        http::Fault,
        json::{Count, index, object, parse, raw, read, read_text, text, word},
        tool_calls::call_id,
    },
};

/// An answer, or a chunk of one. What is the same in every chunk is copied only when it is asked for.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "word")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    object: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(default, deserialize_with = "object")]
    pub(super) usage: Option<Tokens>,
    /// Groq's place for the usage of a stream.
    #[serde(default, deserialize_with = "object")]
    pub(super) x_groq: Option<Groq>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
    /// The sources of servers that search.
    #[serde(borrow, default)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) search_results: Option<&'a RawValue>,
}

impl Answer<'_> {
    pub(super) fn id(&self) -> Option<String> {
        self.id.as_deref().map(str::to_owned)
    }

    pub(super) fn model(&self) -> Option<String> {
        self.model.as_deref().map(str::to_owned)
    }
}

#[derive(Deserialize)]
pub(super) struct Groq {
    #[serde(default, deserialize_with = "object")]
    pub(super) usage: Option<Tokens>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default, deserialize_with = "index")]
    pub(super) index: Option<u32>,
    #[serde(borrow, default)]
    message: Option<Box<Turn<'a>>>,
    #[serde(borrow, default)]
    pub(super) delta: Option<Box<Turn<'a>>>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(super) finish_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
}

/// A message, or what a chunk adds to one.
#[derive(Default, Deserialize)]
pub(super) struct Turn<'a> {
    /// A text; a list of typed parts at Mistral.
    #[serde(borrow, default)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "text")]
    pub(super) reasoning_content: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) reasoning: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) refusal: Option<String>,
    #[serde(borrow, default)]
    pub(super) tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow, default)]
    pub(super) function_call: Option<Function<'a>>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) annotations: Option<&'a RawValue>,
    /// A router's list of thoughts, with what their provider wants to see again.
    #[serde(borrow, default)]
    pub(super) reasoning_details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(default, deserialize_with = "index")]
    pub(super) index: Option<u32>,
    #[serde(default, deserialize_with = "text")]
    pub(super) id: Option<String>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    /// A call whose arguments are a text of the tool's own form.
    #[serde(borrow, default)]
    custom: Option<Function<'a>>,
}

impl<'a> Call<'a> {
    /// What is called, with its arguments.
    pub(super) fn called(&mut self) -> Option<Function<'a>> {
        self.function.take().or_else(|| self.custom.take())
    }
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: Option<String>,
    /// A text of JSON; some servers send the object itself.
    #[serde(borrow, default, alias = "input")]
    arguments: Option<&'a RawValue>,
}

impl Function<'_> {
    pub(super) fn arguments(&self) -> String {
        let Some(raw) = self.arguments else { return String::new() };
        read_text(raw).unwrap_or_else(|| raw.get().to_owned())
    }
}

/// Reads a body or a chunk; an error in its place is a fault.
pub(super) fn answer(json: &[u8]) -> Result<Answer<'_>, Fault> {
    let answer: Answer<'_> = parse(json)?;
    let reports = answer.error.is_some_and(|error| !matches!(error.get(), "null" | "false" | "\"\"" | "{}"));
    if reports || answer.object.as_deref() == Some("error") {
        return Err(Fault::Reported(serde_json::from_slice(json)?));
    }
    Ok(answer)
}

/// Reads a whole answer.
pub(super) fn message(body: &[u8]) -> Result<Message, Fault> {
    let answer = answer(body)?;
    let (id, model) = (answer.id(), answer.model());
    let sources = [("citations", answer.citations), ("search_results", answer.search_results)];
    let Some(choices) = answer.choices else {
        return Err(Fault::Malformed(serde::de::Error::missing_field("choices")));
    };
    // Of several choices the first one is the answer; the others are in the bytes.
    let Some(choice) = choices.into_iter().next() else {
        return Err(LlmError::new(ErrorKind::EmptyAnswer, "the answer has no choices").into());
    };
    choice.fault()?;
    let turn = choice.message.or(choice.delta).map(|turn| *turn).unwrap_or_default();
    let mut message = Message::new(Role::Assistant, turn.content.map(content).transpose()?.unwrap_or_default());
    if let Some(text) = turn.reasoning_content.or(turn.reasoning).filter(|text| !text.is_empty()) {
        message.content.insert(0, Part::Reasoning(Reasoning { text, opaque: None }));
    }
    let refused = turn.refusal.filter(|text| !text.is_empty());
    let declined = refused.is_some();
    message.content.extend(refused.map(Part::Refusal));
    for (place, mut call) in turn.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let Some(function) = call.called() else { continue };
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| call_id(id.as_deref(), place));
        let arguments = or_empty_object(function.arguments());
        message.content.push(Part::ToolCall(ToolCall::new(id, function.name.unwrap_or_default(), arguments)));
    }
    if let Some(function) = turn.function_call {
        let arguments = or_empty_object(function.arguments());
        message.content.push(Part::ToolCall(ToolCall::new(
            call_id(id.as_deref(), 0),
            function.name.unwrap_or_default(),
            arguments,
        )));
    }
    if let Some(audio) = turn.audio.filter(|audio| audio.get() != "null") {
        let value = Json::from(serde_json::json!({ "audio": audio }));
        message.content.push(Part::Other { dialect: Dialect::OpenAi, value });
    }
    let annotations = ("annotations", turn.annotations);
    message.content.extend(extra(ExtraOf::Turn, [("reasoning_details", turn.reasoning_details)]));
    message.content.extend(extra(ExtraOf::Answer, [annotations].into_iter().chain(sources)));
    message.id = id;
    message.model = model;
    message.finish =
        choice.finish_reason.as_deref().filter(|reason| !reason.is_empty()).map(|reason| finish(reason, declined));
    message.usage = answer.usage.map(Tokens::usage);
    Ok(message)
}

/// Lists that only this dialect has, those of them that have something in them.
pub(super) fn extra<'a>(
    of: ExtraOf,
    lists: impl IntoIterator<Item = (&'static str, Option<&'a RawValue>)>,
) -> Option<Part> {
    let lists = lists.into_iter().filter_map(|(name, raw)| Some((name, read::<Vec<Value>>(raw?)?)));
    let fields: Map<String, Value> =
        lists.filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name.to_owned(), Value::Array(list))).collect();
    (!fields.is_empty()).then(|| Part::Extra { of, extra: Extra::new(Dialect::OpenAi, fields) })
}

fn or_empty_object(arguments: String) -> String {
    if arguments.trim().is_empty() { "{}".to_owned() } else { arguments }
}

impl Choice<'_> {
    /// An error of this choice alone, or a reason for stopping that means one.
    pub(super) fn fault(&self) -> Result<(), Fault> {
        if let Some(error) = self.error.filter(|error| error.get() != "null") {
            let error: Value = serde_json::from_str(error.get())?;
            return Err(Fault::Reported(serde_json::json!({ "error": error })));
        }
        let reason = self.finish_reason.as_deref().unwrap_or_default();
        let (kind, message) = match reason {
            "error" => (ErrorKind::Server, "the provider stopped with an error"),
            "insufficient_system_resource" => (ErrorKind::Overloaded, "the provider stopped for want of resources"),
            _ => return Ok(()),
        };
        Err(LlmError::new(kind, message).with_code(reason).into())
    }
}

/// The parts of a `content`: a text, or a list of typed parts.
pub(super) fn content(raw: &RawValue) -> Result<Vec<Part>, Fault> {
    let value: Value = match raw.get().as_bytes().first() {
        Some(b'"') => {
            let text = match read_text(raw) {
                Some(text) => text,
                None => serde_json::from_str(raw.get())?,
            };
            return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
        }
        _ => serde_json::from_str(raw.get())?,
    };
    let Value::Array(parts) = value else { return Ok(Vec::new()) };
    Ok(parts.into_iter().map(typed).collect())
}

fn typed(part: Value) -> Part {
    let field = |name: &str| part.get(name).and_then(Value::as_str);
    match field("type") {
        Some("text") => Part::Text(field("text").unwrap_or_default().to_owned()),
        // Mistral: a list of texts, or a text.
        Some("thinking") => {
            let text = match part.get("thinking") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(texts)) => texts.iter().filter_map(|text| text.get("text")?.as_str()).collect(),
                _ => String::new(),
            };
            Part::Reasoning(Reasoning { text, opaque: None })
        }
        Some("refusal") => Part::Refusal(field("refusal").unwrap_or_default().to_owned()),
        _ => Part::Other { dialect: Dialect::OpenAi, value: part.into() },
    }
}

pub(super) fn finish(reason: &str, declined: bool) -> FinishReason {
    match reason {
        "stop" | "content_filter" if declined => FinishReason::Refusal,
        "stop" | "end_turn" | "eos" | "stop_sequence" => FinishReason::Stop,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolUse,
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "content_filter" => FinishReason::Filtered,
        other => FinishReason::Other(other.to_owned()),
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default, deserialize_with = "object")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default, deserialize_with = "object")]
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's name of the cached tokens.
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default)]
    cache_write_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

impl Tokens {
    pub(super) fn usage(self) -> Usage {
        let prompt = self.prompt_tokens_details.unwrap_or_default();
        let completion = self.completion_tokens_details.unwrap_or_default();
        let mut usage = Usage::new(self.prompt_tokens.get(), self.completion_tokens.get());
        usage.cache_read = prompt.cached_tokens.0.unwrap_or_else(|| self.prompt_cache_hit_tokens.get());
        usage.cache_write = prompt.cache_write_tokens.get();
        usage.reasoning = completion.reasoning_tokens.get();
        usage
    }
}
