//! The parts of a conversation with Claude that run at Anthropic, or lie there: tools, their calls and results, files.
//!
//! A cloud that does not run a tool gets the conversation without it, and the caller a note. A forced call of it, and a
//! file, are refused by name: without them the answer would be to another question, and the next tier may have them.
//! The table is [`filter`]'s. Converse, which is written anew, has the same rules in its own writer.
//!
//! A body is parsed only if one of its texts may name such a part. An escape within the name would hide it, but no one
//! writes it so.

use std::{collections::HashSet, ops::Range};

use bytes::Bytes;
use memchr::memmem;
use steadfast_dialects::anthropic::is_client_tool;

use super::{
    filter::{self, ClaudeDoor},
    losses::{Loss, Losses, refused},
    whole_mark,
};
use crate::{
    ErrorKind, LlmError,
    fields::{Object, each, is_list},
    protocol::{Rewrite, Rewritten},
    raw_json::RawJson,
    refit::Fields,
    wire,
};

/// The fields that are looked at, beside those that may occur once.
pub(super) const READ: &[&str] = &["tool_choice", "thread", "compaction"];

/// Returns the rewriting of a door's bodies; `None` if it takes them as they are.
pub(super) fn rewrite(door: ClaudeDoor) -> Option<Rewrite> {
    Some(match door {
        ClaudeDoor::Invoke => |body, object| at(ClaudeDoor::Invoke, body, object),
        ClaudeDoor::Mantle => |body, object| at(ClaudeDoor::Mantle, body, object),
        ClaudeDoor::Vertex => |body, object| at(ClaudeDoor::Vertex, body, object),
        ClaudeDoor::Foundry => return None,
    })
}

/// Returns true if a body is to be parsed for the parts that a door does not take.
pub(super) fn may_concern(body: &[u8], object: &wire::Object) -> bool {
    let has = |name, needles: &[&str]| field(body, object, name).is_some_and(|(_, text)| says(text, needles));
    has("tools", TOOLS) || has("messages", BLOCKS)
}

/// The texts of which one stands in each list with a tool, or a tool's setting, of Anthropic's own: their types end
/// with a date.
const TOOLS: &[&str] = &["_20", "\"mcp_toolset\"", "\"allowed_callers\""];
/// The same of a conversation with calls and results of such tools, or with files. No block of a caller's own tool has
/// the first one.
const BLOCKS: &[&str] = &["_tool_", "\"file_id\""];

pub(super) fn says(text: &[u8], needles: &[&str]) -> bool {
    needles.iter().any(|needle| memmem::find(text, needle.as_bytes()).is_some())
}

/// Returns the place of a field's value, and its bytes.
pub(super) fn field<'a>(body: &'a [u8], object: &wire::Object, name: &str) -> Option<(Range<usize>, &'a [u8])> {
    let place = object.field(name)?.value.clone();
    let text = &body[place.clone()];
    (text != b"null").then_some((place, text))
}

pub(super) fn parsed<'a>(name: &str, text: &'a [u8]) -> Result<RawJson<'a>, LlmError> {
    serde_json::from_slice(text)
        .map_err(|error| LlmError::new(ErrorKind::InvalidRequest, format!("`{name}` is no JSON")).with_source(error))
}

fn at(door: ClaudeDoor, body: &Bytes, object: &wire::Object) -> Result<Rewritten, LlmError> {
    for (name, rule, why) in filter::needed_fields(door) {
        // A thread that begins has its whole conversation in the request.
        let is_needed = |text: &[u8]| name != "thread" || says(text, &["\"previous_message_id\""]);
        if field(body, object, name).is_some_and(|(_, text)| is_needed(text)) {
            return Err(refused(rule, name, why));
        }
    }
    let mut parts = Parts { door, losses: Losses::default(), rewritten: Rewritten::default() };
    if let Some((place, text)) = field(body, object, "tools").filter(|(_, text)| says(text, TOOLS)) {
        let choice = field(body, object, "tool_choice").map(|(_, text)| parsed("tool_choice", text)).transpose()?;
        parts.tools(place, parsed("tools", text)?, choice)?;
    }
    if let Some((place, text)) = field(body, object, "messages").filter(|(_, text)| says(text, BLOCKS)) {
        parts.messages(place.start, text, parsed("messages", text)?)?;
    }
    let Parts { losses, mut rewritten, .. } = parts;
    rewritten.notes = losses.into_texts();
    whole_mark::place(body, object, &mut rewritten);
    Ok(rewritten)
}

const TOOL: Loss = Loss("server_tool", "left out: the door does not run it");
const SETTING: Loss = Loss("tool_setting", "left out: the door runs no code that could call the tool");
const PART: Loss = Loss("own_part", "left out: the door does not know it");
const CITATIONS: Loss = Loss("citations", "left out: the door does not know their source");
const PREFILL: Loss = Loss("prefill", "sent before a user's text `(go on)`: the door continues no such turn");
const FILE: &str = "the file is at another provider";

/// The replacement for a turn of which nothing is left.
const NOTHING: &str = r#"{"type":"text","text":"(no answer)"}"#;
/// The turn behind one that the door cannot continue.
const GO_ON: &str = r#",{"role":"user","content":"(go on)"}"#;

struct Parts {
    door: ClaudeDoor,
    losses: Losses,
    rewritten: Rewritten,
}

/// The fate of a block.
enum Fate {
    Kept,
    Dropped,
    /// Written anew.
    Changed(String),
}

impl Parts {
    fn tools(&mut self, place: Range<usize>, tools: RawJson<'_>, choice: Option<RawJson<'_>>) -> Result<(), LlmError> {
        let (mut list, mut is_changed) = (String::from("["), false);
        let (mut kept, mut first_gone) = (HashSet::new(), None);
        each(tools, |tool| {
            let known = Object::read(tool, &["type", "name", "input_schema", "allowed_callers"])?;
            let kind = known.word("type").filter(|kind| kind != "custom" && known.get("input_schema").is_none());
            if let Some(kind) = kind
                && !is_client_tool(&kind)
                && !filter::runs(self.door, &kind)
            {
                self.losses.record(TOOL, &kind);
                first_gone.get_or_insert(kind);
                return Ok(());
            }
            kept.extend(known.word("name"));
            list.push_str(if list.len() > 1 { "," } else { "" });
            match known.get("allowed_callers") {
                Some(_) => {
                    self.losses.record(SETTING, "allowed_callers");
                    is_changed = true;
                    list.push_str(&without(tool, "allowed_callers")?);
                }
                None => list.push_str(tool.get()),
            }
            Ok(())
        })?;
        if first_gone.is_none() && !is_changed {
            return Ok(());
        }
        list.push(']');
        let is_empty = list.len() == 2;
        if let (Some(gone), Some(choice)) = (first_gone, choice) {
            let choice = Object::read(choice, &["type", "name"])?;
            let name = choice.word("name");
            let forced = match choice.word("type").as_deref() {
                Some("tool") => name.filter(|name| !kept.contains(name)),
                Some("any") if is_empty => Some(gone),
                _ => None,
            };
            if let Some(forced) = forced {
                let why = "the door does not run the tool that the model must call";
                return Err(refused("forced_server_tool", &forced, why));
            }
            // There is no choice among no tools.
            if is_empty {
                self.rewritten.removed.push("tool_choice");
            }
        }
        self.rewritten.edits.push((place, list));
        Ok(())
    }

    /// Rewrites the turns. `start` is the place of the list in the body, and `text` the list.
    fn messages(&mut self, start: usize, text: &[u8], messages: RawJson<'_>) -> Result<(), LlmError> {
        let mut message = 0;
        // True if the last turn is the model's, and was changed.
        let mut is_cut = false;
        each(messages, |turn| {
            let turn = Object::read(turn, &["role", "content"])?;
            is_cut = false;
            if let Some(content) = turn.get("content").filter(|content| is_list(content))
                && let Some(list) = self.content(content, message)?
            {
                let from = start + content.get().as_ptr() as usize - text.as_ptr() as usize;
                self.rewritten.edits.push((from..from + content.get().len(), list));
                is_cut = turn.word("role").as_deref() == Some("assistant");
            }
            message += 1;
            Ok(())
        })?;
        if is_cut {
            self.losses.record(PREFILL, "messages");
            let end = start + text.len() - 1;
            self.rewritten.edits.push((end..end, GO_ON.to_owned()));
        }
        Ok(())
    }

    /// Returns the blocks of a turn as the door takes them; `None` if it takes them as they are.
    fn content(&mut self, content: RawJson<'_>, message: usize) -> Result<Option<String>, LlmError> {
        let (mut place, mut fates) = (0, Vec::new());
        each(content, |block| {
            match self.block(block, || format!("messages.{message}.content.{place}"))? {
                Fate::Kept => {}
                fate => fates.push((place, fate)),
            }
            place += 1;
            Ok(())
        })?;
        if fates.is_empty() {
            return Ok(None);
        }
        let (mut list, mut fates) = (String::from("["), fates.into_iter().peekable());
        place = 0;
        each(content, |block| {
            let fate = fates.next_if(|(at, _)| *at == place).map_or(Fate::Kept, |(_, fate)| fate);
            place += 1;
            let text = match &fate {
                Fate::Kept => block.get(),
                Fate::Dropped => return Ok(()),
                Fate::Changed(text) => text,
            };
            list.push_str(if list.len() > 1 { "," } else { "" });
            list.push_str(text);
            Ok(())
        })?;
        if list.len() == 1 {
            list.push_str(NOTHING);
        }
        list.push(']');
        Ok(Some(list))
    }

    fn block(&mut self, raw: RawJson<'_>, place: impl Fn() -> String) -> Result<Fate, LlmError> {
        let block = Object::read(raw, &["type", "name", "content", "source", "caller", "citations"])?;
        let kind = block.word("type").unwrap_or_default();
        let takes = match &*kind {
            "container_upload" => return Err(refused("uploaded_file", &place(), FILE)),
            "image" | "document" if has_file(&block)? => return Err(refused("uploaded_file", &place(), FILE)),
            "tool_result" => {
                let Some(content) = block.get("content") else { return Ok(Fate::Kept) };
                let mut inner = 0;
                each(content, |part| {
                    if has_file(&Object::read(part, &["source"])?)? {
                        return Err(refused("uploaded_file", &format!("{}.content.{inner}", place()), FILE));
                    }
                    inner += 1;
                    Ok(())
                })?;
                true
            }
            "tool_use" if is_called_by_code(&block)? => {
                self.losses.record(SETTING, "caller");
                return Ok(Fate::Changed(without(raw, "caller")?));
            }
            "text" if !filter::takes_result(self.door, "web_search_tool_result") && cites_the_web(&block) => {
                self.losses.record(CITATIONS, "web_search_result_location");
                return Ok(Fate::Changed(without(raw, "citations")?));
            }
            "server_tool_use" => {
                let name = block.word("name").unwrap_or_default();
                filter::takes_call(self.door, &name) && !is_called_by_code(&block)?
            }
            "fallback" => false,
            kind if kind.starts_with("mcp_tool_") => false,
            kind if kind.ends_with("_tool_result") => {
                filter::takes_result(self.door, kind) && !is_called_by_code(&block)?
            }
            _ => true,
        };
        if takes {
            return Ok(Fate::Kept);
        }
        self.losses.record(PART, &kind);
        Ok(Fate::Dropped)
    }
}

/// Returns true if a picture or a document is a file of Anthropic's.
fn has_file(block: &Object<'_>) -> Result<bool, LlmError> {
    let Some(source) = block.object("source") else { return Ok(false) };
    let source = Object::read(source, &["type", "content"])?;
    let mut is_file = source.word("type").as_deref() == Some("file");
    // A document may consist of pictures.
    if let Some(content) = source.get("content") {
        each(content, |part| {
            let source = Object::read(part, &["source"])?.object("source");
            let source = source.map(|source| Object::read(source, &["type"])).transpose()?;
            is_file |= source.is_some_and(|source| source.word("type").as_deref() == Some("file"));
            Ok(())
        })?;
    }
    Ok(is_file)
}

/// Returns true if a program made a call, and not the model itself.
fn is_called_by_code(block: &Object<'_>) -> Result<bool, LlmError> {
    let Some(caller) = block.object("caller") else { return Ok(false) };
    Ok(Object::read(caller, &["type"])?.word("type").is_some_and(|kind| kind != "direct"))
}

fn cites_the_web(block: &Object<'_>) -> bool {
    let cites = |citations: RawJson<'_>| says(citations.get().as_bytes(), &["\"web_search_result_location\""]);
    block.get("citations").is_some_and(cites)
}

/// Returns an object without a field.
fn without(object: RawJson<'_>, gone: &str) -> Result<String, LlmError> {
    let mut fields = Fields::of(object)?;
    fields.remove(gone);
    Ok(fields.finish().unwrap_or_else(|| object.get().to_owned()))
}
