//! Rewrites content that other dialects take in another form: documents that are texts, search results, tools that the
//! caller runs itself.

use std::{borrow::Cow, collections::HashSet};

use serde_json::{Value, json};

use super::report::Report;
use crate::{
    Dialect, LlmError,
    chat::{Chat, Document, Extra, ExtraOf, Image, Json, Media, Part, Tool},
    fields::{Object, each, is_list, text, word},
    internal::base64,
    raw_json::RawJson,
    translate::rules::Feature,
};

/// Writes documents that are texts, and search results, as texts for a target that has no place for them.
pub(super) fn fit(chat: &mut Cow<'_, Chat>, target: Dialect, report: &mut Report) -> Result<(), LlmError> {
    let is_file =
        |part: &Part| matches!(part, Part::Image(Image { media: Media::File(uri) }) if uri.starts_with("https://"));
    let changes = |part: &Part| goes_as_text(part, target) || is_file(part) || detail(part, target).is_some();
    let concerns = |part: &Part| match part {
        Part::ToolResult(result) => result.content.iter().any(changes),
        part => changes(part),
    };
    if !chat.messages.iter().flat_map(|message| &message.content).any(concerns) {
        return Ok(());
    }
    for message in &mut chat.to_mut().messages {
        report.check_stopped()?;
        rewrite(&mut message.content, target, report)?;
    }
    Ok(())
}

/// Returns a picture or document at a web address, which Gemini writes like an uploaded file. The fields beside it say
/// which it is.
fn at_url(part: &Part, beside: Option<&Part>) -> Option<Part> {
    let Part::Image(Image { media: Media::File(uri) }) = part else { return None };
    if !uri.starts_with("https://") || uri.starts_with("https://generativelanguage.googleapis.com/") {
        return None;
    }
    let own = beside?.as_extra(ExtraOf::Part, Dialect::Gemini)?.fields.fields();
    let file = own.get("fileData").or_else(|| own.get("file_data"))?;
    let kind = file.get("mimeType").or_else(|| file.get("mime_type"))?.as_str()?;
    let media = Media::Url(uri.clone());
    match kind {
        "image/jpeg" | "image/png" | "image/webp" | "image/gif" => Some(Part::Image(Image { media })),
        "application/pdf" => Some(Part::Document(Document { media, name: None })),
        _ => None,
    }
}

/// Returns the closeness of the look at the picture before, as OpenAI's other dialect writes it.
fn detail(part: &Part, target: Dialect) -> Option<Part> {
    let Part::Extra { of: ExtraOf::Part, extra } = part else { return None };
    let fields = match (extra.dialect, target) {
        (Dialect::OpenAi, Dialect::Responses) => {
            json!({"detail": extra.fields.fields().get("image_url")?.get("detail")?})
        }
        (Dialect::Responses, Dialect::OpenAi) => {
            let detail = extra.fields.get("detail").and_then(word)?;
            // Chat Completions has no other.
            matches!(&*detail, "low" | "high" | "auto").then(|| json!({"image_url": {"detail": detail}}))?
        }
        _ => return None,
    };
    Some(Part::Extra { of: ExtraOf::Part, extra: Extra::new(target, fields) })
}

/// Puts the description of each namespace of Responses before that of its first tool.
pub(super) fn describe_namespaces(chat: &mut Cow<'_, Chat>) {
    let mut seen = HashSet::new();
    for at in 0..chat.tools.len() {
        let Some(namespace) = namespace_of(&chat.tools[at]) else { continue };
        let text = |name: &str| namespace.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let description = text("description");
        if seen.insert(text("name")) && !description.trim().is_empty() {
            let tool = &mut chat.to_mut().tools[at];
            tool.description = Some(paragraphs([description].into_iter().chain(tool.description.take())));
        }
    }
}

fn namespace_of(tool: &Tool) -> Option<Value> {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses)?;
    serde_json::from_str(extra.fields.get("namespace")?.get()).ok()
}

fn goes_as_text(part: &Part, target: Dialect) -> bool {
    match part {
        Part::Other { dialect: Dialect::Anthropic, value } => {
            target != Dialect::Anthropic && matches!(&*super::super::kind_of(value), "document" | "search_result")
        }
        Part::Document(Document { media: Media::Base64 { media_type, .. }, .. }) => {
            target != Dialect::Gemini && (media_type.starts_with("text/") || media_type == "application/json")
        }
        _ => false,
    }
}

fn rewrite(parts: &mut Vec<Part>, target: Dialect, report: &mut Report) -> Result<(), LlmError> {
    let mut written = Vec::with_capacity(parts.len());
    let mut before = std::mem::take(parts).into_iter().peekable();
    while let Some(mut part) = before.next() {
        if let Part::ToolResult(result) = &mut part {
            rewrite(&mut result.content, target, report)?;
        }
        if let Some(rewritten) = at_url(&part, before.peek()).or_else(|| detail(&part, target)) {
            written.push(rewritten);
            continue;
        }
        match goes_as_text(&part, target).then(|| as_text(&part)).transpose()?.flatten() {
            Some(texts) => {
                report.record(Feature::TextDocument);
                written.extend(texts);
            }
            None => written.push(part),
        }
    }
    *parts = written;
    Ok(())
}

/// Returns the part's text, with its pictures; `None` if it cannot be read.
fn as_text(part: &Part) -> Result<Option<Vec<Part>>, LlmError> {
    match part {
        Part::Document(Document { media: Media::Base64 { data, .. }, name }) => {
            let said = base64::decode(data).and_then(|bytes| String::from_utf8(bytes).ok());
            Ok(said.map(|said| vec![Part::Text(paragraphs(name.iter().cloned().chain([said])))]))
        }
        Part::Other { value, .. } => block(value),
        _ => Ok(None),
    }
}

/// Reads a `document` that is a text or a list of blocks, or a `search_result`.
fn block(value: &Json) -> Result<Option<Vec<Part>>, LlmError> {
    let block = Object::read(value.raw(), &["title", "context", "source", "content"])?;
    let mut joined = Paragraphs::default();
    joined.text(block.text("title")?);
    if let Some(source) = block.object("source") {
        joined.text(block.text("context")?);
        let source = Object::read(source, &["type", "data", "content"])?;
        match (source.word("type").as_deref(), source.get("content")) {
            (Some("text"), _) => joined.text(source.text("data")?),
            (Some("content"), Some(content)) => joined.content(content)?,
            _ => return Ok(None),
        }
    } else {
        joined.text(block.text("source")?);
        if let Some(content) = block.get("content") {
            joined.content(content)?;
        }
    }
    Ok(Some(joined.parts))
}

/// Joins consecutive texts to one text of several paragraphs.
#[derive(Default)]
struct Paragraphs {
    parts: Vec<Part>,
}

impl Paragraphs {
    fn text(&mut self, text: Option<String>) {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return };
        match self.parts.last_mut() {
            Some(Part::Text(before)) => before.extend(["\n\n", &text]),
            _ => self.parts.push(Part::Text(text)),
        }
    }

    fn content(&mut self, content: RawJson<'_>) -> Result<(), LlmError> {
        if !is_list(content) {
            self.text(text(content)?);
            return Ok(());
        }
        each(content, |raw| {
            let block = Object::read(raw, &["type", "text", "source"])?;
            if block.word("type").as_deref() == Some("image")
                && let Some(source) = block.object("source")
            {
                let source = Object::read(source, &["media_type", "data", "url"])?;
                let media = match (source.text("media_type")?, source.text("data")?, source.text("url")?) {
                    (Some(media_type), Some(data), _) => Some(Media::Base64 { media_type, data }),
                    (_, _, url) => url.map(Media::Url),
                };
                self.parts.extend(media.map(|media| Part::Image(Image { media })));
                return Ok(());
            }
            self.text(block.text("text")?);
            Ok(())
        })
        .map(drop)
    }
}

fn paragraphs(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.filter(|text| !text.trim().is_empty()).collect();
    texts.join("\n\n")
}

/// Returns a tool of Chat Completions that takes free text as Responses writes it.
pub(super) fn as_responses_tool(tool: &Tool) -> Option<Extra> {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::OpenAi)?;
    let fields = extra.fields.fields();
    let mut custom = fields.get("custom")?.as_object()?.clone();
    let format = custom.get_mut("format").and_then(Value::as_object_mut);
    if let Some(format) = format
        && let Some(Value::Object(grammar)) = format.remove("grammar")
    {
        format.extend(grammar);
    }
    custom.insert("type".to_owned(), "custom".into());
    Some(Extra::new(Dialect::Responses, custom))
}

/// Returns true for a type of Anthropic's tools that the caller runs, and whose schema the model knows by itself.
pub(super) fn runs_at_caller(kind: &str) -> bool {
    function(kind).is_some()
}

/// Returns the same tool as a function, with the schema that Anthropic documents for it.
pub(super) fn as_function(tool: &Tool) -> Option<Tool> {
    let extra = tool.extra.as_ref().filter(|extra| extra.dialect == Dialect::Anthropic && tool.runs_at_provider())?;
    let fields = extra.fields.fields();
    let (what, schema) = function(fields.get("type")?.as_str()?)?;
    let size = |name: &str| fields.get(name).and_then(Value::as_u64);
    let what = match (size("display_width_px"), size("display_height_px")) {
        (Some(width), Some(height)) => format!("{what} The screen is {width} pixels wide and {height} high."),
        _ => what.to_owned(),
    };
    Some(Tool::new(tool.name.clone(), schema).description(what))
}

/// Returns the description of a tool of this type, and its schema (docs.anthropic.com: "Bash tool", "Text editor tool",
/// "Computer use tool", "Memory tool").
fn function(kind: &str) -> Option<(&'static str, Value)> {
    let text = || json!({"type": "string"});
    let pair = || json!({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2});
    let (name, since) = kind.rsplit_once('_')?;
    let (what, required, mut properties) = match name {
        "bash" => (
            "Runs a command in a shell that stays open between calls; `restart` opens a new one.",
            json!([]),
            json!({"command": text(), "restart": {"type": "boolean"}}),
        ),
        "text_editor" => (
            "Views, creates and changes text files. `view_range` is the first and the last line; `str_replace` puts `new_str` in the \
             place of `old_str`, which must be there once; `insert` puts text behind the line `insert_line`.",
            json!(["command", "path"]),
            json!({"command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]}, "path": text(),
                "file_text": text(), "old_str": text(), "new_str": text(), "insert_line": {"type": "integer"},
                "insert_text": text(), "view_range": pair()}),
        ),
        "memory" => (
            "Views, creates, changes, deletes and renames files below `/memories`, which outlive the conversation.",
            json!(["command"]),
            json!({"command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
                "path": text(), "file_text": text(), "old_str": text(), "new_str": text(),
                "insert_line": {"type": "integer"}, "insert_text": text(), "old_path": text(), "new_path": text(),
                "view_range": pair()}),
        ),
        "computer" => (
            "Uses a computer by its screen, mouse and keyboard: `coordinate` is x and y in pixels, `text` what to type or which keys to \
             press, `duration` in seconds.",
            json!(["action"]),
            json!({"action": {"type": "string", "enum": ["screenshot", "key", "hold_key", "type", "cursor_position",
                "mouse_move", "left_click", "right_click", "middle_click", "double_click", "triple_click",
                "left_click_drag", "left_mouse_down", "left_mouse_up", "scroll", "wait", "zoom"]},
                "coordinate": pair(), "start_coordinate": pair(), "text": text(), "duration": {"type": "number"},
                "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
                "scroll_amount": {"type": "integer"}, "region": {"type": "array", "items": {"type": "integer"}}}),
        ),
        _ => return None,
    };
    // Up to that version the editor could undo its last change.
    if name == "text_editor"
        && since < "20250429"
        && let Some(commands) = properties["command"]["enum"].as_array_mut()
    {
        commands.push("undo_edit".into());
    }
    Some((what, json!({"type": "object", "properties": properties, "required": required})))
}
