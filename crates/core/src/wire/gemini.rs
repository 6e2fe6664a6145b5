//! Gemini's requests, read of a caller's own bytes.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{
    Deserializer, Serialize,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::json;

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{
        Chat, Effort, Extra, ExtraOf, Image, Json, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role,
        Thinking, Tool, ToolCall, ToolChoice, ToolResult,
    },
    fields::{
        Object, bad, check_representable, count, each, fields, is_list, is_null, is_object, only_field, text, word,
    },
    raw_json::RawJson,
    wire::{
        Meter,
        foreign::{FOREIGN_CALL, is_envelope_of_gemini, unseal},
        provider_data,
        tool_calls::arguments_of,
    },
};

/// The fields of a body that are read. This API takes each field in `camelCase` and in `snake_case`.
const BODY: &[&str] = &[
    "contents",
    "tools",
    "systemInstruction",
    "system_instruction",
    "toolConfig",
    "tool_config",
    "generationConfig",
    "generation_config",
];

/// Decodes a caller's request. The model and whether to stream are in its path.
pub fn decode(body: RawJson<'_>, meter: &mut Meter<'_>) -> Result<Chat, LlmError> {
    let fields = Object::read(body, BODY)?;
    let mut chat = Chat::default();
    read_settings(&fields, &mut chat)?;
    let contents = fields.get("contents").filter(|contents| is_list(contents) || is_object(contents));
    let contents = contents.ok_or_else(|| bad("contents", "a list"))?;
    let length = count(contents);
    meter.messages(length)?;
    chat.messages.reserve_exact(length);
    let mut conversation = Conversation { calls: 0, called: HashMap::new() };
    one_or_many(contents, |content| {
        let message = conversation.turn(content, &chat.messages, meter)?;
        conversation.remember(chat.messages.len(), &message);
        chat.messages.push(message);
        Ok(())
    })?;
    pair_by_place(&mut chat.messages);
    if let Some(tools) = fields.get("tools") {
        one_or_many(tools, |tool| definitions(tool, &mut chat.tools, meter))?;
    }
    let rest = provider_data::rest(body, &["model", "contents", "tools"])?;
    chat.extra = Some(Extra::new(Dialect::Gemini, rest.unwrap_or_else(Json::no_fields)));
    Ok(chat)
}

/// Decodes a list, or a single turn, part or tool, which the API takes without a list around it.
fn one_or_many<'a>(
    value: RawJson<'a>,
    mut visit: impl FnMut(RawJson<'a>) -> Result<(), LlmError>,
) -> Result<(), LlmError> {
    if is_object(value) { visit(value) } else { each(value, visit).map(drop) }
}

/// Returns the fields of a part that the neutral form lacks.
fn lacking(part: &Part, value: RawJson<'_>) -> Result<Option<Json>, LlmError> {
    let known: &[&str] = match part {
        Part::Text(_) => &["text"],
        Part::Reasoning(reasoning) if reasoning.opaque.is_some() || is_in_envelope(value)? => {
            &["text", "thought", "thoughtSignature", "thought_signature"]
        }
        // A thought without a signature is this provider's only by this mark.
        Part::Reasoning(_) => &["text"],
        Part::ToolCall(_) => &[
            "functionCall.name",
            "functionCall.args",
            "function_call.name",
            "function_call.args",
            "thoughtSignature",
            "thought_signature",
        ],
        Part::ToolResult(_) => &[
            "functionResponse.name",
            "functionResponse.response",
            "function_response.name",
            "function_response.response",
        ],
        Part::Image(_) | Part::Document(_) => &[
            "inlineData.mimeType",
            "inlineData.data",
            "inline_data.mime_type",
            "inline_data.mimeType",
            "inline_data.data",
            "fileData.fileUri",
            "file_data.file_uri",
            "file_data.fileUri",
        ],
        _ => return Ok(None),
    };
    let mut spelled = provider_data::RawObject::default();
    if let Some(rest) = provider_data::rest(value, known)? {
        fields(rest.raw(), |name, value| {
            // One spelling, so that it merges with its field.
            let name = match name {
                "function_call" => "functionCall",
                "function_response" => "functionResponse",
                "inline_data" => "inlineData",
                "file_data" => "fileData",
                name => name,
            };
            spelled.add(name, value)
        })?;
    }
    let spelled = spelled.finish()?;
    if matches!(part, Part::ToolResult(_)) && has_no_response(value)? {
        return provider_data::absent(spelled, "functionResponse.response");
    }
    Ok(spelled)
}

/// Returns true if the result of a call has no response.
fn has_no_response(part: RawJson<'_>) -> Result<bool, LlmError> {
    const RESULT: &[&str] = &["functionResponse", "function_response"];
    let Some(result) = Object::read(part, RESULT)?.either(RESULT) else { return Ok(false) };
    Ok(Object::read(result, &["response"])?.get("response").is_none_or(is_null))
}

/// Decodes the functions of an entry of `tools`; its other fields are tools that run at the provider.
fn definitions(tool: RawJson<'_>, tools: &mut Vec<Tool>, meter: &mut Meter<'_>) -> Result<(), LlmError> {
    const DECLARATIONS: &[&str] = &["functionDeclarations", "function_declarations"];
    if let Some(declarations) = Object::read(tool, DECLARATIONS)?.either(DECLARATIONS) {
        one_or_many(declarations, |declaration| {
            meter.tool()?;
            tools.push(definition(declaration)?);
            Ok(())
        })?;
    }
    if let Some(rest) = provider_data::rest(tool, DECLARATIONS)? {
        meter.tool()?;
        let mut own = Tool::new(rest.first_name().unwrap_or_default(), Json::null());
        own.extra = Some(Extra::new(Dialect::Gemini, rest));
        tools.push(own);
    }
    Ok(())
}

/// Decodes the definition of a tool.
pub fn definition(declaration: RawJson<'_>) -> Result<Tool, LlmError> {
    const SCHEMA: &[&str] = &["parametersJsonSchema", "parameters_json_schema"];
    let names = &["name", "description", "parameters", "parametersJsonSchema", "parameters_json_schema"];
    let fields = Object::read(declaration, names)?;
    let name = fields.text("name")?.ok_or_else(|| bad("functionDeclarations.name", "a text"))?;
    let schema = match (fields.either(SCHEMA), fields.get("parameters")) {
        (Some(schema), _) => Some(json_schema(schema)?),
        (None, Some(schema)) => Some(lower_types(schema)?),
        (None, None) => None,
    };
    let none = || Json::from(json!({"type": "object", "properties": {}}));
    let mut definition = Tool::new(name, schema.filter(Json::is_object).unwrap_or_else(none));
    definition.description = fields.text("description")?;
    if fields.get("parametersJsonSchema").is_none()
        || provider_data::rest(declaration, &["name", "description", "parametersJsonSchema"])?.is_some()
    {
        check_representable("tools", declaration)?;
        definition.extra = is_object(declaration).then(|| Extra::new(Dialect::Gemini, Json::of(declaration)));
    }
    Ok(definition)
}

/// Decodes all but the conversation and the tools.
pub fn settings(body: RawJson<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    read_settings(&Object::read(body, BODY)?, chat)
}

fn read_settings(body: &Object<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    if let Some(system) = body.either(&["systemInstruction", "system_instruction"]) {
        let mut texts = Vec::new();
        if let Some(parts) = Object::read(system, &["parts"])?.get("parts") {
            one_or_many(parts, |part| {
                texts.extend(Object::read(part, &["text"])?.text("text")?);
                Ok(())
            })?;
        }
        chat.system = Some(texts.join("\n\n"));
    }
    const CALLING: &[&str] = &["functionCallingConfig", "function_calling_config"];
    if let Some(config) = body.either(&["toolConfig", "tool_config"])
        && let Some(calling) = Object::read(config, CALLING)?.either(CALLING)
    {
        chat.tool_choice = tool_choice(calling)?;
    }
    if let Some(config) = body.either(&["generationConfig", "generation_config"]) {
        generation(config, chat)?;
    }
    Ok(())
}

fn tool_choice(calling: RawJson<'_>) -> Result<Option<ToolChoice>, LlmError> {
    const ALLOWED: &[&str] = &["allowedFunctionNames", "allowed_function_names"];
    let calling = Object::read(calling, &["mode", "allowedFunctionNames", "allowed_function_names"])?;
    let (mut first, mut others) = (None, false);
    if let Some(names) = calling.either(ALLOWED) {
        each(names, |name| {
            if first.is_some() {
                others = true;
            } else {
                first = Some(text(name)?);
            }
            Ok(())
        })?;
    }
    let only = first.flatten().filter(|_| !others);
    Ok(match (calling.word("mode").as_deref(), only) {
        (Some("ANY"), Some(name)) => Some(ToolChoice::Named(name)),
        (Some("ANY"), None) => Some(ToolChoice::Required),
        (Some("NONE"), _) => Some(ToolChoice::None),
        (Some(_), _) => Some(ToolChoice::Auto),
        (None, _) => None,
    })
}

/// The fields of `generationConfig` that the neutral form carries.
pub const GENERATION: &[&str] = &[
    "temperature",
    "topP",
    "top_p",
    "maxOutputTokens",
    "max_output_tokens",
    "stopSequences",
    "stop_sequences",
    "responseMimeType",
    "response_mime_type",
    "responseSchema",
    "response_schema",
    "responseJsonSchema",
    "response_json_schema",
    "thinkingConfig",
    "thinking_config",
];

fn generation(config: RawJson<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    let config = Object::read(config, GENERATION)?;
    chat.temperature = config.floating("temperature")?;
    chat.top_p = config.floating("topP")?.or(config.floating("top_p")?);
    chat.max_tokens = config.number("maxOutputTokens")?.or(config.number("max_output_tokens")?);
    chat.stop = config.strings("stopSequences")?;
    if chat.stop.is_empty() {
        chat.stop = config.strings("stop_sequences")?;
    }
    let schema = match config.either(&["responseJsonSchema", "response_json_schema"]) {
        Some(schema) => Some(json_schema(schema)?),
        None => config.either(&["responseSchema", "response_schema"]).map(lower_types).transpose()?,
    };
    let json = config.either(&["responseMimeType", "response_mime_type"]).and_then(word);
    if schema.is_some() || json.as_deref() == Some("application/json") {
        let strict = schema.is_some();
        chat.output = Some(OutputSchema { name: "answer".to_owned(), schema, strict });
    }
    let Some(thinking) = config.either(&["thinkingConfig", "thinking_config"]) else { return Ok(()) };
    chat.thinking = self::thinking(thinking)?;
    Ok(())
}

fn thinking(raw: RawJson<'_>) -> Result<Option<Thinking>, LlmError> {
    let names = &[
        "thinkingLevel",
        "thinking_level",
        "thinkingBudget",
        "thinking_budget",
        "includeThoughts",
        "include_thoughts",
    ];
    let thinking = Object::read(raw, names)?;
    let level = thinking.either(&["thinkingLevel", "thinking_level"]).and_then(word);
    let budget = thinking.signed("thinkingBudget").or_else(|| thinking.signed("thinking_budget"));
    let shown = thinking.either(&["includeThoughts", "include_thoughts"]).is_some_and(|shown| shown.get() == "true");
    let level = level.map(|level| level.to_ascii_uppercase());
    Ok(match (level.as_deref(), budget) {
        (Some("MINIMAL"), _) => Some(Thinking::Effort(Effort::Minimal)),
        (Some("LOW"), _) => Some(Thinking::Effort(Effort::Low)),
        (Some("MEDIUM"), _) => Some(Thinking::Effort(Effort::Medium)),
        (Some("HIGH"), _) => Some(Thinking::Effort(Effort::High)),
        (Some("XHIGH"), _) => Some(Thinking::Effort(Effort::XHigh)),
        (_, Some(tokens)) => Some(Thinking::of_tokens(tokens)),
        _ => shown.then_some(Thinking::Auto),
    })
}

/// A conversation that is decoded turn by turn. Its results may omit the ids of their calls.
struct Conversation {
    calls: usize,
    called: HashMap<String, FunctionCalls>,
}

/// The calls of one function.
#[derive(Default)]
struct FunctionCalls {
    /// The turn and the part of each.
    places: Vec<(u32, u32)>,
    /// The first position in these of each turn.
    turns: Vec<u32>,
}

/// The results of one turn, and the calls that they answer.
#[derive(Default)]
struct AnsweredCalls {
    ids: HashSet<String>,
    /// For each function the turn to look at, from the newest on, and the position in it.
    next: HashMap<String, (usize, usize)>,
}

impl Conversation {
    fn turn(&mut self, content: RawJson<'_>, before: &[Message], meter: &mut Meter<'_>) -> Result<Message, LlmError> {
        if !is_object(content) {
            return Err(bad("contents", "a list of objects"));
        }
        let fields = Object::read(content, &["role", "parts"])?;
        let role = match fields.word("role").as_deref() {
            Some("model") => Role::Assistant,
            None | Some("" | "user" | "function") => Role::User,
            Some(_) => return Err(bad("contents.role", "user or model")),
        };
        let (mut parts, mut answered) = (Vec::new(), AnsweredCalls::default());
        if let Some(list) = fields.get("parts").filter(|parts| !is_null(parts)) {
            if !is_list(list) && !is_object(list) {
                return Err(bad("contents.parts", "a list"));
            }
            let length = count(list).max(1);
            meter.parts(length)?;
            parts.reserve_exact(length);
            one_or_many(list, |value| {
                let mut part = self.part(value, before, &mut answered, meter)?;
                join_thought(&mut parts, &mut part);
                let rest = lacking(&part, value)?;
                provider_data::push(&mut parts, part, Dialect::Gemini, rest);
                Ok(())
            })?;
        }
        provider_data::push_fields(
            &mut parts,
            ExtraOf::Turn,
            Dialect::Gemini,
            provider_data::rest(content, &["role", "parts"])?,
        );
        Ok(Message::new(role, parts))
    }

    /// Remembers the calls of a turn.
    fn remember(&mut self, turn: usize, message: &Message) {
        for (place, part) in message.content.iter().enumerate() {
            let Part::ToolCall(call) = part else { continue };
            if !self.called.contains_key(&call.name) {
                self.called.insert(call.name.clone(), FunctionCalls::default());
            }
            let Some(called) = self.called.get_mut(&call.name) else { continue };
            // Fewer than the bytes of a body.
            let (turn, place) = (turn as u32, place as u32);
            if called.places.last().is_none_or(|(last, _)| *last != turn) {
                called.turns.push(called.places.len() as u32);
            }
            called.places.push((turn, place));
        }
    }

    /// Returns the call that a result without an id answers: in the newest turn with calls of this name, the first one
    /// without a result in this turn.
    fn unanswered(&self, name: &str, before: &[Message], answered: &mut AnsweredCalls) -> Option<String> {
        let called = self.called.get(name)?;
        let (turn, place) = answered.next.entry(name.to_owned()).or_default();
        loop {
            let newest = called.turns.len().checked_sub(*turn + 1)?;
            let end = called.turns.get(newest + 1).map_or(called.places.len(), |end| *end as usize);
            for at in called.turns[newest] as usize + *place..end {
                *place += 1;
                let (message, part) = called.places[at];
                if let Part::ToolCall(call) = &before[message as usize].content[part as usize]
                    && !answered.ids.contains(&call.id)
                {
                    return Some(call.id.clone());
                }
            }
            (*turn, *place) = (*turn + 1, 0);
        }
    }

    fn part(
        &mut self,
        raw: RawJson<'_>,
        before: &[Message],
        answered: &mut AnsweredCalls,
        meter: &mut Meter<'_>,
    ) -> Result<Part, LlmError> {
        let value = Object::read(raw, PART)?;
        let signature = value.either(&["thoughtSignature", "thought_signature"]).map(text).transpose()?.flatten();
        let signature = signature.filter(|token| token != FOREIGN_CALL);
        let opaque = signature.and_then(|token| unseal(token, Dialect::Gemini, false)).map(|unsealed| unsealed.opaque);
        if let Some(text) = value.text("text")? {
            let thought = value.flag("thought").unwrap_or(false);
            return Ok(match thought || (text.is_empty() && opaque.is_some()) {
                true => Part::Reasoning(Reasoning { text, opaque }),
                false => Part::Text(text),
            });
        }
        if let Some(call) = value.either(&["functionCall", "function_call"]) {
            let call = Object::read(call, &["id", "name", "args"])?;
            if let Some(name) = call.text("name")? {
                meter.tool_call()?;
                let id = call.text("id")?.unwrap_or_else(|| format!("call_{}", self.calls));
                self.calls += 1;
                let mut call = ToolCall::new(id, name, arguments_of(call.get("args"))?);
                call.opaque = opaque;
                return Ok(Part::ToolCall(call));
            }
        }
        if let Some(response) = value.either(&["functionResponse", "function_response"]) {
            let response = Object::read(response, &["id", "name", "response"])?;
            if let Some(name) = response.text("name")? {
                let id = match response.text("id")? {
                    None => self.unanswered(&name, before, answered),
                    id => id,
                };
                let id = id.unwrap_or_default();
                answered.ids.insert(id.clone());
                let (said, is_error) = result_text(response.get("response"))?;
                let mut result = ToolResult::new(id, said);
                result.name = Some(name);
                result.is_error = is_error;
                return Ok(Part::ToolResult(result));
            }
        }
        if let Some(media) = media(&value)? {
            return Ok(media);
        }
        Ok(Part::Other { dialect: Dialect::Gemini, value: Json::of(raw) })
    }
}

/// Gives results that name no call of the turn before them the calls that are left, in order. So does the API itself,
/// where a turn has as many results as calls: some clients write the id of the call in the place of its name.
fn pair_by_place(messages: &mut [Message]) {
    let calls = |message: &Message| message.tool_calls().map(|call| call.id.clone()).collect::<Vec<_>>();
    let mut rest = messages;
    while let Some(first) = rest.iter().position(|message| message.tool_calls().next().is_some()) {
        let (_, turns) = std::mem::take(&mut rest).split_at_mut(first);
        let models = turns.iter().take_while(|message| message.role == Role::Assistant).count().max(1);
        let (model, after) = turns.split_at_mut(models);
        let called: Vec<String> = model.iter().flat_map(calls).collect();
        let users = after.iter().take_while(|message| message.role != Role::Assistant).count();
        let (users, next) = after.split_at_mut(users);
        pair(&called, users);
        rest = next;
    }
}

/// Pairs the calls of a turn with the results in the turns after it.
fn pair(called: &[String], users: &mut [Message]) {
    let count = users.iter().flat_map(|message| &message.content);
    let count = count.filter(|part| matches!(part, Part::ToolResult(_))).count();
    let mut open: HashSet<&str> = called.iter().map(String::as_str).collect();
    if count != called.len() || open.len() != called.len() {
        return;
    }
    let mut lost = Vec::new();
    for part in users.iter_mut().flat_map(|message| &mut message.content) {
        if let Part::ToolResult(result) = part
            && !open.remove(result.call_id.as_str())
        {
            lost.push(result);
        }
    }
    let left = called.iter().filter(|id| open.contains(id.as_str()));
    for (result, id) in lost.into_iter().zip(left) {
        result.call_id.clone_from(id);
    }
}

/// Returns true if a part's signature is in an envelope.
fn is_in_envelope(part: RawJson<'_>) -> Result<bool, LlmError> {
    let names = &["thoughtSignature", "thought_signature"];
    let signature = Object::read(part, names)?.either(names).and_then(word);
    Ok(signature.is_some_and(|token| is_envelope_of_gemini(&token)))
}

/// Gives a signature of another provider the text before it: in a stream the two are parts of their own.
fn join_thought(parts: &mut Vec<Part>, part: &mut Part) {
    let Part::Reasoning(Reasoning { text, opaque: Some(Opaque { dialect, .. }) }) = part else { return };
    if !text.is_empty() || *dialect == Dialect::Gemini {
        return;
    }
    let is_thought = |part: &Part| matches!(part, Part::Reasoning(Reasoning { opaque: None, .. }));
    let is_piece = |part: &Part| is_thought(part) || matches!(part, Part::Extra { of: ExtraOf::Part, .. });
    let run = parts.iter().rposition(|part| !is_piece(part)).map_or(0, |last| last + 1);
    // Fields at the beginning of the run belong to what is before it.
    let from = parts[run..].iter().position(is_thought).map_or(parts.len(), |first| run + first);
    for piece in parts.drain(from..) {
        if let Part::Reasoning(piece) = piece {
            text.push_str(&piece.text);
        }
    }
}

/// The fields of a part of any kind that are read.
const PART: &[&str] = &[
    "text",
    "thought",
    "thoughtSignature",
    "thought_signature",
    "functionCall",
    "function_call",
    "functionResponse",
    "function_response",
    "inlineData",
    "inline_data",
    "fileData",
    "file_data",
];

fn media(value: &Object<'_>) -> Result<Option<Part>, LlmError> {
    if let Some(inline) = value.either(&["inlineData", "inline_data"]) {
        let inline = Object::read(inline, &["mimeType", "mime_type", "data"])?;
        let media_type = inline.either(&["mimeType", "mime_type"]).map(text).transpose()?.flatten();
        if let (Some(media_type), Some(data)) = (media_type, inline.text("data")?) {
            let is_image = media_type.starts_with("image/");
            let media = Media::Base64 { media_type, data };
            return Ok(Some(match is_image {
                true => Part::Image(Image { media }),
                false => Part::Document(crate::chat::Document { media, name: None }),
            }));
        }
    }
    let Some(file) = value.either(&["fileData", "file_data"]) else { return Ok(None) };
    let uri = Object::read(file, &["fileUri", "file_uri"])?.either(&["fileUri", "file_uri"]);
    let uri = uri.map(text).transpose()?.flatten();
    Ok(uri.map(|uri| Part::Image(Image { media: Media::File(uri) })))
}

/// Returns a function's result as a text, and whether it failed.
fn result_text(given: Option<RawJson<'_>>) -> Result<(String, bool), LlmError> {
    let Some(given) = given else { return Ok(("null".to_owned(), false)) };
    // The documentation names `output` and `error`; other objects are a tool's own.
    let only = only_field(given)?;
    Ok(match only.as_ref().map(|(name, value)| (name.as_str(), value)) {
        Some(("error", error)) if is_object(error) => (error.get().to_owned(), true),
        Some(("error", error)) => match text(error)? {
            Some(error) => (error, true),
            None => (given.get().to_owned(), false),
        },
        Some(("output", output)) => match text(output)?.filter(|output| !is_object_text(output)) {
            Some(output) => (output, false),
            None => (given.get().to_owned(), false),
        },
        _ => (given.get().to_owned(), false),
    })
}

/// Returns true if a text is a JSON object.
fn is_object_text(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<RawJson<'_>>(text).is_ok()
}

/// Reads a JSON Schema. Gemini CLI spells its types in capitals all the same, which Google takes and nobody else.
fn json_schema(schema: RawJson<'_>) -> Result<Json, LlmError> {
    const CAPITALS: [&str; 6] = ["\"OBJECT\"", "\"ARRAY\"", "\"STRING\"", "\"NUMBER\"", "\"INTEGER\"", "\"BOOLEAN\""];
    if CAPITALS.iter().any(|name| schema.get().contains(name)) { lower_types(schema) } else { Ok(Json::of(schema)) }
}

/// Rewrites the types of an OpenAPI schema, which this API spells in capitals, as JSON Schema spells them.
fn lower_types(schema: RawJson<'_>) -> Result<Json, LlmError> {
    let mut lowered = String::with_capacity(schema.get().len());
    let read = TypeLowering { to: &mut lowered, is_type: false };
    let wrong = |error| LlmError::new(ErrorKind::InvalidRequest, "a schema cannot be read").with_source(error);
    read.deserialize(&mut serde_json::Deserializer::from_str(schema.get())).map_err(wrong)?;
    Json::parse(lowered).map_err(wrong)
}

/// Writes a piece of a schema in one pass over it.
struct TypeLowering<'s> {
    to: &'s mut String,
    /// True at the value of a field `type`.
    is_type: bool,
}

impl TypeLowering<'_> {
    fn put<E: Error>(self, value: impl Serialize) -> Result<(), E> {
        let text = serde_json::to_string(&value).map_err(E::custom)?;
        self.to.push_str(&text);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for TypeLowering<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TypeLowering<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(())
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<(), E> {
        self.put(flag)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.put(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        // The enumeration's numbers, which the API takes too.
        let names = ["string", "number", "integer", "boolean", "array", "object", "null"];
        let place = number.checked_sub(1).filter(|_| self.is_type).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| names.get(place)) {
            Some(name) => self.put(name),
            None => self.put(number),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.put(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.is_type { self.put(text.to_ascii_lowercase()) } else { self.put(text) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.to.push('[');
        while list.next_element_seed(TypeLowering { to: self.to, is_type: self.is_type })?.is_some() {
            self.to.push(',');
        }
        if self.to.ends_with(',') {
            self.to.pop();
        }
        self.to.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut between = "";
        self.to.push('{');
        while let Some(name) = object.next_key::<String>()? {
            self.to.push_str(std::mem::replace(&mut between, ","));
            TypeLowering { to: self.to, is_type: false }.put(&name)?;
            self.to.push(':');
            object.next_value_seed(TypeLowering { to: self.to, is_type: name == "type" })?;
        }
        self.to.push('}');
        Ok(())
    }
}
