//! Marks of what a provider is to keep in its cache of prompts, for Claude and for servers that pass them on.
//!
//! | in | a mark stands at |
//! |---|---|
//! | Messages | a block, a tool, the whole request: `cache_control` |
//! | Chat Completions | a part, a message, a call, a tool or its function, the whole request: the same |
//! | both of OpenAI's | a part: `prompt_cache_breakpoint` |
//! | Responses | a part, the whole request: both |
//!
//! OpenRouter and LiteLLM document the second row.
//!
//! A mark at a part that bears none in the target's dialect, or that goes elsewhere, goes to the part before it. Claude
//! takes [four](MOST). Of more, the last one of the tools and the last one of the system prompt stay, since other
//! conversations share them; then the latest of the conversation, which the next turn reads; then the latest others.

use std::borrow::Cow;

use serde_json::json;

use super::report::Report;
use crate::{
    Dialect, LlmError,
    chat::{Chat, Extra, ExtraOf, Json, Message, Part, Role, ToolResult},
    fields::{Object, each, is_list, text},
    raw_json::RawJson,
    translate::{
        ids::{CacheMarks, Target},
        rules::Feature,
    },
};

/// The marks that Anthropic takes in a request ("Prompt caching", November 2026).
const MOST: usize = 4;

const CONTROL: &str = "cache_control";
/// OpenAI's own mark.
const BREAKPOINT: &str = "prompt_cache_breakpoint";

/// A mark, and what it stands at.
struct Mark {
    place: Place,
    control: Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Tool(usize),
    /// The end of a paragraph of the system prompt, in bytes.
    System(usize),
    /// A part of a message.
    Part(usize, usize),
    /// The whole request: the provider finds the place.
    Whole,
}

impl Place {
    fn is_system(self) -> bool {
        matches!(self, Self::System(_))
    }

    fn is_tool(self) -> bool {
        matches!(self, Self::Tool(_))
    }
}

/// The marks of tools and of the system prompt, for the target's encoder.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlacedMarks {
    tools: Vec<(usize, Json)>,
    system: Vec<(usize, Json)>,
}

impl PlacedMarks {
    /// Returns the mark of the tool at this place.
    pub(crate) fn of_tool(&self, at: usize) -> Option<Json> {
        self.tools.iter().find(|(tool, _)| *tool == at).map(|(_, control)| control.clone())
    }

    /// Cuts a system prompt behind each of its marks. Returns the pieces with their marks; `None` without any mark.
    pub(crate) fn pieces(&self, system: &str) -> Option<Vec<(String, Option<Json>)>> {
        let mut pieces: Vec<(String, Option<Json>)> = Vec::new();
        let mut begun = 0;
        let marks = self.system.iter().map(|(end, control)| (*end, Some(control.clone())));
        for (end, control) in marks.chain([(system.len(), None)]) {
            let Some(piece) = system.get(begun..end) else { continue };
            let piece = if begun == 0 { piece } else { piece.strip_prefix("\n\n").unwrap_or(piece) };
            begun = end;
            match pieces.last_mut() {
                _ if !piece.trim().is_empty() => pieces.push((piece.to_owned(), control)),
                // An empty text bears no mark.
                Some(last) => last.1 = control.or_else(|| last.1.take()),
                None => {}
            }
        }
        pieces.iter().any(|(_, control)| control.is_some()).then_some(pieces)
    }
}

/// Writes the marks of a caller of another dialect in the target's form.
///
/// # Errors
///
/// The caller's system prompt is none of its dialect.
pub(super) fn fit(chat: &mut Cow<'_, Chat>, target: Target, report: &mut Report) -> Result<(), LlmError> {
    if target.marks == CacheMarks::None {
        return Ok(());
    }
    let mut marks = marks(chat, target)?;
    // Claude may be behind any server.
    if marks.len() > MOST {
        report.record(Feature::CacheMarks);
        marks = chosen(marks);
    }
    let mut placed = PlacedMarks::default();
    // From the end: a place stays where it is until its own turn.
    for Mark { place, control } in marks.into_iter().rev() {
        match place {
            Place::Tool(at) => placed.tools.push((at, control)),
            Place::System(end) => placed.system.insert(0, (end, control)),
            Place::Part(message, part) => put(&mut chat.to_mut().messages[message], part, target.dialect, &control),
            Place::Whole => report.carry(Feature::Cache, CONTROL, control),
        }
    }
    report.place_marks(placed);
    Ok(())
}

/// Puts a mark behind a part, where the encoder looks for it.
fn put(message: &mut Message, part: usize, dialect: Dialect, control: &Json) {
    let fields = json!({ CONTROL: control.value().unwrap_or_default() });
    let mark = Part::Extra { of: ExtraOf::Part, extra: Extra::new(dialect, fields) };
    match message.content.get_mut(part) {
        // A tool's message has the mark at its text.
        Some(Part::ToolResult(result)) if dialect == Dialect::OpenAi => {
            let text = result.content.iter().rposition(is_text).unwrap_or_default();
            result.content.insert(text + 1, mark);
        }
        _ => message.content.insert(part + 1, mark),
    }
}

/// Returns the marks that stay, in their order.
fn chosen(marks: Vec<Mark>) -> Vec<Mark> {
    let places: Vec<Place> = marks.iter().map(|mark| mark.place).collect();
    let last = |is: fn(Place) -> bool| places.iter().rposition(|place| is(*place));
    let shared = [last(Place::is_tool), last(Place::is_system)];
    let is_shared = |at: &usize| places[*at].is_tool() || places[*at].is_system();
    let (of_rest, of_conversation): (Vec<usize>, Vec<usize>) = (0..places.len()).rev().partition(is_shared);
    let mut stays = vec![false; marks.len()];
    let mut left = MOST;
    for at in shared.into_iter().flatten().chain(of_conversation).chain(of_rest) {
        if left > 0 && !std::mem::replace(&mut stays[at], true) {
            left -= 1;
        }
    }
    marks.into_iter().zip(stays).filter(|(_, stays)| *stays).map(|(mark, _)| mark).collect()
}

/// Returns all marks of other dialects, in the order of the prompt: tools, system prompt, conversation.
fn marks(chat: &Chat, target: Target) -> Result<Vec<Mark>, LlmError> {
    let is_foreign = |extra: &&Extra| extra.dialect != target.dialect;
    let mut marks = Vec::new();
    for (at, tool) in chat.tools.iter().enumerate() {
        let Some(extra) = tool.extra.as_ref().filter(is_foreign) else { continue };
        let in_function = || extra.fields.get("function").and_then(of_object);
        let control = of_object(extra.fields.raw()).or_else(in_function);
        marks.extend(control.map(|control| Mark { place: Place::Tool(at), control }));
    }
    let settings = chat.extra.as_ref().filter(is_foreign);
    if let (Some(extra), Some(system)) = (settings, &chat.system) {
        marks.extend(of_system(extra, system)?);
    }
    let mut bearer = None;
    for (at, message) in chat.messages.iter().enumerate() {
        for (place, part) in message.content.iter().enumerate() {
            if bears(part, message.role, target.dialect) {
                bearer = Some(Place::Part(at, place));
            }
            let control = match part {
                Part::Extra { of: ExtraOf::Part | ExtraOf::Turn, extra } if is_foreign(&extra) => {
                    of_object(extra.fields.raw())
                }
                Part::ToolResult(result) => of_result(result, target.dialect),
                _ => None,
            };
            add(&mut marks, bearer, control);
        }
    }
    if let Some(control) = settings.and_then(|extra| of_object(extra.fields.raw())) {
        match target.marks {
            CacheMarks::Anywhere => marks.push(Mark { place: Place::Whole, control }),
            // The last part has it, unless it has one of its own.
            _ if bearer.is_some_and(|place| marks.last().is_some_and(|last| last.place == place)) => {}
            _ => add(&mut marks, bearer, Some(control)),
        }
    }
    Ok(marks)
}

/// Adds a mark at a part, in place of an earlier one there.
fn add(marks: &mut Vec<Mark>, bearer: Option<Place>, control: Option<Json>) {
    let (Some(place), Some(control)) = (bearer, control) else { return };
    match marks.last_mut() {
        Some(last) if last.place == place => last.control = control,
        _ => marks.push(Mark { place, control }),
    }
}

/// Returns true if a part can bear a mark in this dialect.
fn bears(part: &Part, role: Role, dialect: Dialect) -> bool {
    match (dialect, part) {
        (_, Part::Text(text)) => !text.trim().is_empty(),
        (Dialect::Anthropic, Part::Refusal(text)) => !text.trim().is_empty(),
        (Dialect::Anthropic, part) => {
            matches!(part, Part::Image(_) | Part::Document(_) | Part::ToolCall(_) | Part::ToolResult(_))
        }
        // A failure is written in words, without parts.
        (_, Part::ToolResult(result)) => role == Role::User && !result.is_error && result.content.iter().any(is_text),
        _ => false,
    }
}

fn is_text(part: &Part) -> bool {
    part.as_text().is_some_and(|text| !text.trim().is_empty())
}

/// Returns the last mark within a tool's result.
fn of_result(result: &ToolResult, target: Dialect) -> Option<Json> {
    result.content.iter().rev().find_map(|part| match part {
        Part::Extra { of: ExtraOf::Part, extra } if extra.dialect != target => of_object(extra.fields.raw()),
        _ => None,
    })
}

/// Returns the mark in an object's fields.
fn of_object(fields: RawJson<'_>) -> Option<Json> {
    control(&Object::read(fields, &[CONTROL, BREAKPOINT]).ok()?)
}

/// Returns the mark of a part, a message or a tool, in Anthropic's form.
fn control(fields: &Object<'_>) -> Option<Json> {
    let Some(control) = fields.object(CONTROL) else {
        return fields.object(BREAKPOINT).map(|_| json!({"type": "ephemeral"}).into());
    };
    let control = Object::read(control, &["type", "ttl"]).ok()?;
    let mut mark = json!({"type": control.word("type").filter(|kind| kind == "ephemeral")?});
    if let Some(ttl) = control.word("ttl") {
        mark["ttl"] = ttl.into();
    }
    Some(mark.into())
}

/// Returns the marks of a system prompt that came in several parts. A prompt that a layer has changed has none.
fn of_system(extra: &Extra, system: &str) -> Result<Vec<Mark>, LlmError> {
    let mut read = SystemMarks::default();
    match extra.dialect {
        Dialect::Anthropic => {
            let blocks = extra.fields.get("system").filter(|system| is_list(*system));
            blocks.map(|blocks| read.paragraphs(blocks, false)).transpose()?;
        }
        Dialect::OpenAi => {
            let Some(messages) = extra.fields.get("messages") else { return Ok(Vec::new()) };
            each(messages, |message| read.message(message))?;
        }
        Dialect::Gemini | Dialect::Responses => {}
    }
    Ok(if read.end == system.len() { read.marks } else { Vec::new() })
}

/// The marks of a system prompt, and its length so far.
#[derive(Default)]
struct SystemMarks {
    marks: Vec<Mark>,
    end: usize,
    is_begun: bool,
}

impl SystemMarks {
    /// Reads a message of Chat Completions. An empty one is a paragraph too.
    fn message(&mut self, message: RawJson<'_>) -> Result<(), LlmError> {
        let fields = Object::read(message, &["content", CONTROL, BREAKPOINT])?;
        match fields.get("content") {
            Some(parts) if is_list(parts) => {
                if !self.paragraphs(parts, true)? {
                    self.paragraph("");
                }
            }
            Some(content) => self.paragraph(&text(content)?.unwrap_or_default()),
            None => self.paragraph(""),
        }
        self.mark(&fields);
        Ok(())
    }

    /// Reads the texts of a list of parts. Returns whether there is one.
    fn paragraphs(&mut self, parts: RawJson<'_>, by_type: bool) -> Result<bool, LlmError> {
        let mut any = false;
        each(parts, |part| {
            let fields = Object::read(part, &["type", "text", CONTROL, BREAKPOINT])?;
            let is_text = !by_type || fields.word("type").as_deref() == Some("text");
            if let Some(text) = fields.text("text")?.or_else(|| by_type.then(String::new)).filter(|_| is_text) {
                any = true;
                self.paragraph(&text);
                self.mark(&fields);
            }
            Ok(())
        })?;
        Ok(any)
    }

    fn paragraph(&mut self, text: &str) {
        self.end += text.len() + if std::mem::replace(&mut self.is_begun, true) { "\n\n".len() } else { 0 };
    }

    fn mark(&mut self, fields: &Object<'_>) {
        add(&mut self.marks, Some(Place::System(self.end)), control(fields));
    }
}
