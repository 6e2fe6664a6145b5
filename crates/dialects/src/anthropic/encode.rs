use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Effort, Json, Media, Message, OutputSchema, Part, Role, Tool, ToolChoice, ToolResult},
    media::media_type_of,
    models::{Family, ReasoningOff},
    protocol::{to_json, to_value},
    tool_calls::arguments,
    translate::{
        ASK_FOR_JSON, CONTEXT, Extras, Feature, HIDDEN, PlacedMarks, Reasoning, Report, Settings, Situation, settle,
        without_clearing,
    },
    wire::{self, provider_data},
};

/// The body of a request.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<System<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Definition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    /// The fields that the neutral form lacks.
    #[serde(flatten)]
    extras: Extras,
}

/// A system prompt: one text, or several of which some have marks for the cache.
#[derive(Serialize)]
#[serde(untagged)]
enum System<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<Paragraph>),
}

#[derive(Serialize)]
struct Paragraph {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Json>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: Cow<'a, str>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<Self>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    #[serde(untagged)]
    Own(&'a Json),
    /// Rebuilt with fields of this dialect's own.
    #[serde(untagged)]
    Made(Value),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    File { file_id: &'a str },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Definition<'a> {
    Neutral(ToolDefinition<'a>),
    /// The caller's own definition, as on the wire.
    Own(&'a Json),
}

#[derive(Serialize)]
struct ToolDefinition<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Json>,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
}

#[derive(Serialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a Json,
}

impl Block<'_> {
    fn is_tool_result(&self) -> bool {
        match self {
            Self::ToolResult { .. } => true,
            Self::Made(value) => value["type"] == "tool_result",
            _ => false,
        }
    }
}

/// The destination of a request.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) model: &'a str,
    pub(super) family: &'a Family,
    /// The longest answer of a request that names none: this API requires a number.
    pub(super) default_max_tokens: Option<u32>,
    /// True if this version of the API takes no sampling settings.
    pub(super) refuses_sampling: bool,
}

/// The longest answer that every current model can give.
const LEAST_LONGEST: u32 = 4096;

impl Destination<'_> {
    pub(super) fn default_output(&self) -> u32 {
        self.default_max_tokens.or_else(|| self.family.max_output()).unwrap_or(LEAST_LONGEST)
    }

    fn settle(&self, chat: &Chat, report: &mut Report) -> Settings {
        let situation = Situation {
            has_tools: !chat.tools.is_empty(),
            is_begun: chat.messages.last().is_some_and(|last| last.role == Role::Assistant),
            is_thoughtless: ends_in_thoughtless_call(&chat.messages),
            default_output: Some(self.default_output()),
            refuses_sampling: self.refuses_sampling,
        };
        settle(chat, situation, self.family, report)
    }
}

impl<'a> Body<'a> {
    pub(super) fn of(
        chat: &'a Chat,
        to: Destination<'a>,
        settled: &Settings,
        stream: bool,
        report: &mut Report,
    ) -> Result<Self, LlmError> {
        let stop_sequences: Vec<&str> =
            chat.stop.iter().map(String::as_str).filter(|stop| !stop.trim().is_empty()).take(settled.stops).collect();
        if stop_sequences.len() < chat.stop.len() {
            report.record(Feature::Stops);
        }
        let format = match &chat.output {
            Some(OutputSchema { schema: Some(schema), .. }) if settled.holds_output => {
                Some(Format { kind: "json_schema", schema })
            }
            _ => None,
        };
        let mut extras = report.take_extras();
        let (mut thinking, effort) = spelled(settled.reasoning);
        if let Some(display) = extras.remove(HIDDEN) {
            match &mut thinking {
                Some(mode) if mode["type"] == "disabled" => {}
                // The models from then on know the setting.
                Some(mode) if to.family.is_adaptive() => mode["display"] = to_value(&display)?,
                None if !to.family.reasons_by_default() => {}
                _ => report.record(Feature::HiddenThoughts),
            }
        }
        let marks = report.take_marks();
        let output_config = (effort.is_some() || format.is_some()).then_some(OutputConfig { effort, format });
        let mut tools = Vec::with_capacity(chat.tools.len());
        for (at, tool) in chat.tools.iter().enumerate() {
            tools.push(Definition::of(tool, marks.of_tool(at), to.family, report)?);
        }
        Ok(Self {
            model: to.model,
            max_tokens: settled.max_tokens.unwrap_or_else(|| to.default_output()),
            system: system(chat, settled, report).map(|system| System::of(system, &marks)),
            messages: turns(chat, to.family, report)?,
            tools,
            tool_choice: tool_choice(chat, settled),
            temperature: settled.temperature,
            top_p: settled.top_p,
            stop_sequences,
            thinking,
            output_config,
            stream,
            extras,
        })
    }
}

/// Returns the mode of thinking, and the effort beside it.
pub(super) fn spelled(reasoning: Reasoning) -> (Option<Value>, Option<&'static str>) {
    match reasoning {
        Reasoning::Unsaid | Reasoning::Own | Reasoning::Off(ReasoningOff::Unsaid | ReasoningOff::Least) => (None, None),
        Reasoning::Off(ReasoningOff::BetweenTools) => (Some(json!({"type": "between_tools"})), None),
        Reasoning::Off(ReasoningOff::Disabled | ReasoningOff::None | ReasoningOff::Zero) => {
            (Some(json!({"type": "disabled"})), None)
        }
        Reasoning::Adaptive(effort) => (Some(json!({"type": "adaptive"})), effort.map(Effort::name)),
        Reasoning::Effort(effort) => (None, Some(effort.name())),
        Reasoning::Budget(tokens) => (Some(json!({"type": "enabled", "budget_tokens": tokens})), None),
    }
}

impl<'a> System<'a> {
    fn of(system: Cow<'a, str>, marks: &PlacedMarks) -> Self {
        let block = |(text, cache_control)| Paragraph { kind: "text", text, cache_control };
        match marks.pieces(&system) {
            Some(pieces) => Self::Blocks(pieces.into_iter().map(block).collect()),
            None => Self::Text(system),
        }
    }
}

impl<'a> Definition<'a> {
    fn of(tool: &'a Tool, cache_control: Option<Json>, family: &Family, report: &mut Report) -> Result<Self, LlmError> {
        if let Some(extra) = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Anthropic) {
            let was = wire::anthropic::definition(extra.fields.raw());
            if was.is_ok_and(|was| was == *tool) {
                return Ok(Self::Own(&extra.fields));
            }
        }
        if tool.runs_at_provider() {
            return Err(LlmError::new(ErrorKind::UnsupportedFeature, "a tool that runs at another provider"));
        }
        // The models that take no schema for the answer know no such field.
        let strict = tool.strict.filter(|_| family.output_schema());
        if tool.strict == Some(true) && strict.is_none() {
            report.record(Feature::Strict);
        }
        Ok(Self::Neutral(ToolDefinition {
            name: &tool.name,
            description: tool.description.as_deref(),
            input_schema: &tool.parameters,
            strict,
            cache_control,
        }))
    }
}

/// Encodes a request. Settings that were read in this dialect are written unchanged, unless a layer changed them or the
/// model refuses them.
pub(super) fn body(
    chat: &Chat,
    to: Destination<'_>,
    stream: bool,
    is_other_model: bool,
    report: &mut Report,
) -> Result<Bytes, LlmError> {
    let mut settled = to.settle(chat, report);
    let extra = chat.extra.as_ref().filter(|extra| extra.dialect == Dialect::Anthropic);
    let Some(extra) = extra else { return to_json(&Body::of(chat, to, &settled, stream, report)?) };
    if !is_other_model {
        settled.keep(chat, report);
    }
    let mut was = Chat::default();
    wire::anthropic::settings(extra.fields.raw(), &mut was)?;
    let thinks_alike = was.thinking == chat.thinking && was.output == chat.output && !is_other_model;
    let samples_alike =
        thinks_alike && !to.refuses_sampling && (was.temperature, was.top_p) == (chat.temperature, chat.top_p);
    let said_longest = was.max_tokens.is_some() && was.max_tokens == chat.max_tokens && !is_other_model;
    let chooses_alike = (&was.tool_choice, was.parallel_tool_calls) == (&chat.tool_choice, chat.parallel_tool_calls);
    let body = Body::of(chat, to, &settled, stream, report)?;
    if samples_alike {
        report.withdraw(&[Feature::Sampling, Feature::Temperature]);
    }
    if thinks_alike {
        report.withdraw(&[
            Feature::Thinking,
            Feature::ThinkingBudget,
            Feature::ThinkingEffort,
            Feature::ThinkingAuto,
            Feature::ThinkingOff,
            Feature::ModelReasoning,
        ]);
    }
    if said_longest {
        report.withdraw(&[Feature::MaxOutput]);
    }
    let mut body = to_value(&body)?;
    provider_data::restore(
        &mut body,
        &extra.fields.fields(),
        &[
            (was.system.is_some() && was.system == chat.system && settled.in_words.is_none(), &["system"]),
            (thinks_alike, &["thinking", "output_config", "output_format"]),
            (chooses_alike && (!is_other_model || settled.tool_choice == chat.tool_choice), &["tool_choice"]),
            (said_longest, &["max_tokens"]),
            (samples_alike, &["temperature", "top_p"]),
            (samples_alike || settled.samples, &["top_k"]),
            (was.stop == chat.stop, &["stop_sequences"]),
        ],
    );
    let thinks = matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive"));
    if !thinks_alike
        && !thinks
        && let Some(left) = without_clearing(&body[CONTEXT])
    {
        body[CONTEXT] = left;
    }
    to_json(&body)
}

/// Returns the system prompt, and behind it the requests in words: there is no mode for JSON without a schema.
fn system<'a>(chat: &'a Chat, settled: &Settings, report: &mut Report) -> Option<Cow<'a, str>> {
    let system = chat.system.as_deref().filter(|system| !system.trim().is_empty());
    let with = |system: Option<&str>, words: &str| match system {
        Some(system) => format!("{system}\n\n{words}"),
        None => words.to_owned(),
    };
    let mut asked = settled.with_words(system);
    if matches!(chat.output, Some(OutputSchema { schema: None, .. })) && settled.holds_output {
        report.record(Feature::JsonMode);
        asked = Some(with(asked.as_deref().or(system), ASK_FOR_JSON));
    }
    asked.map(Cow::Owned).or_else(|| system.map(Cow::Borrowed))
}

fn tool_choice(chat: &Chat, settled: &Settings) -> Option<Value> {
    spelled_choice(settled.tool_choice.as_ref(), settled.parallel_tool_calls == Some(false) && !chat.tools.is_empty())
}

/// Returns the choice of a tool, limited to one call if `single`.
pub(super) fn spelled_choice(choice: Option<&ToolChoice>, single: bool) -> Option<Value> {
    let mut choice = match choice {
        Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        None if single => json!({"type": "auto"}),
        None => return None,
    };
    if single {
        choice["disable_parallel_tool_use"] = true.into();
    }
    Some(choice)
}

/// Returns the turns: equal neighbours become one, empty texts are left out, and the first one is the user's.
fn turns<'a>(chat: &'a Chat, family: &Family, report: &mut Report) -> Result<Vec<Turn<'a>>, LlmError> {
    // A request in this dialect stays as its caller wants it.
    let own = chat.extra.as_ref().is_some_and(|extra| extra.dialect == Dialect::Anthropic);
    let mut turns: Vec<Turn<'a>> = Vec::with_capacity(chat.messages.len());
    for message in &chat.messages {
        report.check_stopped()?;
        let mut extra =
            provider_data::of_turn(&message.content, Dialect::Anthropic).map_or_else(Map::new, |e| e.fields.fields());
        let (role, spoken) = match message.role {
            Role::Assistant => ("assistant", Role::Assistant),
            // The request came in a version of this API that knows such turns.
            Role::System if extra.remove("role").is_some() => ("system", Role::User),
            other => ("user", other),
        };
        let mut content = blocks(&message.content, spoken, own, report)?;
        if content.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some(last) if last.role == role && extra.is_empty() && last.extra.is_empty() => {
                last.content.append(&mut content)
            }
            _ => turns.push(Turn { role, content, extra }),
        }
    }
    for turn in turns.iter_mut().filter(|_| !own) {
        // Tool results come before everything else of their turn. The sort is stable.
        turn.content.sort_by_key(|block| !block.is_tool_result());
    }
    if !own && turns.first().is_some_and(|first| first.role == "assistant") {
        report.record(Feature::FirstTurn);
        turns.insert(
            0,
            Turn { role: "user", content: vec![Block::Text { text: "(continued)".into() }], extra: Map::new() },
        );
    }
    if !own && turns.is_empty() && (chat.system.is_some() || !chat.messages.is_empty()) {
        report.record(Feature::EmptyText);
        turns.push(Turn { role: "user", content: vec![Block::Text { text: "(empty)".into() }], extra: Map::new() });
    }
    if turns.is_empty() {
        return Err(LlmError::new(ErrorKind::InvalidRequest, "the conversation has no content"));
    }
    if !own {
        begun(&mut turns, family, report);
    }
    Ok(turns)
}

/// The turn behind a begun answer, for models that do not continue one.
pub(super) const GO_ON: &str = "(go on)";

/// Fits a last turn of the model's to the model.
fn begun(turns: &mut Vec<Turn<'_>>, family: &Family, report: &mut Report) {
    let Some(last) = turns.last_mut().filter(|last| last.role == "assistant") else { return };
    if !family.prefill() {
        report.record(Feature::Prefill);
        let content = vec![Block::Text { text: GO_ON.into() }];
        turns.push(Turn { role: "user", content, extra: Map::new() });
        return;
    }
    if let Some(Block::Text { text }) = last.content.last_mut()
        && text.trim_end().len() < text.len()
    {
        report.record(Feature::Prefill);
        *text = text.trim_end().to_owned().into();
    }
}

/// Returns the blocks of parts, with the fields that only this dialect knows.
fn blocks<'a>(parts: &'a [Part], role: Role, own: bool, report: &mut Report) -> Result<Vec<Block<'a>>, LlmError> {
    let mut blocks = Vec::with_capacity(parts.len());
    for (place, part) in parts.iter().enumerate() {
        report.record_extra(part);
        let Some(block) = block(part, role, own, report)? else { continue };
        blocks.push(match provider_data::beside(parts, place, Dialect::Anthropic) {
            Some(extra) => Block::Made(provider_data::made(&block, extra)?),
            None => block,
        });
    }
    Ok(blocks)
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each part has its arm")]
fn block<'a>(part: &'a Part, role: Role, own: bool, report: &mut Report) -> Result<Option<Block<'a>>, LlmError> {
    Ok(Some(match part {
        // The API refuses an empty text.
        Part::Text(text) if text.is_empty() || !own && text.trim().is_empty() => return Ok(None),
        Part::Text(text) if role == Role::System => {
            report.record(Feature::MidSystem);
            Block::Text { text: format!("[system]\n{text}").into() }
        }
        Part::Text(text) => Block::Text { text: text.as_str().into() },
        Part::Refusal(text) => {
            report.record(Feature::Refusal);
            Block::Text { text: text.as_str().into() }
        }
        Part::Image(image) => Block::Image { source: source(&image.media, PICTURES, report)? },
        Part::Document(document) => {
            Block::Document { source: source(&document.media, DOCUMENTS, report)?, title: document.name.as_deref() }
        }
        Part::ToolCall(call) => {
            if call.opaque.is_some() {
                report.record(Feature::CallSignature);
            }
            Block::ToolUse { id: &call.id, name: &call.name, input: arguments(&call.arguments, report)? }
        }
        Part::ToolResult(result) => tool_result(result, own, report)?,
        Part::Reasoning(reasoning) => match &reasoning.opaque {
            Some(opaque) if opaque.dialect == Dialect::Anthropic && opaque.redacted => {
                Block::RedactedThinking { data: &opaque.token }
            }
            Some(opaque) if opaque.dialect == Dialect::Anthropic => {
                Block::Thinking { thinking: &reasoning.text, signature: &opaque.token }
            }
            _ => {
                report.record(Feature::Reasoning);
                return Ok(None);
            }
        },
        Part::Other { dialect: Dialect::Anthropic, value } => Block::Own(value),
        Part::Other { value, .. } => {
            report.record_field(Feature::OwnPart, crate::translate::kind_of(value));
            return Ok(None);
        }
        Part::Extra { .. } => return Ok(None),
        _ => return Ok(None),
    }))
}

fn tool_result<'a>(result: &'a ToolResult, own: bool, report: &mut Report) -> Result<Block<'a>, LlmError> {
    let content = blocks(&result.content, Role::User, own, report)?;
    Ok(Block::ToolResult { tool_use_id: &result.call_id, content, is_error: result.is_error })
}

/// The types of pictures that the API takes as base64.
const PICTURES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];
const DOCUMENTS: &[&str] = &["application/pdf"];

fn source<'a>(media: &'a Media, types: &[&str], report: &Report) -> Result<Source<'a>, LlmError> {
    Ok(match media {
        Media::Base64 { media_type, .. } if report.is_foreign() && !types.contains(&media_type_of(media_type)) => {
            return Err(report.refuse(Feature::MediaType));
        }
        Media::Base64 { media_type, data } => Source::Base64 { media_type: media_type_of(media_type), data },
        Media::Url(url) => Source::Url { url },
        Media::File(id) => Source::File { file_id: id },
    })
}

/// Returns true if the conversation ends with results of a turn of tool calls that does not begin with a thought of
/// this provider's.
fn ends_in_thoughtless_call(messages: &[Message]) -> bool {
    let Some(last) = messages.iter().rposition(|message| message.role == Role::Assistant) else { return false };
    let answered = messages[last + 1..].iter().flat_map(|message| &message.content);
    let mut answered = answered.filter(|part| matches!(part, Part::ToolResult(_)));
    let turn = &messages[last];
    let is_own = |part: &Part| match part {
        Part::Reasoning(reasoning) => {
            reasoning.opaque.as_ref().is_some_and(|opaque| opaque.dialect == Dialect::Anthropic)
        }
        _ => false,
    };
    answered.next().is_some() && turn.tool_calls().next().is_some() && !turn.content.iter().any(is_own)
}
