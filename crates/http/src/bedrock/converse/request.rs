//! A request of Messages as one of Converse.

use std::{borrow::Cow, fmt};

use serde_json::value::RawValue;

use super::{
    content::{Turns, cache_point},
    fields::{Fields, is_text, list},
    names::{SentNames, ToolNames},
    notes::{self, Notes},
    tools::{declared, tools},
    writer::Writer,
};
use crate::LlmError;

/// A request for Converse.
#[non_exhaustive]
pub struct Converted {
    /// The body. The model stands in the path.
    pub body: Vec<u8>,
    /// The changes to the request, for the response.
    pub notes: Vec<Cow<'static, str>>,
    /// True if a part of the request is left out.
    pub is_lossy: bool,
    /// The tools under other names than their own, for [`AnswerHead::tool_names`](super::AnswerHead::tool_names).
    pub tool_names: ToolNames,
}

impl fmt::Debug for Converted {
    /// Writes the body's length, and nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { body, notes, is_lossy, .. } = self;
        f.debug_struct("Converted")
            .field("body", &body.len())
            .field("notes", notes)
            .field("is_lossy", is_lossy)
            .finish_non_exhaustive()
    }
}

/// The fields that Converse has no place for, and hands to the model.
#[derive(Default)]
pub(super) struct Additional(Writer);

impl Additional {
    /// Begins a field. Returns the place for its value.
    pub(super) fn field(&mut self, name: &str) -> &mut Writer {
        if self.0.is_empty() {
            self.0.open(b'{');
        }
        self.0.name(name)
    }
}

/// The fields that have a place of their own, or none: the path or a header says it.
const KNOWN: [&str; 14] = [
    "model",
    "stream",
    "anthropic_version",
    "messages",
    "system",
    "max_tokens",
    "temperature",
    "top_p",
    "stop_sequences",
    "tools",
    "tool_choice",
    "cache_control",
    "metadata",
    "service_tier",
];
/// Fields of Converse's own that a caller of Messages may add.
const NATIVE: [&str; 6] = [
    "guardrailConfig",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "requestMetadata",
    "performanceConfig",
    "serviceTier",
];
/// Fields of Anthropic's own servers, which no model of Bedrock takes.
const ELSEWHERE: [&str; 9] = [
    "billing_policy",
    "container",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "mcp_servers",
    "speed",
    "thread",
];

/// Converts the body of a request of Messages into the body of a request of Converse.
///
/// # Errors
///
/// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) if the body does not follow the API of Messages, and
/// [`ErrorKind::UnsupportedFeature`](crate::ErrorKind::UnsupportedFeature) if Converse cannot take a picture or a
/// document, or does not run the tool that the model must call. Each names the field.
pub fn request(body: &[u8]) -> Result<Converted, LlmError> {
    let text = str::from_utf8(body).map_err(|_| notes::invalid("the request", "is not UTF-8"))?;
    let body: Fields<'_> = serde_json::from_str(text).map_err(|error| {
        // Serde's words may quote the value at fault.
        let what =
            format!("this is no JSON object, or a field is twice, at line {}, column {}", error.line(), error.column());
        notes::invalid("the request", &what)
    })?;
    let declared = declared(&body)?;
    let names = SentNames::beside(declared.iter().filter_map(|tool| tool.fields.text("name")));
    let mut notes = Notes::default();
    let mut turns = Turns::new(text.len() + 512, &mut notes, names);
    let messages = body.list("messages").ok_or_else(|| notes::invalid("messages", "must be a list"))?;
    for (place, message) in messages.into_iter().enumerate() {
        turns.message(message, place)?;
    }
    turns.finish(body.get("cache_control"));
    let mut additional = Additional::default();
    system(&mut turns.out, &body)?;
    tools(&mut turns, &mut additional, &body, declared)?;
    inference(&mut turns.out, &body);
    output(&mut turns.out, &mut additional, &body);
    labels(&mut turns, &body);
    for (name, value) in body.iter() {
        match name {
            _ if KNOWN.contains(&name) || matches!(name, "output_config" | "output_format") => {}
            _ if NATIVE.contains(&name) => {
                turns.out.name(name).raw(value);
            }
            "thread" if Fields::of(value).is_some_and(|thread| thread.get("previous_message_id").is_some()) => {
                return Err(notes::refused("state", name, "the conversation's state is at another provider"));
            }
            "compaction" => return Err(notes::refused(name, name, "Bedrock summarizes no conversation")),
            _ if ELSEWHERE.contains(&name) => turns.notes.record(notes::OTHER_FIELD, Some(name)),
            "additionalModelRequestFields" => {
                for (name, value) in Fields::of(value).unwrap_or_default().iter() {
                    additional.field(name).raw(value);
                }
            }
            _ => {
                additional.field(name).raw(value);
            }
        }
    }
    let Additional(mut fields) = additional;
    if !fields.is_empty() {
        fields.close("}");
        let fields = String::from_utf8_lossy(fields.as_bytes());
        turns.out.name("additionalModelRequestFields").json(&fields);
    }
    turns.out.close("}");
    let Turns { out, tool_names, .. } = turns;
    let tool_names = tool_names.finish();
    if !tool_names.is_empty() {
        notes.record(notes::TOOL_NAME, None);
    }
    let (body, is_lossy) = (out.into_bytes(), notes.is_lossy());
    Ok(Converted { body, is_lossy, notes: notes.into_texts(), tool_names })
}

fn system(out: &mut Writer, body: &Fields<'_>) -> Result<(), LlmError> {
    let Some(system) = body.get("system") else { return Ok(()) };
    let before = out.len();
    out.name("system").open(b'[');
    let empty = out.len();
    if is_text(system) {
        block(out, system);
    } else {
        let blocks = list(system).ok_or_else(|| notes::invalid("system", "must be a text or a list"))?;
        for (place, raw) in blocks.into_iter().enumerate() {
            let wrong = || notes::invalid(&format!("system.{place}"), "must be an object with a text");
            let fields = Fields::of(raw).ok_or_else(wrong)?;
            block(out, fields.get("text").filter(|text| is_text(text)).ok_or_else(wrong)?);
            cache_point(out, fields.get("cache_control"));
        }
    }
    match out.len() == empty {
        true => out.truncate(before),
        false => {
            out.close("]");
        }
    }
    Ok(())
}

/// Writes a text of the system prompt; Converse takes no empty one.
fn block(out: &mut Writer, text: &RawValue) {
    if text.get() != "\"\"" {
        out.open(b'{').name("text").raw(text).close("}");
    }
}

fn inference(out: &mut Writer, body: &Fields<'_>) {
    const NAMES: [(&str, &str); 4] = [
        ("max_tokens", "maxTokens"),
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("stop_sequences", "stopSequences"),
    ];
    if NAMES.iter().all(|(name, _)| body.get(name).is_none()) {
        return;
    }
    out.name("inferenceConfig").open(b'{');
    for (name, to) in NAMES {
        out.field(to, body.get(name));
    }
    out.close("}");
    // Only so does the answer say which of them it met. A path that an answer lacks is passed over.
    let stops = body.list("stop_sequences").is_some_and(|stops| !stops.is_empty());
    if stops && body.get("additionalModelResponseFieldPaths").is_none() {
        out.name("additionalModelResponseFieldPaths").json(r#"["/stop_sequence","/delta/stop_sequence"]"#);
    }
}

/// Writes the schema of the answer, and the effort. What else `output_config` has goes to the model.
fn output(out: &mut Writer, additional: &mut Additional, body: &Fields<'_>) {
    let config = body.object("output_config").unwrap_or_default();
    // The older name of the same.
    let format = config.get("format").or_else(|| body.get("output_format"));
    let fields = format.and_then(Fields::of);
    let schema = fields.as_ref().filter(|format| format.text("type").as_deref() == Some("json_schema"));
    let schema = schema.and_then(|format| Some((format, format.get("schema")?)));
    let effort = config.get("effort").filter(|effort| is_text(effort));
    if schema.is_some() || effort.is_some() {
        out.name("outputConfig").open(b'{');
        if let Some((format, schema)) = schema {
            out.name("textFormat").open(b'{').name("type").text("json_schema").name("structure").open(b'{');
            out.name("jsonSchema").open(b'{').name("schema").text(schema.get());
            for name in ["name", "description"] {
                out.field(name, format.get(name).filter(|text| is_text(text)));
            }
            out.close("}}}");
        }
        out.field("effort", effort).close("}");
    }
    let is_carried = |name: &str| name == "effort" && effort.is_some() || name == "format" && schema.is_some();
    let rest: Vec<_> = config.iter().filter(|(name, _)| !is_carried(name)).collect();
    if !rest.is_empty() {
        let place = additional.field("output_config").open(b'{');
        for (name, value) in rest {
            place.name(name).raw(value);
        }
        place.close("}");
    }
    if let (None, None, Some(format)) = (schema, config.get("format"), body.get("output_format")) {
        additional.field("output_format").raw(format);
    }
}

/// Writes the end user's id and the service tier.
fn labels(turns: &mut Turns<'_>, body: &Fields<'_>) {
    if let Some(metadata) = body.object("metadata") {
        let user = metadata.text("user_id");
        if let Some(user) = user {
            if body.get("requestMetadata").is_none() && is_label(&user) {
                turns.out.name("requestMetadata").open(b'{').name("user_id").text(&user).close("}");
            } else {
                turns.notes.record(notes::END_USER, None);
            }
        }
        for (name, _) in metadata.iter().filter(|(name, _)| *name != "user_id") {
            turns.notes.record(notes::OTHER_FIELD, Some(name));
        }
    }
    match body.text("service_tier").as_deref() {
        None => {}
        Some("standard_only") if body.get("serviceTier").is_none() => {
            turns.out.name("serviceTier").json(r#"{"type":"default"}"#);
        }
        Some(tier) => turns.notes.record(notes::SERVICE_TIER, Some(tier)),
    }
}

/// Returns true if Converse takes a value of `requestMetadata`: at most 256 of these letters.
fn is_label(value: &str) -> bool {
    let is_fit =
        |letter: char| letter.is_ascii_alphanumeric() || letter.is_ascii_whitespace() || ":_@$#=/+,-.".contains(letter);
    value.len() <= 256 && value.chars().all(is_fit)
}
