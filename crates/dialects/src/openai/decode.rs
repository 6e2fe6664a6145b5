use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    thoughts::{self, Thoughts},
    tokens::Tokens,
};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Extra, ExtraOf, FinishReason, Json, Message, Part, Reasoning, Role, ServiceTier, ToolCall, Usage},
    json::{index, object, parse, raw, read, read_text, service_tier, text, word},
    prices::{Usd, own_cost},
    protocol::Fault,
    tool_calls::call_id,
};

/// An answer, or a chunk of one. Fields that are the same in every chunk are copied only on request.
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
    /// Boxed, as Groq's: the two would be three quarters of what a chunk's decoding moves.
    #[serde(default, deserialize_with = "object")]
    pub(super) usage: Option<Box<Tokens>>,
    /// Venice's place for its own figure of the cost.
    #[serde(default, deserialize_with = "own_cost::dollars")]
    pub(super) cost: Option<Usd>,
    #[serde(default, deserialize_with = "service_tier")]
    pub(super) service_tier: ServiceTier,
    /// Groq's place for the usage of a stream.
    #[serde(default, deserialize_with = "object")]
    pub(super) x_groq: Option<Groq>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
    /// The sources from servers that search.
    #[serde(borrow, default)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) search_results: Option<&'a RawValue>,
}

impl Answer<'_> {
    pub(super) fn id(&self) -> Option<String> {
        self.id.as_deref().filter(|id| !id.is_empty()).map(str::to_owned)
    }

    pub(super) fn model(&self) -> Option<String> {
        self.model.as_deref().filter(|model| !model.is_empty()).map(str::to_owned)
    }

    /// Returns true for a chunk that has neither the answer's model nor any of its content: Azure's filter reports on
    /// the prompt before its model has begun.
    pub(super) fn is_before_the_answer(&self) -> bool {
        let named = [&self.id, &self.model].iter().all(|name| name.as_deref().is_some_and(|name| !name.is_empty()));
        let says = self.choices.as_ref().is_some_and(|choices| !choices.is_empty())
            || self.usage.is_some()
            || self.citations.is_some()
            || self.search_results.is_some();
        !named && !says
    }
}

#[derive(Deserialize)]
pub(super) struct Groq {
    #[serde(default, deserialize_with = "object")]
    pub(super) usage: Option<Box<Tokens>>,
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
    /// The stop text that ended the answer, as vLLM names it. A number is the id of a token.
    #[serde(borrow, default)]
    stop_reason: Option<&'a RawValue>,
    /// The same, as SGLang names it.
    #[serde(borrow, default)]
    matched_stop: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
    /// Moonshot's place for the usage of a stream.
    #[serde(default, deserialize_with = "object")]
    pub(super) usage: Option<Box<Tokens>>,
}

/// A message, or a chunk's addition to one.
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
    /// A router's list of thoughts, with the tokens that go back to their provider.
    #[serde(borrow, default)]
    pub(super) reasoning_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) thought_signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) extra_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) provider_specific_fields: Option<&'a RawValue>,
}

impl Turn<'_> {
    /// Returns true if a field of thoughts is there: most pieces of a stream have none.
    pub(super) fn has_thoughts(&self) -> bool {
        self.reasoning_content.is_some()
            || self.reasoning.is_some()
            || self.reasoning_details.is_some()
            || self.thinking_blocks.is_some()
            || self.thought_signature.is_some()
            || self.extra_content.is_some()
            || self.provider_specific_fields.is_some()
    }
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
    #[serde(borrow, default)]
    pub(super) extra_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) thought_signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) provider_specific_fields: Option<&'a RawValue>,
}

impl<'a> Call<'a> {
    /// Returns the called function, with its arguments.
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
    /// Returns true unless it has neither name nor arguments: some servers write that for no call.
    pub(super) fn is_call(&self) -> bool {
        let named = self.name.as_deref().is_some_and(|name| !name.is_empty());
        named || !matches!(self.arguments().trim(), "" | "{}")
    }

    pub(super) fn arguments(&self) -> String {
        let Some(raw) = self.arguments.filter(|raw| raw.get() != "null") else { return String::new() };
        read_text(raw).unwrap_or_else(|| raw.get().to_owned())
    }
}

/// Parses a body or a chunk; an error in its place is a fault.
pub(super) fn answer(json: &[u8]) -> Result<Answer<'_>, Fault> {
    let answer: Answer<'_> = parse(json)?;
    let reports = answer.error.is_some_and(|error| !matches!(error.get(), "null" | "false" | "\"\"" | "{}"));
    if reports || answer.object.as_deref() == Some("error") {
        return Err(Fault::Reported(serde_json::from_slice(json)?));
    }
    Ok(answer)
}

/// Returns the tokens of a body or a chunk.
pub(super) fn usage(json: &[u8]) -> Option<Usage> {
    let answer: Answer<'_> = parse(json).ok()?;
    answer.usage.map(|tokens| tokens.usage(answer.cost, answer.service_tier))
}

/// Decodes a whole answer.
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
    let matched_stop = choice.matched_stop();
    let mut turn = choice.message.or(choice.delta).map(|turn| *turn).unwrap_or_default();
    let mut message = Message::new(Role::Assistant, turn.content.map(content).transpose()?.unwrap_or_default());
    for part in &mut message.content {
        if let Part::Reasoning(reasoning) = part {
            let mut thoughts = Thoughts::default();
            thoughts.think(&reasoning.text);
            reasoning.opaque = thoughts.take();
        }
    }
    let mut thoughts = Thoughts::default();
    let text = thoughts.add(&mut turn).unwrap_or_default();
    if let Some(opaque) = thoughts.take() {
        message.content.insert(0, Part::Reasoning(Reasoning { text, opaque: Some(opaque) }));
    }
    let refused = turn.refusal.filter(|text| !text.is_empty());
    let declined = refused.is_some();
    message.content.extend(refused.map(Part::Refusal));
    for (place, mut call) in turn.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let Some(function) = call.called().filter(Function::is_call) else { continue };
        let opaque = thoughts::of_call(&call).map(|fields| thoughts::opaque(fields, false));
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| call_id(id.as_deref(), place));
        let arguments = or_empty_object(function.arguments());
        let mut made = ToolCall::new(id, function.name.unwrap_or_default(), arguments);
        made.opaque = opaque;
        message.content.push(Part::ToolCall(made));
    }
    if let Some(function) = turn.function_call.filter(Function::is_call) {
        let arguments = or_empty_object(function.arguments());
        message.content.push(Part::ToolCall(ToolCall::new(
            call_id(id.as_deref(), 0),
            function.name.unwrap_or_default(),
            arguments,
        )));
    }
    if let Some(audio) = turn.audio.filter(|audio| is_sound(audio)) {
        let value = Json::from(serde_json::json!({ "audio": audio }));
        message.content.push(Part::Other { dialect: Dialect::OpenAi, value });
    }
    let annotations = ("annotations", turn.annotations);
    message.content.extend(extra(ExtraOf::Answer, [annotations].into_iter().chain(sources)));
    message.id = id;
    message.model = model;
    let reason = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty());
    message.finish = reason.map(|reason| finish(reason, declined));
    if message.finish == Some(FinishReason::Stop) {
        message.content.extend(matched_stop);
    }
    message.usage = answer.usage.map(|tokens| tokens.usage(answer.cost, answer.service_tier));
    Ok(message)
}

/// Returns the lists that only this dialect has, unless they are empty.
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
    /// Returns the stop text that ended the answer, as a part of it. The reader of the request knows if it is one.
    pub(super) fn matched_stop(&self) -> Option<Part> {
        let text = [self.stop_reason, self.matched_stop].into_iter().flatten().find_map(read_text)?;
        (!text.is_empty()).then(|| Part::of_matched_stop(&text))
    }

    /// Fails for an error of this choice alone, or a finish reason that means one.
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

/// Returns true if a spoken answer has sound; some servers write one with empty fields.
fn is_sound(audio: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Sound<'a> {
        #[serde(borrow, default, deserialize_with = "word")]
        id: Option<Cow<'a, str>>,
        #[serde(borrow, default, deserialize_with = "word")]
        data: Option<Cow<'a, str>>,
        #[serde(borrow, default, deserialize_with = "word")]
        transcript: Option<Cow<'a, str>>,
    }
    let sound: Option<Sound<'_>> = read(audio);
    sound.is_some_and(|Sound { id, data, transcript }| {
        [id, data, transcript].into_iter().flatten().any(|text| !text.is_empty())
    })
}

/// Returns the parts of a `content`: a text, or a list of typed parts. Some servers parse the model's text as JSON: any
/// other value stands for its text.
pub(super) fn content(raw: &RawValue) -> Result<Vec<Part>, Fault> {
    let value: Value = match raw.get().as_bytes().first() {
        Some(b'"') => {
            let text = match read_text(raw) {
                Some(text) => text,
                None => serde_json::from_str(raw.get())?,
            };
            return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
        }
        Some(b'[') => serde_json::from_str(raw.get())?,
        Some(b'n') => return Ok(Vec::new()),
        _ => return Ok(vec![Part::Text(raw.get().to_owned())]),
    };
    let Value::Array(parts) = value else { return Ok(Vec::new()) };
    // A list that is no list of parts is the model's JSON too.
    let is_part = |part: &Value| part.get("type").is_some_and(Value::is_string);
    if !parts.is_empty() && !parts.iter().any(is_part) {
        return Ok(vec![Part::Text(raw.get().to_owned())]);
    }
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
    // Compatible servers pass on other protocols' words.
    match reason.to_ascii_lowercase().as_str() {
        "stop" | "content_filter" if declined => FinishReason::Refusal,
        "stop" | "end_turn" | "eos" | "eos_token" | "stop_sequence" => FinishReason::Stop,
        "tool_calls" | "tool_call" | "function_call" | "tool_use" => FinishReason::ToolUse,
        "length" | "max_tokens" | "max_output_tokens" | "model_length" => FinishReason::Length,
        "content_filter" | "sensitive" => FinishReason::Filtered,
        _ => FinishReason::Other(reason.to_owned()),
    }
}
