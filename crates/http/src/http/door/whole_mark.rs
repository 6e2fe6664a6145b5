//! The mark for a cache of the whole request, at doors that find no place for it by themselves.
//!
//! Anthropic's "Prompt caching" (November 2026): a `cache_control` at the top of a request stands for one at its last
//! block that can be cached; with a mark of the same duration there it changes nothing, and beside four others it is an
//! error. Bedrock and Vertex AI take marks at blocks alone, which mean the same. Blocks of thoughts and empty texts
//! bear none.
//!
//! The last block is looked for without parsing the others.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use memchr::memmem;

use super::hosted::field;
use crate::{
    fields::{Object, text},
    protocol::Rewritten,
    raw_json::RawJson,
    skip, wire,
};

/// The field of the mark.
pub(super) const MARK: &str = "cache_control";
/// The marks that a request may have.
const MOST: usize = 4;

const FULL: &str = "door: `cache_control` was left out: the request has four other marks, and the door takes no more";
const NOWHERE: &str = "door: `cache_control` was left out: no block of the request can bear it";
const OTHER: &str = "door: `cache_control` was left out: the last block has another mark";

/// Puts the mark of the whole request at its last block that can bear one. `rewritten` may have contents already.
pub(super) fn place(body: &Bytes, object: &wire::Object, rewritten: &mut Rewritten) {
    let Some((_, mark)) = field(body, object, MARK) else { return };
    let mark = str::from_utf8(mark).unwrap_or_default();
    let is_full = marks(body, object) >= MOST;
    let note = match last_content(body, object, &rewritten.edits) {
        None => NOWHERE,
        Some((_, _, Bearer::Marked(own))) if is_same(&own, mark) => return,
        Some((_, _, Bearer::Marked(_))) => OTHER,
        Some(_) if is_full => FULL,
        Some((place, text, bearer)) => {
            let marked = match bearer {
                Bearer::Block(open) => format!("{}\"{MARK}\":{mark},{}", &text[..open], &text[open..]),
                _ => format!(r#"[{{"type":"text","text":{text},"{MARK}":{mark}}}]"#),
            };
            match rewritten.edits.iter_mut().find(|(edited, _)| *edited == place) {
                Some((_, text)) => *text = marked,
                None => rewritten.edits.push((place, marked)),
            }
            return;
        }
    };
    rewritten.notes.push(note.into());
}

/// The bearer of a mark in a content.
enum Bearer {
    /// The content itself, which is a text.
    Text,
    /// A block, by the position behind its opening brace.
    Block(usize),
    /// A block with this mark of its own.
    Marked(String),
}

/// Returns the last content that can bear a mark: its place in the body, its JSON, and the bearer in it.
fn last_content(
    body: &Bytes,
    object: &wire::Object,
    edits: &[(Range<usize>, String)],
) -> Option<(Range<usize>, String, Bearer)> {
    let (list, turns) = field(body, object, "messages")?;
    let edits: HashMap<&Range<usize>, &str> = edits.iter().map(|(place, text)| (place, text.as_str())).collect();
    objects(turns).into_iter().rev().find_map(|turn| {
        let fields = wire::Object::read(&turns[turn.clone()], &["content"]).ok()?;
        let content = fields.field("content")?.value.clone();
        let start = list.start + turn.start;
        let place = start + content.start..start + content.end;
        let text = edits.get(&place).copied().or_else(|| str::from_utf8(&body[place.clone()]).ok())?;
        let bearer = match text.as_bytes().first() {
            Some(b'"') if is_said(text.as_bytes()) => Bearer::Text,
            Some(b'[') => {
                let blocks = objects(text.as_bytes()).into_iter().rev();
                blocks.into_iter().find_map(|block| bearer(&text.as_bytes()[block.clone()], block.start))?
            }
            _ => return None,
        };
        Some((place, text.to_owned(), bearer))
    })
}

/// Returns a block as a bearer, if it can be one. It begins at `start` in the content.
fn bearer(block: &[u8], start: usize) -> Option<Bearer> {
    let fields = wire::Object::read(block, &["type", "text", MARK]).ok()?;
    let value = |name| fields.field(name).map(|field| &block[field.value.clone()]);
    match value("type")? {
        b"\"text\"" if !value("text").is_some_and(is_said) => return None,
        b"\"thinking\"" | b"\"redacted_thinking\"" => return None,
        _ => {}
    }
    match value(MARK).filter(|mark| *mark != b"null") {
        Some(mark) => Some(Bearer::Marked(str::from_utf8(mark).ok()?.to_owned())),
        None if value(MARK).is_some() => None,
        None => Some(Bearer::Block(start + fields.open)),
    }
}

/// Returns true if a JSON text has more than white space.
fn is_said(json: &[u8]) -> bool {
    let words = serde_json::from_slice::<RawJson<'_>>(json).ok().and_then(|raw| text(raw).ok().flatten());
    words.is_some_and(|words| !words.trim().is_empty())
}

/// Returns the places of the objects in a list.
fn objects(list: &[u8]) -> Vec<Range<usize>> {
    let is_between = |byte: &u8| matches!(byte, b'[' | b',' | b' ' | b'\t' | b'\n' | b'\r');
    let (mut at, mut objects) = (0, Vec::new());
    loop {
        at += list[at..].iter().take_while(|byte| is_between(byte)).count();
        if list.get(at) != Some(&b'{') {
            return objects;
        }
        let Some(skipped) = skip::nested(list, at) else { return objects };
        objects.push(at..skipped.end);
        at = skipped.end;
    }
}

/// Counts the marks in a prompt. A text that quotes one has a backslash before its last quote.
fn marks(body: &[u8], object: &wire::Object) -> usize {
    let name = format!("\"{MARK}\"");
    let of = |part| field(body, object, part).map_or(0, |(_, text)| memmem::find_iter(text, name.as_bytes()).count());
    ["tools", "system", "messages"].into_iter().map(of).sum()
}

/// Returns true if two marks are of one kind and duration.
fn is_same(one: &str, other: &str) -> bool {
    let read = |mark: &str| {
        let fields = Object::read(serde_json::from_str::<RawJson<'_>>(mark).ok()?, &["type", "ttl"]).ok()?;
        let ttl = fields.word("ttl").map_or_else(|| "5m".to_owned(), |ttl| ttl.into_owned());
        Some((fields.word("type")?.into_owned(), ttl))
    };
    read(one).is_some_and(|one| Some(one) == read(other))
}
