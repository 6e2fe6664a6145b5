//! The parts of a request to Gemini that Google's API for developers has and Vertex AI does not.
//!
//! Source: the converters of google-genai 3.6.1 (November 2026), which raise "only supported in Gemini Developer API
//! mode" for them; Vertex AI answers a turn without a role with "Please use a valid role: user, model".
//!
//! A body is parsed only if one of its texts may name such a part; a role is looked for without.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use super::{
    hosted::{field, parsed, says},
    losses::{Loss, Losses, refused},
};
use crate::{
    LlmError,
    fields::{each, fields, is_list, is_object, word},
    protocol::Rewritten,
    raw_json::RawJson,
    skip, wire,
};

/// The fields that are looked at, beside those that may occur once.
pub(super) const READ: &[&str] = &["cachedContent", "cached_content", "toolConfig", "tool_config"];

/// The fields at the top that Vertex AI refuses, with the reasons.
pub(super) const REMOVED: &[(&str, Option<&str>)] = &[("store", Some("only Google's API for developers has a log"))];

const KEPT: Loss = Loss("metadata", "left out: Vertex AI does not take it");
const TOOL: Loss = Loss("server_tool", "left out: Vertex AI does not run it");
const PART: Loss = Loss("own_part", "left out: Vertex AI does not know it");
const OTHER: Loss = Loss("other_field", "left out: Vertex AI does not know it");
const ROLE: &str = r#""role":"user""#;
/// The replacement for a turn of which nothing is left.
const NOTHING: &str = r#"{"text":"(no answer)"}"#;

/// Fields with the reasons for which they go, in both spellings that the API takes.
type Gone = &'static [(&'static str, &'static str, Loss)];

const TOOLS: Gone = &[("fileSearch", "file_search", TOOL), ("mcpServers", "mcp_servers", TOOL)];
const TOOL_CONFIG: Gone = &[("includeServerSideToolInvocations", "include_server_side_tool_invocations", TOOL)];
const GENERATION: Gone = &[("enableEnhancedCivicAnswers", "enable_enhanced_civic_answers", OTHER)];
const PARTS: Gone = &[("partMetadata", "part_metadata", KEPT)];
/// Parts that are nothing else.
const WHOLE_PARTS: Gone = &[("toolCall", "tool_call", PART), ("toolResponse", "tool_response", PART)];
const RESULTS: Gone = &[("willContinue", "will_continue", OTHER)];
const PARTS_OF_RESULTS: Gone = &[("mediaProcessing", "media_processing", OTHER)];

/// The texts of which one stands in each conversation with such a part.
const IN_CONTENTS: &[&str] = &["etadata\"", "\"tool", "ontinue\"", "rocessing\"", FILES];
/// The host whose files other places cannot read.
const FILES: &str = "generativelanguage.googleapis.com";

/// Returns true if a body is to be parsed for such parts.
pub(super) fn may_concern(body: &[u8], object: &wire::Object) -> bool {
    field(body, object, "contents").is_some_and(|(_, text)| says(text, IN_CONTENTS))
}

/// Takes out the parts that Vertex AI does not take, and adds missing roles.
pub(super) fn rewrite(body: &Bytes, object: &wire::Object) -> Result<Rewritten, LlmError> {
    let mut losses = Losses::default();
    let mut rewritten = Rewritten::default();
    for name in ["cachedContent", "cached_content"] {
        let cached =
            field(body, object, name).and_then(|(_, text)| word(serde_json::from_slice::<RawJson<'_>>(text).ok()?));
        if cached.is_some_and(|cached| !cached.starts_with("projects/")) {
            return Err(refused("cached_content", name, "a part of the conversation is at another provider"));
        }
    }
    for (name, gone) in [
        ("toolConfig", TOOL_CONFIG),
        ("tool_config", TOOL_CONFIG),
        ("generationConfig", GENERATION),
        ("generation_config", GENERATION),
    ] {
        let Some((place, text)) = field(body, object, name).filter(|(_, text)| names(text, gone)) else { continue };
        if let Some(text) = without(parsed(name, text)?, gone, &mut losses)? {
            rewritten.edits.push((place, text));
        }
    }
    if let Some((place, text)) = field(body, object, "tools").filter(|(_, text)| names(text, TOOLS)) {
        rewritten.edits.push((place, tools(parsed("tools", text)?, &mut losses)?));
    }
    if let Some((place, text)) = field(body, object, "contents") {
        roles(text, place.start, &mut rewritten.edits);
        if says(text, IN_CONTENTS) {
            let mut contents = Contents { text, start: place.start, edits: &mut rewritten.edits, losses: &mut losses };
            contents.read(parsed("contents", text)?)?;
        }
    }
    rewritten.notes = losses.into_texts();
    Ok(rewritten)
}

fn names(text: &[u8], gone: Gone) -> bool {
    gone.iter().any(|(camel, snake, _)| says(text, &[camel, snake]))
}

/// Calls `visit` with each item of a list, or with the one that stands without a list.
fn one_or_many<'a>(
    value: RawJson<'a>,
    mut visit: impl FnMut(RawJson<'a>) -> Result<(), LlmError>,
) -> Result<(), LlmError> {
    if is_object(value) { visit(value) } else { each(value, visit).map(drop) }
}

/// Returns an object without these fields; `None` if it has none of them.
fn without(object: RawJson<'_>, gone: Gone, losses: &mut Losses) -> Result<Option<String>, LlmError> {
    let (mut text, mut is_changed) = (String::from("{"), false);
    fields(object, |name, value| {
        match gone.iter().find(|(camel, snake, _)| name == *camel || name == *snake) {
            Some((camel, _, loss)) => {
                losses.record(*loss, camel);
                is_changed = true;
            }
            None => put(&mut text, name, value.get()),
        }
        Ok(())
    })?;
    text.push('}');
    Ok(is_changed.then_some(text))
}

fn put(object: &mut String, name: &str, value: &str) {
    object.push_str(if object.len() > 1 { "," } else { "" });
    object.push_str(&serde_json::Value::from(name).to_string());
    object.push(':');
    object.push_str(value);
}

fn tools(tools: RawJson<'_>, losses: &mut Losses) -> Result<String, LlmError> {
    let mut list = String::from("[");
    one_or_many(tools, |tool| {
        let changed = without(tool, TOOLS, losses)?;
        let text = changed.as_deref().unwrap_or_else(|| tool.get());
        if text != "{}" {
            list.push_str(if list.len() > 1 { "," } else { "" });
            list.push_str(text);
        }
        Ok(())
    })?;
    list.push(']');
    Ok(list)
}

/// Adds the user's role to turns without one. The list begins at `start` in the body; nothing is parsed.
fn roles(text: &[u8], start: usize, edits: &mut Vec<(Range<usize>, String)>) {
    let mut at = 0;
    let is_between = |byte: &u8| matches!(byte, b'[' | b',' | b' ' | b'\t' | b'\n' | b'\r');
    loop {
        at += text[at..].iter().take_while(|byte| is_between(byte)).count();
        if text.get(at) != Some(&b'{') {
            return;
        }
        let Some(skipped) = skip::nested(text, at) else { return };
        let Ok(turn) = wire::Object::read(&text[at..skipped.end], &["role"]) else { return };
        let turn = turn.behind(at);
        match turn.field("role").map(|role| role.value.clone()) {
            Some(place) if matches!(&text[place.clone()], b"null" | b"\"\"") => {
                edits.push((place.start + start..place.end + start, r#""user""#.to_owned()));
            }
            Some(_) => {}
            None => {
                let comma = if turn.is_empty { "" } else { "," };
                let open = start + turn.open;
                edits.push((open..open, format!("{ROLE}{comma}")));
            }
        }
        at = skipped.end;
    }
}

struct Contents<'a> {
    text: &'a [u8],
    start: usize,
    edits: &'a mut Vec<(Range<usize>, String)>,
    losses: &'a mut Losses,
}

impl Contents<'_> {
    fn read(&mut self, contents: RawJson<'_>) -> Result<(), LlmError> {
        let mut turn = 0;
        one_or_many(contents, |content| {
            let parts = crate::fields::Object::read(content, &["parts"])?.get("parts");
            if let Some(parts) = parts.filter(|parts| is_list(parts) || is_object(parts))
                && let Some(list) = self.parts(parts, turn)?
            {
                let from = self.start + parts.get().as_ptr() as usize - self.text.as_ptr() as usize;
                self.edits.push((from..from + parts.get().len(), list));
            }
            turn += 1;
            Ok(())
        })
    }

    /// Returns the parts of a turn as Vertex AI takes them; `None` if it takes them as they are.
    fn parts(&mut self, parts: RawJson<'_>, turn: usize) -> Result<Option<String>, LlmError> {
        let (mut list, mut is_changed, mut place) = (String::from("["), false, 0);
        one_or_many(parts, |part| {
            let at = || format!("contents.{turn}.parts.{place}");
            let fitted = self.part(part, &at)?;
            place += 1;
            is_changed |= fitted.is_some();
            let text = fitted.as_deref().unwrap_or_else(|| part.get());
            if text != "{}" {
                list.push_str(if list.len() > 1 { "," } else { "" });
                list.push_str(text);
            }
            Ok(())
        })?;
        if list.len() == 1 {
            list.push_str(NOTHING);
        }
        list.push(']');
        Ok(is_changed.then_some(list))
    }

    /// Returns a part as Vertex AI takes it; `None` if it takes it as it is.
    fn part(&mut self, part: RawJson<'_>, place: &dyn Fn() -> String) -> Result<Option<String>, LlmError> {
        let (mut text, mut is_changed, mut is_gone) = (String::from("{"), false, false);
        fields(part, |name, value| {
            if let Some((camel, _, loss)) =
                PARTS.iter().chain(WHOLE_PARTS).find(|(camel, snake, _)| name == *camel || name == *snake)
            {
                self.losses.record(*loss, camel);
                is_gone |= *loss == PART;
                is_changed = true;
                return Ok(());
            }
            let mut changed = None;
            match name {
                "fileData" | "file_data" if memmem::find(value.get().as_bytes(), FILES.as_bytes()).is_some() => {
                    return Err(refused("uploaded_file", &place(), "the file is at Google's API for developers"));
                }
                "functionResponse" | "function_response" => changed = self.result(value, place)?,
                _ => {}
            }
            is_changed |= changed.is_some();
            put(&mut text, name, changed.as_deref().unwrap_or_else(|| value.get()));
            Ok(())
        })?;
        text.push('}');
        // A signature alone is no part.
        Ok(if is_gone { Some("{}".to_owned()) } else { is_changed.then_some(text) })
    }

    /// Returns a tool's result as Vertex AI takes it; `None` if it takes it as it is.
    fn result(&mut self, result: RawJson<'_>, place: &dyn Fn() -> String) -> Result<Option<String>, LlmError> {
        let (mut text, mut is_changed) = (String::from("{"), false);
        fields(result, |name, value| {
            if let Some((camel, _, loss)) = RESULTS.iter().find(|(camel, snake, _)| name == *camel || name == *snake) {
                self.losses.record(*loss, camel);
                is_changed = true;
                return Ok(());
            }
            if name != "parts" || !is_list(value) {
                put(&mut text, name, value.get());
                return Ok(());
            }
            let mut list = String::from("[");
            each(value, |part| {
                let changed = without(part, PARTS_OF_RESULTS, self.losses)?;
                fields(part, |name, value| match name {
                    "fileData" | "file_data" if memmem::find(value.get().as_bytes(), FILES.as_bytes()).is_some() => {
                        Err(refused("uploaded_file", &place(), "the file is at Google's API for developers"))
                    }
                    _ => Ok(()),
                })?;
                is_changed |= changed.is_some();
                list.push_str(if list.len() > 1 { "," } else { "" });
                list.push_str(changed.as_deref().unwrap_or_else(|| part.get()));
                Ok(())
            })?;
            list.push(']');
            put(&mut text, name, &list);
            Ok(())
        })?;
        text.push('}');
        Ok(is_changed.then_some(text))
    }
}
