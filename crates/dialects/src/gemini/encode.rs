use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use bytes::Bytes;
use http::Uri;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{
        Chat, Json, Media, Opaque, OutputSchema, Part, Reasoning as Thought, Role, Tool, ToolCall, ToolChoice,
        ToolResult,
    },
    media::media_type_of,
    models::{Family, ReasoningOff, UNKNOWN, gemini_generation},
    protocol::{to_json, to_value},
    tool_calls::{arguments, is_made_id},
    translate::{Extras, Feature, HIDDEN, MOVED, Reasoning, Report, Settings, Situation, settle},
    wire::{self, foreign::FOREIGN_CALL, provider_data},
};

/// The body of a request. The model and whether to stream are in the path.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Turn<'a>>,
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Config::is_empty")]
    generation_config: Config<'a>,
}

#[derive(Serialize)]
struct Turn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Piece<'a>>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Piece<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        thought: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Inline {
        inline_data: Inline<'a>,
    },
    File {
        file_data: File<'a>,
    },
    Call {
        function_call: Call<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Response {
        function_response: Response<'a>,
    },
    Own(&'a Json),
    /// Rebuilt with fields of this dialect's own.
    Made(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inline<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: Box<RawValue>,
}

#[derive(Serialize)]
struct Response<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: FunctionResult,
}

/// A tool's result: its own object, or a text under the documented name.
#[derive(Serialize)]
#[serde(untagged)]
enum FunctionResult {
    Object(Box<RawValue>),
    Output { output: String },
    Error { error: ErrorText },
}

#[derive(Serialize)]
#[serde(untagged)]
enum ErrorText {
    Text(String),
    Object(Box<RawValue>),
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Tools<'a> {
    Functions {
        function_declarations: Vec<AnyDeclaration<'a>>,
    },
    /// A tool that runs at the provider.
    Own(&'a Json),
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnyDeclaration<'a> {
    Neutral(Declaration<'a>),
    /// The caller's own declaration, as on the wire.
    Own(&'a Json),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters_json_schema: &'a Json,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Value>,
    /// The fields that the neutral form lacks.
    #[serde(flatten)]
    extras: Extras,
}

impl Config<'_> {
    fn is_empty(&self) -> bool {
        self.temperature.is_none()
            && self.top_p.is_none()
            && self.max_output_tokens.is_none()
            && self.stop_sequences.is_empty()
            && self.response_mime_type.is_none()
            && self.thinking_config.is_none()
            && self.extras.is_empty()
    }
}

impl<'a> Body<'a> {
    pub(super) fn of(
        chat: &'a Chat,
        (model, family): (&str, &Family),
        settled: &Settings,
        report: &mut Report,
    ) -> Result<Self, LlmError> {
        let third = gemini_generation(model) >= 3;
        if chat.parallel_tool_calls == Some(false) && !chat.tools.is_empty() {
            report.record(Feature::ParallelOff);
        }
        let mut stop_sequences: Vec<&str> =
            chat.stop.iter().map(String::as_str).filter(|stop| !stop.is_empty()).collect();
        stop_sequences.truncate(settled.stops);
        if stop_sequences.len() > MOST_STOPS {
            report.record(Feature::Stops);
            stop_sequences.truncate(MOST_STOPS);
        }
        let system = chat.system.as_deref().filter(|system| !system.is_empty());
        let system = settled.with_words(system).map(Cow::Owned).or_else(|| system.map(Cow::Borrowed));
        let output = chat.output.as_ref().filter(|_| settled.holds_output);
        let mut extras = report.take_extras();
        let mut thinking_config = thinking_config(settled.reasoning);
        // By default the thoughts are no part of the answer.
        if let (Some(_), Some(config)) = (extras.remove(HIDDEN), &mut thinking_config) {
            config["includeThoughts"] = false.into();
        }
        let told = |text| Piece::Text { text, thought: false, thought_signature: None };
        Ok(Self {
            system_instruction: system.map(|text| Turn { role: None, parts: vec![told(text)], extra: Map::new() }),
            contents: turns(chat, third, family, report)?,
            tools: tools(&chat.tools)?,
            tool_config: settled.tool_choice.as_ref().map(spelled_choice),
            generation_config: Config {
                temperature: settled.temperature,
                top_p: settled.top_p,
                max_output_tokens: settled.max_tokens,
                stop_sequences,
                response_mime_type: output.is_some().then_some("application/json"),
                response_json_schema: output.and_then(|output: &OutputSchema| output.schema.as_ref()),
                thinking_config,
                extras,
            },
        })
    }
}

fn tools(tools: &[Tool]) -> Result<Vec<Tools<'_>>, LlmError> {
    let (mut function_declarations, mut own) = (Vec::new(), Vec::new());
    for tool in tools {
        let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Gemini);
        function_declarations.push(match extra {
            Some(extra) if tool.parameters.is_null() => {
                own.push(Tools::Own(&extra.fields));
                continue;
            }
            Some(extra) if wire::gemini::definition(extra.fields.raw()).is_ok_and(|was| was == *tool) => {
                AnyDeclaration::Own(&extra.fields)
            }
            _ if tool.runs_at_provider() => {
                let what = "a tool that runs at another provider";
                return Err(LlmError::new(ErrorKind::UnsupportedFeature, what));
            }
            _ => AnyDeclaration::Neutral(Declaration {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters_json_schema: &tool.parameters,
            }),
        });
    }
    let functions = (!function_declarations.is_empty()).then_some(Tools::Functions { function_declarations });
    Ok(functions.into_iter().chain(own).collect())
}

/// Encodes a request. Settings that were read in this dialect are written unchanged, unless a layer changed them or the
/// model refuses them.
pub(super) fn body(
    chat: &Chat,
    (model, family): (&str, &Family),
    is_other_model: bool,
    report: &mut Report,
) -> Result<Bytes, LlmError> {
    let situation = Situation { has_tools: !chat.tools.is_empty(), ..Situation::default() };
    let mut settled = settle(chat, situation, family, report);
    let extra = chat.extra.as_ref().filter(|extra| extra.dialect == Dialect::Gemini);
    let keeps = !is_other_model && extra.is_some();
    if keeps {
        settled.keep(chat, report);
    }
    let body = Body::of(chat, (model, family), &settled, report)?;
    let Some(extra) = extra else { return to_json(&body) };
    let mut body = to_value(&body)?;
    let mut was = Chat::default();
    wire::gemini::settings(extra.fields.raw(), &mut was)?;
    let same_generation = (was.temperature, was.top_p, was.max_tokens, was.thinking)
        == (chat.temperature, chat.top_p, chat.max_tokens, chat.thinking)
        && was.stop == chat.stop
        && was.output == chat.output
        && keeps;
    provider_data::restore(
        &mut body,
        &extra.fields.fields(),
        &[
            (was.system == chat.system && settled.in_words.is_none(), &["systemInstruction", "system_instruction"]),
            (
                was.tool_choice == chat.tool_choice && settled.tool_choice == chat.tool_choice,
                &["toolConfig", "tool_config"],
            ),
            (same_generation, &["generationConfig", "generation_config"]),
        ],
    );
    if same_generation {
        report.withdraw(&[
            Feature::Stops,
            Feature::Temperature,
            Feature::Sampling,
            Feature::ModelSetting,
            Feature::ModelReasoning,
            Feature::MaxOutput,
            Feature::ThinkingBudget,
            Feature::ThinkingEffort,
            Feature::ThinkingOff,
        ]);
    }
    if !same_generation
        && let Some(was) = extra.fields.get("generationConfig").or_else(|| extra.fields.get("generation_config"))
        && let Some(rest) = provider_data::rest(was, wire::gemini::GENERATION)?
    {
        provider_data::merge(
            &mut body,
            &Map::from_iter([("generationConfig".to_owned(), Value::Object(rest.fields()))]),
        );
    }
    to_json(&body)
}

/// The largest number that the API takes.
const MOST_STOPS: usize = 5;

/// Returns the setting for thinking, by level or by budget, with the thoughts in the answer.
pub(super) fn thinking_config(reasoning: Reasoning) -> Option<Value> {
    Some(match reasoning {
        Reasoning::Off(ReasoningOff::Zero) => json!({"thinkingBudget": 0}),
        Reasoning::Unsaid | Reasoning::Off(_) => return None,
        Reasoning::Own => json!({"includeThoughts": true}),
        Reasoning::Adaptive(_) => json!({"thinkingBudget": -1, "includeThoughts": true}),
        Reasoning::Budget(tokens) => json!({"thinkingBudget": tokens, "includeThoughts": true}),
        Reasoning::Effort(effort) => {
            json!({"thinkingLevel": effort.name().to_ascii_uppercase(), "includeThoughts": true})
        }
    })
}

/// Returns the choice of a tool.
pub(super) fn spelled_choice(choice: &ToolChoice) -> Value {
    let calling = match choice {
        ToolChoice::Auto => json!({"mode": "AUTO"}),
        ToolChoice::Required => json!({"mode": "ANY"}),
        ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        ToolChoice::None => json!({"mode": "NONE"}),
    };
    json!({"functionCallingConfig": calling})
}

fn turns<'a>(chat: &'a Chat, third: bool, family: &Family, report: &mut Report) -> Result<Vec<Turn<'a>>, LlmError> {
    let mut turns: Vec<Turn<'a>> = Vec::with_capacity(chat.messages.len());
    let mut names = None;
    // The ids that Gemini gave: their results have them too.
    let mut given = HashSet::new();
    for message in &chat.messages {
        report.check_stopped()?;
        let role = Some(if message.role == Role::Assistant { "model" } else { "user" });
        let mut parts = Vec::with_capacity(message.content.len());
        let (mut signed, mut beside) = (false, Vec::new());
        for (place, part) in message.content.iter().enumerate() {
            let extra = provider_data::beside(&message.content, place, Dialect::Gemini);
            let piece = match part {
                Part::ToolCall(call) => {
                    // Only the first of parallel calls has a signature.
                    let wants = third && !signed;
                    signed = true;
                    let id = gave_id(call).then_some(call.id.as_str());
                    given.extend(id);
                    tool_call(call, id, wants, report)?
                }
                Part::Reasoning(Thought { text, opaque: None }) if extra.is_some() => plain(text),
                Part::ToolResult(result) => {
                    let has_own = extra.is_some_and(|extra| extra.fields.get("functionResponse").is_some());
                    let media = if has_own { Vec::new() } else { result_media(result, message.role, family, report)? };
                    let moved = !media.is_empty();
                    beside.extend(media);
                    let id = Some(result.call_id.as_str()).filter(|id| given.contains(id));
                    tool_result(result, id, moved, names.get_or_insert_with(|| names_of(chat)))?
                }
                part => {
                    report.record_extra(part);
                    let Some(piece) = piece(part, message.role, family, report)? else { continue };
                    piece
                }
            };
            parts.push(match extra {
                Some(extra) => Piece::Made(provider_data::made(&piece, extra)?),
                None => piece,
            });
        }
        parts.append(&mut beside);
        let extra =
            provider_data::of_turn(&message.content, Dialect::Gemini).map_or_else(Map::new, |e| e.fields.fields());
        match turns.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last.role == role && extra.is_empty() && last.extra.is_empty() => {
                last.parts.append(&mut parts)
            }
            _ => turns.push(Turn { role, parts, extra }),
        }
    }
    complete(&mut turns, chat, report)?;
    Ok(turns)
}

/// Returns the parts of a tool's result that are no text: they go beside it.
fn result_media<'a>(
    result: &'a ToolResult,
    role: Role,
    family: &Family,
    report: &mut Report,
) -> Result<Vec<Piece<'a>>, LlmError> {
    let mut media = Vec::new();
    for part in result.content.iter().filter(|part| part.as_text().is_none()) {
        report.record_extra(part);
        if let Some(piece) = piece(part, role, family, report)? {
            report.record(Feature::ToolMedia);
            media.push(piece);
        }
    }
    Ok(media)
}

/// Adds the turns without which Gemini refuses a conversation.
fn complete(turns: &mut Vec<Turn<'_>>, chat: &Chat, report: &mut Report) -> Result<(), LlmError> {
    if report.is_foreign() && turns.first().is_some_and(|first| first.role == Some("model")) {
        report.record(Feature::FirstTurn);
        turns.insert(0, Turn { role: Some("user"), parts: vec![plain("(continued)")], extra: Map::new() });
    }
    // A request in this dialect stays as its caller wants it.
    let own = chat.extra.as_ref().is_some_and(|extra| extra.dialect == Dialect::Gemini);
    if !own && turns.last().is_some_and(|last| last.role == Some("model")) {
        report.record(Feature::Prefill);
    }
    if !own && turns.is_empty() && (chat.system.is_some() || !chat.messages.is_empty()) {
        report.record(Feature::EmptyText);
        turns.push(Turn { role: Some("user"), parts: vec![plain("(empty)")], extra: Map::new() });
    }
    if turns.is_empty() {
        return Err(LlmError::new(ErrorKind::InvalidRequest, "the conversation has no content"));
    }
    Ok(())
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each part has its arm")]
fn piece<'a>(part: &'a Part, role: Role, family: &Family, report: &mut Report) -> Result<Option<Piece<'a>>, LlmError> {
    Ok(Some(match part {
        Part::Text(text) | Part::Refusal(text) if text.is_empty() => return Ok(None),
        Part::Text(text) if role == Role::System => {
            report.record(Feature::MidSystem);
            Piece::Text { text: format!("[system]\n{text}").into(), thought: false, thought_signature: None }
        }
        Part::Text(text) => plain(text),
        Part::Refusal(text) => {
            report.record(Feature::Refusal);
            plain(text)
        }
        Part::Image(image) => {
            if let Media::Base64 { media_type, .. } = &image.media
                && report.is_foreign()
                && !family.is_careful()
                && !family.takes_image(media_type_of(media_type))
            {
                return Err(report.refuse(Feature::MediaType));
            }
            media(&image.media, Feature::UrlImage, family.image_urls() && family.name() != UNKNOWN)?
        }
        Part::Document(document) => {
            if document.name.is_some() {
                report.record(Feature::FileName);
            }
            media(&document.media, Feature::UrlDocument, family.document_urls() && family.name() != UNKNOWN)?
        }
        // The caller of this function writes it.
        Part::ToolResult(_) => return Ok(None),
        Part::Reasoning(reasoning) => match &reasoning.opaque {
            // A signature beside an empty thought arrived with a text; it goes back on its own.
            Some(Opaque { dialect: Dialect::Gemini, token, .. }) => Piece::Text {
                text: reasoning.text.as_str().into(),
                thought: !reasoning.text.is_empty(),
                thought_signature: Some(token),
            },
            None if reasoning.text.is_empty() => return Ok(None),
            _ => {
                report.record(Feature::Reasoning);
                return Ok(None);
            }
        },
        Part::Other { dialect: Dialect::Gemini, value } => Piece::Own(value),
        Part::Other { value, .. } => {
            report.record_field(Feature::OwnPart, crate::translate::kind_of(value));
            return Ok(None);
        }
        Part::ToolCall(_) | Part::Extra { .. } => return Ok(None),
        _ => return Ok(None),
    }))
}

fn plain(text: &str) -> Piece<'_> {
    Piece::Text { text: text.into(), thought: false, thought_signature: None }
}

fn media(media: &Media, at_url: Feature, reaches: bool) -> Result<Piece<'_>, LlmError> {
    let file = |uri, mime_type| Piece::File { file_data: File { mime_type, file_uri: uri } };
    match media {
        Media::Base64 { media_type, data } => {
            Ok(Piece::Inline { inline_data: Inline { mime_type: media_type_of(media_type), data } })
        }
        Media::File(uri) => Ok(file(uri, None)),
        Media::Url(uri) if uri.starts_with("gs://") => Ok(file(uri, None)),
        Media::Url(uri) if reaches && is_public(uri) => Ok(file(uri, type_of(uri))),
        // A gateway that fetched it would let a prompt reach into its network.
        Media::Url(_) => {
            let why = "the model does not read this address, and nothing is fetched on the caller's behalf";
            let message = format!("{}: {why}", at_url.rule().feature);
            Err(LlmError::new(ErrorKind::UnsupportedFeature, message))
        }
    }
}

/// Returns true if an address names a host of the web, so that others than its author may be able to read it.
fn is_public(uri: &str) -> bool {
    let Ok(uri) = uri.parse::<Uri>() else { return false };
    let (Some("http" | "https"), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return match address {
            IpAddr::V4(address) => {
                !(address.is_private() || address.is_loopback() || address.is_link_local() || address.is_unspecified())
            }
            IpAddr::V6(address) => {
                !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
            }
        };
    }
    let own = [".local", ".internal", ".localhost", ".lan", ".home.arpa"];
    host.contains('.') && !own.iter().any(|end| host.to_ascii_lowercase().ends_with(end))
}

/// Returns the type by the end of an address.
fn type_of(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next()?;
    Some(match &*path.rsplit_once('.')?.1.to_ascii_lowercase() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    })
}

/// Returns true if the id of a call seems to be Gemini's, which wants it back. Ids that begin like other servers' are
/// left out, and so are those that stand for none.
fn gave_id(call: &ToolCall) -> bool {
    const OTHERS: [&str; 5] = ["call_", "chatcmpl-tool-", "functions.", "toolu_", "tooluse_"];
    let is_signed = call.opaque.as_ref().is_some_and(|opaque| opaque.dialect == Dialect::Gemini);
    let is_others = OTHERS.iter().any(|begin| call.id.starts_with(begin));
    !call.id.is_empty() && !is_made_id(&call.id) && (is_signed || !is_others)
}

fn tool_call<'a>(
    call: &'a ToolCall,
    id: Option<&'a str>,
    wants_signature: bool,
    report: &mut Report,
) -> Result<Piece<'a>, LlmError> {
    let args = arguments(&call.arguments, report)?;
    let thought_signature = match &call.opaque {
        Some(opaque) if opaque.dialect == Dialect::Gemini => Some(opaque.token.as_str()),
        _ if wants_signature => {
            report.record(Feature::CallSignature);
            Some(FOREIGN_CALL)
        }
        _ => None,
    };
    Ok(Piece::Call { function_call: Call { id, name: &call.name, args }, thought_signature })
}

/// Returns the name of the newest call of each id. Of those in one turn the first counts.
fn names_of(chat: &Chat) -> HashMap<&str, &str> {
    let calls = chat.messages.iter().flat_map(|message| {
        let calls: Vec<_> = message.tool_calls().collect();
        calls.into_iter().rev()
    });
    calls.map(|call| (call.id.as_str(), call.name.as_str())).collect()
}

fn tool_result<'a>(
    result: &'a ToolResult,
    id: Option<&'a str>,
    moved: bool,
    names: &HashMap<&'a str, &'a str>,
) -> Result<Piece<'a>, LlmError> {
    let called = || names.get(result.call_id.as_str()).copied();
    let name =
        result.name.as_deref().or_else(called).ok_or_else(|| {
            LlmError::new(ErrorKind::InvalidRequest, "a tool result answers no call of the conversation")
        })?;
    let texts: Vec<&str> = result.content.iter().filter_map(Part::as_text).collect();
    let text = match texts.join("\n") {
        text if !text.trim().is_empty() => text,
        _ if moved => MOVED.to_owned(),
        text => text,
    };
    // A tool that returns JSON objects is best understood as one.
    let object = Some(text.as_str()).filter(|text| text.trim_start().starts_with('{'));
    let object: Option<Box<RawValue>> = object.and_then(|text| serde_json::from_str(text).ok());
    let response = match object {
        Some(object) if !result.is_error => FunctionResult::Object(object),
        Some(object) => FunctionResult::Error { error: ErrorText::Object(object) },
        None if result.is_error => FunctionResult::Error { error: ErrorText::Text(text) },
        None => FunctionResult::Output { output: text },
    };
    Ok(Piece::Response { function_response: Response { id, name, response } })
}
