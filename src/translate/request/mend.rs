//! The few bytes that must change in a request of the provider's own dialect since another provider answered a turn before.
//!
//! Everything else is forwarded byte for byte. Bytes without a mark of ours are not even parsed.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::report::Report;
use crate::{
    Dialect, Wire,
    translate::{
        FOREIGN_CALL,
        foreign::{CALL, ENVELOPE},
        ids::{Target, fit_id, id_fits},
        rules::Feature,
    },
};

/// The body with what the provider would refuse taken out; `None` where nothing is.
///
/// # Errors
///
/// When the body is not what its dialect says.
pub(crate) fn mend(wire: &Wire, target: Target, report: &mut Report) -> Result<Option<Bytes>, serde_json::Error> {
    let (body, object) = (wire.body(), wire.object());
    let has = |needle: &str| memmem::find(body, needle.as_bytes()).is_some();
    // A call by another provider matters only where thinking is asked for.
    let has_call = || object.field("thinking").is_some() && has(CALL);
    let edits = match target.dialect {
        Dialect::Anthropic if object.is_marked || has_call() => anthropic(body, report)?,
        Dialect::Gemini if object.is_marked => gemini(body, report)?,
        Dialect::OpenAi if target.short_ids && has("tool_call") => openai(body, target)?,
        _ => return Ok(None),
    };
    Ok(apply(body, edits))
}

type Edits = Vec<(Range<usize>, String)>;

fn apply(body: &Bytes, mut edits: Edits) -> Option<Bytes> {
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(place, _)| place.start);
    let mut mended = Vec::with_capacity(body.len());
    let mut kept = 0;
    for (place, text) in &edits {
        mended.extend_from_slice(&body[kept..place.start]);
        mended.extend_from_slice(text.as_bytes());
        kept = place.end;
    }
    mended.extend_from_slice(&body[kept..]);
    Some(mended.into())
}

/// Where a value stands: it is a slice of the body, so that its address tells.
fn place(raw: &RawValue, body: &Bytes) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

/// A list without some of its items, else as it stands.
fn without(list: &[&RawValue], gone: impl Fn(&RawValue) -> bool, instead: &str) -> Option<String> {
    let kept: Vec<&str> = list.iter().filter(|item| !gone(item)).map(|item| item.get()).collect();
    if kept.len() == list.len() {
        return None;
    }
    Some(if kept.is_empty() { format!("[{instead}]") } else { format!("[{}]", kept.join(",")) })
}

#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    messages: Vec<Turn<'a>>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Turn<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow, default)]
    tool_call_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    budget_tokens: Option<u64>,
}

fn block(raw: &RawValue) -> Option<Block> {
    serde_json::from_str(raw.get()).ok()
}

/// Thoughts of other providers go; and where the newest tool turn has none of Anthropic's own, thinking is switched off: it
/// would be refused with `Expected thinking, but found tool_use`.
fn anthropic(body: &Bytes, report: &mut Report) -> Result<Edits, serde_json::Error> {
    let top: Messages<'_> = serde_json::from_slice(body)?;
    let mut edits = Vec::new();
    let foreign = |raw: &RawValue| {
        raw.get().contains(ENVELOPE)
            && block(raw).is_some_and(|block| {
                let token = block.signature.or(block.data).unwrap_or_default();
                matches!(block.kind.as_str(), "thinking" | "redacted_thinking") && token.starts_with(ENVELOPE)
            })
    };
    let mut thoughtless_call = false;
    for turn in &top.messages {
        let Some(content) = turn.content else { continue };
        let Ok(blocks) = serde_json::from_str::<Vec<&RawValue>>(content.get()) else { continue };
        if turn.role == "assistant" {
            let kinds: Vec<String> = blocks
                .iter()
                .filter(|raw| !foreign(raw))
                .filter_map(|raw| block(raw))
                .map(|block| block.kind)
                .collect();
            let thinks = kinds.first().is_some_and(|kind| kind.ends_with("thinking"));
            thoughtless_call = kinds.iter().any(|kind| kind == "tool_use") && !thinks;
            const NOTHING: &str = r#"{"type":"text","text":"(no answer)"}"#;
            if let Some(list) = without(&blocks, foreign, NOTHING) {
                report.say(Feature::Reasoning);
                edits.push((place(content, body), list));
            }
        } else {
            thoughtless_call &= blocks.iter().filter_map(|raw| block(raw)).any(|block| block.kind == "tool_result");
        }
    }
    let thinking = top.thinking.filter(|raw| {
        block(raw).is_some_and(|thinking| thinking.kind != "disabled" || thinking.budget_tokens.is_some())
    });
    if let Some(thinking) = thinking.filter(|_| thoughtless_call) {
        report.say(Feature::Thinking);
        edits.push((place(thinking, body), r#"{"type":"disabled"}"#.to_owned()));
    }
    Ok(edits)
}

#[derive(Deserialize)]
struct Contents<'a> {
    #[serde(borrow)]
    contents: Vec<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(default)]
    thought: Option<bool>,
    #[serde(borrow, default, rename = "thoughtSignature", alias = "thought_signature")]
    signature: Option<&'a RawValue>,
}

/// The part, if its signature is in an envelope.
fn foreign(raw: &RawValue) -> Option<Piece<'_>> {
    let piece: Piece<'_> = serde_json::from_str(raw.get()).ok()?;
    let token = piece.signature?.get().strip_prefix('"')?;
    token.starts_with(ENVELOPE).then_some(piece)
}

/// Thoughts of other providers go; their calls get the stand-in for a signature.
fn gemini(body: &Bytes, report: &mut Report) -> Result<Edits, serde_json::Error> {
    let top: Contents<'_> = serde_json::from_slice(body)?;
    let mut edits = Vec::new();
    for parts in top.contents.iter().filter_map(|content| content.parts) {
        let Ok(pieces) = serde_json::from_str::<Vec<&RawValue>>(parts.get()) else { continue };
        let thought = |raw: &RawValue| foreign(raw).is_some_and(|piece| piece.thought == Some(true));
        if let Some(list) = without(&pieces, thought, r#"{"text":"(no answer)"}"#) {
            report.say(Feature::Reasoning);
            edits.push((place(parts, body), list));
            continue;
        }
        for piece in pieces.iter().filter_map(|raw| foreign(raw)) {
            if let Some(signature) = piece.signature {
                edits.push((place(signature, body), format!("\"{FOREIGN_CALL}\"")));
            }
        }
    }
    Ok(edits)
}

/// Ids of calls that the server does not take, in the call and in its result.
fn openai(body: &Bytes, target: Target) -> Result<Edits, serde_json::Error> {
    let top: Messages<'_> = serde_json::from_slice(body)?;
    let calls = top.messages.iter().flat_map(|turn| turn.tool_calls.iter().flatten().filter_map(|call| call.id));
    let ids = calls.chain(top.messages.iter().filter_map(|turn| turn.tool_call_id));
    Ok(ids
        .filter_map(|raw| {
            let id: String = serde_json::from_str(raw.get()).ok()?;
            (!id_fits(&id, target)).then(|| (place(raw, body), format!("\"{}\"", fit_id(&id, target))))
        })
        .collect())
}
