use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::protocol::{ChatCompletions, Flavour};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{
        Chat, Extra, Json, Media, Message, Opaque, OutputSchema, Part, Role, Tool, ToolCall, ToolChoice, ToolResult,
    },
    fields::{Object, word},
    media::media_type_of,
    models::Family,
    protocol::{Protocol as _, to_json, to_value},
    raw_json::RawJson,
    translate::{
        ASK_FOR_JSON, Extras, Feature, MOVED, PlacedMarks, Report, Settings, Situation, StandIns, settle, stand_in,
    },
    wire::{self, openai::SystemPrefix, provider_data, thoughts, wishes},
};

/// The body of a request.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<AnyTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    /// The fields that the neutral form lacks.
    #[serde(flatten)]
    extras: Extras,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Turn<'a> {
    System {
        content: Content<'a>,
    },
    User {
        content: Content<'a>,
    },
    Assistant(Box<Assistant<'a>>),
    Tool {
        tool_call_id: Cow<'a, str>,
        content: Content<'a>,
    },
    /// Rebuilt with fields of this dialect's own.
    #[serde(untagged)]
    Made(Value),
}

#[derive(Serialize)]
struct Assistant<'a> {
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<AnyCall<'a>>,
    /// The older form of a call, if the request used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<Value>,
    /// The server's own thoughts.
    #[serde(flatten)]
    thoughts: Map<String, Value>,
}

/// A text alone, which every server takes, or a list of parts.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Joined(String),
    Parts(Vec<Block<'a>>),
}

impl Content<'_> {
    /// Returns a system prompt in parts, if some of it has marks for the cache.
    fn marked(self, marks: &PlacedMarks) -> Self {
        let pieces = match &self {
            Self::Text(text) => marks.pieces(text),
            Self::Joined(text) => marks.pieces(text),
            Self::Parts(_) => None,
        };
        let part = |(text, control): (String, Option<Json>)| {
            let mut part = json!({"type": "text", "text": text});
            if let Some(control) = control {
                part["cache_control"] = control.value().unwrap_or_default();
            }
            Block::Made(part)
        };
        pieces.map_or(self, |pieces| Self::Parts(pieces.into_iter().map(part).collect()))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    File {
        file: File<'a>,
    },
    #[serde(untagged)]
    Own(&'a Json),
    #[serde(untagged)]
    Made(Value),
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum File<'a> {
    Data { filename: &'a str, file_data: String },
    Id { file_id: &'a str },
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyCall<'a> {
    Neutral(Call<'a>),
    Own(&'a Json),
    Made(Value),
}

#[derive(Serialize)]
struct Call<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyTool<'a> {
    Neutral(Definition<'a>),
    /// The caller's own definition, as on the wire.
    Own(&'a Json),
}

#[derive(Serialize)]
struct Definition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Signature<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Json>,
}

#[derive(Serialize)]
struct Signature<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: JsonSchema<'a> },
}

/// The schema of an answer, as both of OpenAI's dialects write it.
#[derive(Serialize)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct JsonSchema<'a> {
    name: &'a str,
    schema: &'a Json,
    strict: bool,
}

impl<'a> JsonSchema<'a> {
    /// Returns the schema; `None` if the answer may be any JSON.
    pub(crate) fn of(output: &'a OutputSchema) -> Option<Self> {
        let schema = output.schema.as_ref()?;
        Some(Self { name: &output.name, schema, strict: output.strict })
    }
}

impl<'a> Body<'a> {
    pub(super) fn of(
        protocol: &ChatCompletions,
        chat: &'a Chat,
        to: (&'a str, &Family),
        settled: &Settings,
        stream: bool,
        report: &mut Report,
    ) -> Result<Self, LlmError> {
        let (model, family) = to;
        let is_newer = protocol.flavour == Flavour::Own || family.completion_limit();
        let mut stop: Vec<&str> = chat.stop.iter().map(String::as_str).filter(|stop| !stop.is_empty()).collect();
        stop.truncate(settled.stops);
        if stop.len() > MOST_STOPS {
            report.record(Feature::Stops);
            stop.truncate(MOST_STOPS);
        }
        let marks = report.take_marks();
        let definition = |(at, tool)| AnyTool::of(tool, marks.of_tool(at));
        Ok(Self {
            model,
            messages: turns(chat, protocol, to, settled, &marks, report)?,
            tools: chat.tools.iter().enumerate().map(definition).collect::<Result<_, _>>()?,
            tool_choice: settled.tool_choice.as_ref().map(|choice| spelled_choice(choice, protocol.flavour)),
            // Refused without tools. What is every server's default goes to those alone that surely know the name.
            parallel_tool_calls: settled.parallel_tool_calls.filter(|parallel| {
                let is_needed = !parallel || protocol.flavour == Flavour::Own || came_in_this_dialect(chat);
                is_needed && !chat.tools.is_empty()
            }),
            max_completion_tokens: settled.max_tokens.filter(|_| is_newer),
            max_tokens: settled.max_tokens.filter(|_| !is_newer),
            temperature: settled.temperature,
            top_p: settled.top_p,
            stop,
            response_format: chat.output.as_ref().filter(|_| settled.holds_output).map(|output| {
                JsonSchema::of(output)
                    .map_or(ResponseFormat::JsonObject, |json_schema| ResponseFormat::JsonSchema { json_schema })
            }),
            reasoning_effort: settled.reasoning.effort_word(),
            stream,
            stream_options: (stream && protocol.stream_usage && !came_in_this_dialect(chat))
                .then_some(StreamOptions { include_usage: true }),
            extras: report.take_extras(),
        })
    }
}

/// Returns true if the request came in this dialect, so that its caller's own settings count.
fn came_in_this_dialect(chat: &Chat) -> bool {
    chat.extra.as_ref().is_some_and(|extra| extra.dialect == Dialect::OpenAi)
}

/// OpenAI refuses more.
const MOST_STOPS: usize = 4;

/// Returns the choice of a tool.
pub(super) fn spelled_choice(choice: &ToolChoice, flavour: Flavour) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::Required if flavour == Flavour::Mistral => json!("any"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        ToolChoice::None => json!("none"),
    }
}

impl<'a> AnyTool<'a> {
    fn of(tool: &'a Tool, cache_control: Option<Json>) -> Result<Self, LlmError> {
        if let Some(extra) = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::OpenAi) {
            let was = wire::openai::definition(extra.fields.raw());
            if was.is_ok_and(|was| was == *tool) {
                return Ok(Self::Own(&extra.fields));
            }
        }
        if tool.runs_at_provider() {
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, "a tool that runs at another provider"));
        }
        Ok(Self::Neutral(Definition {
            kind: "function",
            function: Signature {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: &tool.parameters,
                strict: tool.strict,
            },
            cache_control,
        }))
    }
}

/// Encodes a request. Settings that were read in this dialect are written unchanged, unless a layer changed them or the
/// model refuses them.
pub(super) fn body(
    protocol: &ChatCompletions,
    chat: &Chat,
    (model, family): (&str, &Family),
    stream: bool,
    is_other_model: bool,
    report: &mut Report,
) -> Result<Bytes, LlmError> {
    if protocol.flavour != Flavour::Own {
        // Other servers may refuse a field that they do not know.
        report.keep_carried(|name| COMMON_FIELDS.contains(&name));
    }
    let situation = Situation { has_tools: !chat.tools.is_empty(), ..Situation::default() };
    let mut settled = settle(chat, situation, family, report);
    let extra = chat.extra.as_ref().filter(|extra| extra.dialect == Dialect::OpenAi);
    let keeps = !is_other_model && extra.is_some();
    if keeps {
        settled.keep(chat, report);
    }
    let body = Body::of(protocol, chat, (model, family), &settled, stream, report)?;
    let Some(extra) = extra else { return to_json(&body) };
    let mut body = to_value(&body)?;
    let mut was = Chat::default();
    wire::openai::settings(extra.fields.raw(), &mut was)?;
    if keeps {
        report.withdraw_settings();
    }
    let mut fields = extra.fields.fields();
    let same_thinking = was.thinking == chat.thinking;
    // A wish in another server's spelling stays in it, and has no second one beside it.
    let is_spelled = same_thinking && wishes::OTHERS.iter().any(|name| fields.contains_key(*name));
    if let Some(leading @ Value::Array(_)) = fields.remove("messages")
        && let Some(messages) = body["messages"].as_array_mut()
        && settled.in_words.is_none()
        && SystemPrefix::read(Json::from(leading.clone()).raw())? == chat.system
        && let Value::Array(leading) = leading
    {
        let written = usize::from(chat.system.as_deref().is_some_and(|system| !system.is_empty()));
        messages.splice(..written, leading);
    }
    provider_data::restore(
        &mut body,
        &fields,
        &[
            (was.tool_choice == chat.tool_choice && keeps, &["tool_choice"]),
            (was.parallel_tool_calls == chat.parallel_tool_calls && keeps, &["parallel_tool_calls"]),
            (was.max_tokens == chat.max_tokens && keeps, &["max_tokens", "max_completion_tokens"]),
            (was.temperature == chat.temperature && keeps, &["temperature"]),
            (was.top_p == chat.top_p && keeps, &["top_p"]),
            (was.stop == chat.stop && keeps, &["stop"]),
            (was.output == chat.output && (keeps || settled.holds_output), &["response_format"]),
            (same_thinking && (keeps || is_spelled), &["reasoning_effort"]),
            (same_thinking, wishes::OTHERS),
            (keeps || family.penalties(), &["presence_penalty", "frequency_penalty"]),
            (keeps || settled.samples, &["logprobs", "top_logprobs", "logit_bias", "top_k"]),
            (stream, &["stream_options"]),
        ],
    );
    to_json(&body)
}

/// The carried fields that compatible servers know too.
const COMMON_FIELDS: [&str; 3] = ["seed", "presence_penalty", "frequency_penalty"];

fn turns<'a>(
    chat: &'a Chat,
    protocol: &ChatCompletions,
    (model, family): (&str, &Family),
    settled: &Settings,
    marks: &PlacedMarks,
    report: &mut Report,
) -> Result<Vec<Turn<'a>>, LlmError> {
    // One server's reasoning may be refused by another: it goes back only to servers that take it, or if the caller
    // sent it.
    let own = came_in_this_dialect(chat);
    let flavour = protocol.flavour;
    let keeps_details = flavour == Flavour::Compatible || own;
    let stand_ins = if own { StandIns::None } else { protocol.stand_ins(model) };
    let mut turns = Vec::with_capacity(chat.messages.len() + 1);
    let told = chat.system.as_deref().filter(|system| !system.is_empty());
    let asks = !own && settled.holds_output && wants_the_word_json(chat);
    if asks {
        report.record(Feature::JsonMode);
    }
    let with_words = settled.with_words(told);
    let told = match (with_words, told, asks) {
        (words, told, true) => {
            let before = words.as_deref().or(told).map(|text| format!("{text}\n\n")).unwrap_or_default();
            Some(Content::Joined(format!("{before}{ASK_FOR_JSON}")))
        }
        (Some(words), _, false) => Some(Content::Joined(words)),
        (None, told, false) => told.map(Content::Text),
    };
    let told = told.map(|content| content.marked(marks));
    turns.extend(told.map(|content| Turn::System { content }));
    for message in &chat.messages {
        report.check_stopped()?;
        match message.role {
            Role::System => turns.push(system(message, family, report)?),
            Role::User => user(message, own, family, report, &mut turns)?,
            Role::Assistant => turns.extend(assistant(message, keeps_details, stand_ins, family, report)?),
        }
    }
    if !own && chat.messages.last().is_some_and(|last| last.role == Role::Assistant) {
        report.record(Feature::Prefill);
    }
    if turns.is_empty() {
        return Err(LlmError::new(ErrorKind::InvalidRequest, "the conversation has no content"));
    }
    Ok(turns)
}

/// Returns true if the request asks for JSON without a schema and without the word: the API refuses that.
fn wants_the_word_json(chat: &Chat) -> bool {
    let said = |text: &str| text.to_ascii_lowercase().contains("json");
    matches!(chat.output, Some(OutputSchema { schema: None, .. }))
        && !chat.system.as_deref().is_some_and(said)
        && !chat.messages.iter().any(|message| said(&message.text()))
}

/// Encodes a system message in the middle; a developer's, if it came as such.
fn system<'a>(message: &'a Message, family: &Family, report: &mut Report) -> Result<Turn<'a>, LlmError> {
    let mut blocks = Vec::with_capacity(message.content.len());
    for place in 0..message.content.len() {
        blocks.extend(block_with_extra(&message.content, place, family, report)?);
    }
    let content = shortest(blocks).unwrap_or(Content::Text(""));
    let turn = Turn::System { content };
    let Some(extra) = provider_data::of_turn(&message.content, Dialect::OpenAi) else { return Ok(turn) };
    let mut value = provider_data::made(&turn, extra)?;
    if let Some(role) = extra.fields.get("role") {
        value["role"] = to_value(&Json::of(role))?;
    }
    Ok(Turn::Made(value))
}

/// Encodes a user's turn: tool results first, as turns of their own, then the rest.
fn user<'a>(
    message: &'a Message,
    own: bool,
    family: &Family,
    report: &mut Report,
    turns: &mut Vec<Turn<'a>>,
) -> Result<(), LlmError> {
    let others = message.content.iter().filter(|part| !matches!(part, Part::ToolResult(_)));
    let mut rest = Vec::with_capacity(others.count());
    turns.reserve(message.content.len() - rest.capacity());
    for (place, part) in message.content.iter().enumerate() {
        if let Part::ToolResult(result) = part {
            let turn = tool_result(result, own, family, report, &mut rest)?;
            turns.push(match provider_data::beside(&message.content, place, Dialect::OpenAi) {
                Some(extra) => Turn::Made(made_result(&turn, extra)?),
                None => turn,
            });
        }
    }
    for (place, part) in message.content.iter().enumerate() {
        if !matches!(part, Part::ToolResult(_)) {
            rest.extend(block_with_extra(&message.content, place, family, report)?);
        }
    }
    let extra = provider_data::of_turn(&message.content, Dialect::OpenAi);
    let said_nothing = message.content.iter().all(|part| matches!(part, Part::Extra { .. }));
    let content = shortest(rest).or_else(|| said_nothing.then_some(Content::Text("")));
    if let Some(content) = content {
        let turn = Turn::User { content };
        turns.push(match extra {
            Some(extra) => Turn::Made(provider_data::made(&turn, extra)?),
            None => turn,
        });
    }
    Ok(())
}

/// Encodes the result of a call, in the older form if it came as such.
fn made_result(turn: &Turn<'_>, extra: &Extra) -> Result<Value, LlmError> {
    let mut value = provider_data::made(turn, extra)?;
    if extra.fields.get("role").and_then(word).as_deref() == Some("function")
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("tool_call_id");
        fields.insert("role".to_owned(), "function".into());
    }
    Ok(value)
}

/// Encodes the block of the part at `place`, with the fields that only this dialect knows.
fn block_with_extra<'a>(
    parts: &'a [Part],
    place: usize,
    family: &Family,
    report: &mut Report,
) -> Result<Option<Block<'a>>, LlmError> {
    report.record_extra(&parts[place]);
    let extra = provider_data::beside(parts, place, Dialect::OpenAi);
    if let (Part::Refusal(text), Some(extra)) = (&parts[place], extra) {
        return Ok(Some(Block::Made(provider_data::made(&json!({"type": "refusal", "refusal": text}), extra)?)));
    }
    let Some(block) = block(&parts[place], family, report)? else { return Ok(None) };
    Ok(Some(match extra {
        Some(extra) => Block::Made(provider_data::made(&block, extra)?),
        None => block,
    }))
}

/// Encodes a tool's turn, which is a text. Pictures go into the user's turn after it, unless they came in this one; a
/// failure goes into words.
fn tool_result<'a>(
    result: &'a ToolResult,
    own: bool,
    family: &Family,
    report: &mut Report,
    rest: &mut Vec<Block<'a>>,
) -> Result<Turn<'a>, LlmError> {
    let (mut texts, mut blocks, mut marked, mut moved) = (Vec::new(), Vec::new(), false, false);
    for (place, part) in result.content.iter().enumerate() {
        match part {
            Part::Text(text) => {
                texts.push(text.as_str());
                marked |= provider_data::beside(&result.content, place, Dialect::OpenAi).is_some();
                blocks.extend(block_with_extra(&result.content, place, family, report)?);
            }
            Part::Extra { .. } => report.record_extra(part),
            // Callers who send it know that their server takes it.
            _ if own => {
                marked = true;
                blocks.extend(block_with_extra(&result.content, place, family, report)?);
            }
            other => {
                // If a user's turn cannot have the part either, the part's own rule reports it.
                if let Some(block) = block(other, family, report)? {
                    report.record(Feature::ToolMedia);
                    rest.push(block);
                    moved = true;
                }
            }
        }
    }
    if moved && !own && texts.iter().all(|text| text.trim().is_empty()) {
        (texts, blocks) = (vec![MOVED], vec![Block::Text { text: MOVED }]);
    }
    let content = match texts.as_slice() {
        // A list goes only in place of the caller's own list.
        texts if (marked || own && texts.len() > 1) && !result.is_error => Content::Parts(blocks),
        [one] if !result.is_error => Content::Text(one),
        many if result.is_error => Content::Joined(format!("Error: {}", many.join("\n"))),
        many => Content::Joined(many.join("\n")),
    };
    if result.is_error {
        report.record(Feature::ToolError);
    }
    Ok(Turn::Tool { tool_call_id: result.call_id.as_str().into(), content })
}

fn assistant<'a>(
    message: &'a Message,
    keeps_details: bool,
    stand_ins: StandIns,
    family: &Family,
    report: &mut Report,
) -> Result<Option<Turn<'a>>, LlmError> {
    let (mut blocks, mut refusals) = (Vec::new(), Vec::new());
    let mut tool_calls = Vec::with_capacity(message.tool_calls().count());
    let (mut function_call, mut audio) = (None, None);
    let mut thoughts = Map::new();
    let extra = provider_data::of_turn(&message.content, Dialect::OpenAi).filter(|_| keeps_details);
    let keeps_reasoning = extra.is_some_and(has_reasoning);
    for (place, part) in message.content.iter().enumerate() {
        let beside = provider_data::beside(&message.content, place, Dialect::OpenAi);
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(_) => blocks.extend(block_with_extra(&message.content, place, family, report)?),
            Part::Refusal(_) if beside.is_some() => {
                blocks.extend(block_with_extra(&message.content, place, family, report)?)
            }
            Part::Refusal(text) => refusals.push(text.as_str()),
            Part::ToolCall(call) => {
                let signature = own_thoughts(call.opaque.as_ref(), report);
                if call.opaque.is_some() && signature.is_none() && beside.is_none() {
                    report.record(Feature::CallSignature);
                }
                match beside.and_then(|extra| extra.fields.get("function_call")) {
                    Some(older) => function_call = Some(Json::of(older)),
                    None => tool_calls.push(with_thoughts(tool_call(call, beside)?, signature)?),
                }
            }
            Part::Reasoning(_) if keeps_reasoning => {}
            Part::Reasoning(reasoning) => match own_thoughts(reasoning.opaque.as_ref(), report) {
                Some(mut fields) => {
                    blocks.extend(listed(fields.remove("content")).into_iter().map(Block::Made));
                    thoughts::add(&mut thoughts, fields);
                }
                None => report.record(Feature::Reasoning),
            },
            // A spoken answer is referred to by its id.
            Part::Other { dialect: Dialect::OpenAi, value } if value.get("type").is_none() => {
                audio = audio_id(value)?;
            }
            Part::Other { dialect: Dialect::OpenAi, value } if value.get("id").is_some() => {
                tool_calls.push(AnyCall::Own(value));
            }
            Part::Other { dialect: Dialect::OpenAi, value } => blocks.push(Block::Own(value)),
            Part::Other { value, .. } => report.record_field(Feature::OwnPart, crate::translate::kind_of(value)),
            Part::Extra { .. } => report.record_extra(part),
            _ => report.record_field(Feature::OwnPart, "a picture or file of the model's"),
        }
    }
    if let Some(Value::Object(later)) = thoughts.remove("tool_calls") {
        add_to_calls(&mut tool_calls, &later)?;
    }
    if let (Some((name, value)), [first, ..]) = (stand_in(stand_ins), &mut *tool_calls) {
        let missing = Map::from_iter([(name.to_owned(), to_value(&value)?)]);
        if stand_ins == StandIns::Signatures {
            *first = with_thoughts_if_none(first, missing)?;
        } else if !["reasoning_content", "reasoning"].iter().any(|name| thoughts.contains_key(*name)) {
            thoughts.extend(missing);
        }
    }
    let refusal = (!refusals.is_empty()).then(|| refusals.join("\n").into());
    let mut content = shortest(blocks);
    if content.is_none() && refusal.is_none() && tool_calls.is_empty() && function_call.is_none() && audio.is_none() {
        if extra.is_none() && thoughts.is_empty() && !message.content.is_empty() {
            return Ok(None);
        }
        content = Some(Content::Text(""));
    }
    let audio = audio.map(|id| json!({ "id": Json::of(id) }));
    let turn = Turn::Assistant(Box::new(Assistant { content, refusal, tool_calls, function_call, audio, thoughts }));
    Ok(Some(match extra {
        Some(extra) => Turn::Made(provider_data::made(&turn, extra)?),
        None => turn,
    }))
}

/// Returns the fields of a thought that the target's own account gave.
fn own_thoughts(opaque: Option<&Opaque>, report: &Report) -> Option<Map<String, Value>> {
    serde_json::from_str(report.maker().open(opaque?)?).ok()
}

fn listed(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Adds what the server gave with a call.
fn with_thoughts<'a>(call: AnyCall<'a>, fields: Option<Map<String, Value>>) -> Result<AnyCall<'a>, LlmError> {
    let Some(fields) = fields else { return Ok(call) };
    let mut call = to_value(&call)?;
    provider_data::merge(&mut call, &fields);
    Ok(AnyCall::Made(call))
}

/// Adds the stand-in of a signature to a call without one.
fn with_thoughts_if_none<'a>(call: &AnyCall<'a>, missing: Map<String, Value>) -> Result<AnyCall<'a>, LlmError> {
    let mut made = to_value(call)?;
    if !thoughts::OF_CALLS.iter().any(|name| made.get(name).is_some()) {
        provider_data::merge(&mut made, &missing);
    }
    Ok(AnyCall::Made(made))
}

/// Adds what the server gave after a call, by the call's id.
fn add_to_calls(calls: &mut [AnyCall<'_>], later: &Map<String, Value>) -> Result<(), LlmError> {
    for call in calls {
        let mut made = to_value(&*call)?;
        let fields = made.get("id").and_then(Value::as_str).and_then(|id| later.get(id)?.as_object());
        if let Some(fields) = fields.cloned() {
            provider_data::merge(&mut made, &fields);
            *call = AnyCall::Made(made);
        }
    }
    Ok(())
}

/// Returns true if a turn's own fields have its reasoning.
fn has_reasoning(extra: &Extra) -> bool {
    let names = ["reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"];
    names.iter().any(|name| extra.fields.get(name).is_some())
}

/// Writes a tool call, with the fields that only this dialect knows.
fn tool_call<'a>(call: &'a ToolCall, extra: Option<&Extra>) -> Result<AnyCall<'a>, LlmError> {
    if let Some(extra) = extra
        && extra.fields.get("type").and_then(word).as_deref() == Some("custom")
        && let Ok(FreeText { input }) = serde_json::from_str(&call.arguments)
    {
        let custom = json!({"id": call.id, "type": "custom", "custom": {"name": call.name, "input": input}});
        return Ok(AnyCall::Made(provider_data::made(&custom, extra)?));
    }
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let function = Function { name: &call.name, arguments };
    let written = Call { id: call.id.as_str().into(), kind: "function", function };
    Ok(match extra {
        Some(extra) => AnyCall::Made(provider_data::made(&written, extra)?),
        None => AnyCall::Neutral(written),
    })
}

/// The arguments of a call with free text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FreeText {
    input: String,
}

/// Returns the id of a spoken answer.
fn audio_id(value: &Json) -> Result<Option<RawJson<'_>>, LlmError> {
    let Some(audio) = value.get("audio") else { return Ok(None) };
    Ok(Object::read(audio, &["id"])?.get("id"))
}

fn shortest(blocks: Vec<Block<'_>>) -> Option<Content<'_>> {
    match blocks.as_slice() {
        [] => None,
        [Block::Text { text }] => Some(Content::Text(text)),
        _ => Some(Content::Parts(blocks)),
    }
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each part has its arm")]
fn block<'a>(part: &'a Part, family: &Family, report: &mut Report) -> Result<Option<Block<'a>>, LlmError> {
    Ok(Some(match part {
        Part::Text(text) | Part::Refusal(text) => Block::Text { text },
        Part::Image(image) => match &image.media {
            Media::Url(url) => Block::ImageUrl { image_url: ImageUrl { url: url.into() } },
            Media::Base64 { media_type, data } => {
                let media_type = media_type_of(media_type);
                let is_known = family.is_careful() || family.takes_image(media_type);
                if report.is_foreign() && !(is_known && media_type.starts_with("image/")) {
                    return Err(report.refuse(Feature::MediaType));
                }
                Block::ImageUrl { image_url: ImageUrl { url: format!("data:{media_type};base64,{data}").into() } }
            }
            Media::File(_) => return Err(report.refuse(Feature::UploadedFile)),
        },
        Part::Document(document) => match &document.media {
            Media::Base64 { media_type, .. } if report.is_foreign() && media_type != "application/pdf" => {
                return Err(report.refuse(Feature::MediaType));
            }
            Media::Base64 { media_type, data } => Block::File {
                file: File::Data {
                    filename: document.name.as_deref().unwrap_or("document.pdf"),
                    file_data: format!("data:{media_type};base64,{data}"),
                },
            },
            Media::File(id) => Block::File { file: File::Id { file_id: id } },
            Media::Url(_) => return Err(report.refuse(Feature::UrlDocument)),
        },
        Part::Other { dialect: Dialect::OpenAi, value } => Block::Own(value),
        Part::Other { value, .. } => {
            report.record_field(Feature::OwnPart, crate::translate::kind_of(value));
            return Ok(None);
        }
        Part::Reasoning(_) => {
            report.record(Feature::Reasoning);
            return Ok(None);
        }
        Part::ToolCall(_) | Part::ToolResult(_) => {
            let message = "a tool call belongs into the model's turn, and a tool's result not into another's";
            return Err(LlmError::new(ErrorKind::InvalidRequest, message));
        }
        Part::Extra { .. } => return Ok(None),
        _ => return Ok(None),
    }))
}
