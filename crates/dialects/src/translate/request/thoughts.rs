//! Repairs the thoughts in a request of Chat Completions, whose dialect has no place of its own for them.
//!
//! Each server has its own fields for them. It wants its own back, and many a server refuses those of another.

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

use super::{
    mend::{Edits, place},
    report::Report,
};
use crate::{
    Dialect, LlmError,
    chat::Json,
    fields::{Object, count, each, fields, is_list, is_object, word},
    raw_json::RawJson,
    translate::{
        ids::StandIns,
        rules::Feature,
        seals::{AccountSeals, Thinker},
    },
    wire::{
        foreign::{ENVELOPE, FOREIGN_CALL, MARK},
        provider_data::RawObject,
        thoughts::{NO_THOUGHTS, OF_CALLS, OF_TURNS, is_thought, tokens, words},
    },
};

/// Returns true if a body may carry thoughts. Settings of reasoning are none.
pub(super) fn may_carry(body: &Bytes) -> bool {
    const REASONING: &[u8] = b"\"reasoning";
    const THINKING: &[u8] = b"\"thinking";
    let is_thought = |at: usize| matches!(body.get(at + REASONING.len()..), Some([b'"', ..] | [b'_', b'c' | b'd', ..]));
    let is_part = |at: usize| matches!(body.get(at + THINKING.len()..), Some([b'"', ..] | [b'_', b'b', ..]));
    memmem::find_iter(body, REASONING).any(is_thought)
        || memmem::find_iter(body, THINKING).any(is_part)
        || ["thought_signature", "\"thinking_blocks\""].iter().any(|name| memmem::find(body, name.as_bytes()).is_some())
}

/// Returns the fields of a server's stand-in for thoughts that a turn with calls lacks.
pub(crate) fn stand_in(kind: StandIns) -> Option<(&'static str, Json)> {
    Some(match kind {
        StandIns::None => return None,
        StandIns::Thoughts => ("reasoning_content", Value::from(NO_THOUGHTS).into()),
        StandIns::Signatures => {
            ("extra_content", serde_json::json!({"google": {"thought_signature": FOREIGN_CALL}}).into())
        }
    })
}

/// Removes the thoughts that another account gave, and writes the stand-ins that the target requires in their place.
pub(super) fn mend(
    top: RawJson<'_>,
    body: &Bytes,
    stand_ins: StandIns,
    report: &mut Report,
) -> Result<Edits, LlmError> {
    let seals = report.seals().cloned();
    let seals = seals.as_deref().filter(|seals| seals.shares_thoughts());
    // Alone, a server gets what its caller sends.
    let stand_ins = if seals.is_some() { stand_ins } else { StandIns::None };
    let mut mended = false;
    let edits = rewrite(top, body, stand_ins, |message| {
        report.check_stopped()?;
        let going = going(message, seals)?;
        mended |= going != Going::None;
        Ok(going)
    })?;
    if mended {
        report.record(Feature::Reasoning);
    }
    Ok(edits)
}

/// Returns the edits of a body without any thoughts.
pub(super) fn none(top: RawJson<'_>, body: &Bytes) -> Result<Edits, LlmError> {
    rewrite(top, body, StandIns::None, |_| Ok(Going::All))
}

/// Returns the edits of a body with stand-ins where they are missing.
pub(super) fn all(top: RawJson<'_>, body: &Bytes, stand_ins: StandIns) -> Result<Edits, LlmError> {
    rewrite(top, body, stand_ins, |_| Ok(Going::None))
}

fn rewrite(
    top: RawJson<'_>,
    body: &Bytes,
    stand_ins: StandIns,
    mut going: impl FnMut(RawJson<'_>) -> Result<Going, LlmError>,
) -> Result<Edits, LlmError> {
    let mut edits = Edits::new();
    let Some(messages) = Object::read(top, &["messages"])?.get("messages") else { return Ok(edits) };
    each(messages, |message| {
        if Object::read(message, &["role"])?.word("role").as_deref() == Some("assistant")
            && let Some(text) = rewritten(message, going(message)?, stand_ins)?
        {
            edits.push((place(message, body), text));
        }
        Ok(())
    })?;
    Ok(edits)
}

/// The thoughts of a turn that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    None,
    /// The ones with a mark of ours, and all that is in no list.
    Marked,
    All,
}

/// Returns which of a turn's thoughts are another account's.
fn going(message: RawJson<'_>, seals: Option<&AccountSeals>) -> Result<Going, LlmError> {
    let mut thoughts = Vec::new();
    let (mut calls, mut content) = (None, None);
    fields(message, |name, value| {
        if OF_TURNS.contains(&name) && is_thought(name, value.get()) {
            thoughts.push(value);
        }
        match name {
            "tool_calls" => calls = Some(value),
            "content" if is_list(value) => content = Some(value),
            _ => {}
        }
        Ok(())
    })?;
    // Mistral's place for them.
    let mut said = String::new();
    if let Some(content) = content {
        each(content, |part| {
            if is_thinking(part)? {
                words(&Json::of(part).value().unwrap_or_default(), &mut |text| said.push_str(text));
            }
            Ok(())
        })?;
    }
    if let Some(calls) = calls {
        each(calls, |call| {
            fields(call, |name, value| {
                if OF_CALLS.contains(&name) && is_thought(name, value.get()) {
                    thoughts.push(value);
                }
                Ok(())
            })?;
            Ok(())
        })?;
    }
    if thoughts.is_empty() && said.is_empty() {
        return Ok(Going::None);
    }
    // What a translation wrote has its mark: no server of this dialect made it.
    if thoughts.iter().any(|value| is_marked(*value)) {
        return Ok(Going::Marked);
    }
    let Some(seals) = seals else { return Ok(Going::None) };
    let texts = thoughts.iter().filter_map(|value| word(*value)).map(|text| seals.thinker(&text));
    let thinkers: Vec<Thinker> = texts.chain([seals.thinker(&said)]).collect();
    if thinkers.contains(&Thinker::Own) {
        return Ok(Going::None);
    }
    if thinkers.contains(&Thinker::Another) {
        return Ok(Going::All);
    }
    let mut sealed_elsewhere = false;
    for value in thoughts.iter().filter(|value| is_list(**value) || is_object(**value)) {
        let value = Json::of(*value).value().unwrap_or_default();
        tokens(&value, &mut |token| sealed_elsewhere |= seals.is_sealed_elsewhere(Dialect::Gemini, token));
    }
    Ok(if sealed_elsewhere { Going::All } else { Going::None })
}

/// Returns true if a part of a content is a thought.
fn is_thinking(part: RawJson<'_>) -> Result<bool, LlmError> {
    Ok(is_object(part) && Object::read(part, &["type"])?.word("type").as_deref() == Some("thinking"))
}

fn is_marked(value: RawJson<'_>) -> bool {
    let text = value.get().as_bytes();
    memmem::find(text, ENVELOPE.as_bytes()).is_some_and(|at| at > 0 && text[at - 1] == b'"')
        || memmem::find(text, format!("\"{MARK}\":").as_bytes()).is_some()
}

/// Returns the items of a list that have no mark of ours, if there are any.
fn unmarked(list: RawJson<'_>) -> Result<Option<Json>, LlmError> {
    let mut kept = String::from("[");
    each(list, |item| {
        if !is_marked(item) {
            kept.extend([if kept.len() > 1 { "," } else { "" }, item.get()]);
        }
        Ok(())
    })?;
    kept.push(']');
    Ok((kept.len() > 2).then(|| Json::parse(kept).ok()).flatten())
}

/// Returns a turn without its thoughts if they go, and with the stand-ins that it lacks; `None` if it stays.
fn rewritten(message: RawJson<'_>, going: Going, stand_ins: StandIns) -> Result<Option<String>, LlmError> {
    let (mut turn, mut changed, mut has_calls) = (RawObject::default(), false, false);
    // The text under the name that servers require, and under the other one.
    let (mut has_text, mut other) = (false, None);
    fields(message, |name, value| {
        let is_own = OF_TURNS.contains(&name);
        if is_own && going != Going::None {
            changed = true;
            let kept = if going == Going::Marked && is_list(value) { unmarked(value)? } else { None };
            return kept.map_or(Ok(()), |kept| turn.add(name, kept.raw()));
        }
        match name {
            // The stand-in comes in the place of an empty one.
            "reasoning_content" if !is_thought(name, value.get()) && stand_ins == StandIns::Thoughts => return Ok(()),
            "reasoning_content" => has_text = true,
            "reasoning" if is_thought(name, value.get()) => other = Some(value),
            _ => {}
        }
        if name == "content" && going != Going::None && is_list(value) {
            let (mut kept, before) = (String::from("["), count(value));
            let mut left = 0;
            each(value, |part| {
                if !is_thinking(part)? {
                    kept.extend([if left > 0 { "," } else { "" }, part.get()]);
                    left += 1;
                }
                Ok(())
            })?;
            kept.push(']');
            if left < before {
                changed = true;
                // An empty list is no content.
                let kept = if left == 0 { "\"\"".to_owned() } else { kept };
                return turn.add(name, Json::parse(kept).unwrap_or_else(|_| Json::null()).raw());
            }
        }
        if name == "tool_calls" && is_list(value) && count(value) > 0 {
            has_calls = true;
            if let Some(calls) = rewritten_calls(value, going, stand_ins)? {
                changed = true;
                return turn.add(name, calls.raw());
            }
        }
        turn.add(name, value)
    })?;
    if stand_ins == StandIns::Thoughts
        && has_calls
        && !has_text
        && let Some((name, value)) = stand_in(stand_ins)
    {
        changed = true;
        turn.add(name, other.unwrap_or_else(|| value.raw()))?;
    }
    Ok(if changed { turn.finish()?.map(|turn| turn.as_str().to_owned()) } else { None })
}

/// Returns the calls of a turn in the same way.
fn rewritten_calls(calls: RawJson<'_>, going: Going, stand_ins: StandIns) -> Result<Option<Json>, LlmError> {
    let (mut list, mut changed, mut first) = (String::from("["), false, true);
    each(calls, |call| {
        let (mut made, mut signed) = (RawObject::default(), false);
        let mut any = false;
        fields(call, |name, value| {
            if OF_CALLS.contains(&name) {
                if going != Going::None {
                    any = true;
                    return Ok(());
                }
                signed |= is_thought(name, value.get());
            }
            made.add(name, value)
        })?;
        // Only the first of parallel calls has a signature.
        if stand_ins == StandIns::Signatures
            && std::mem::take(&mut first)
            && !signed
            && let Some((name, value)) = stand_in(stand_ins)
        {
            any = true;
            made.add(name, value.raw())?;
        }
        list.push_str(if list.len() > 1 { "," } else { "" });
        match made.finish()?.filter(|_| any) {
            Some(made) => list.push_str(made.as_str()),
            None => list.push_str(call.get()),
        }
        changed |= any;
        Ok(())
    })?;
    list.push(']');
    Ok(changed.then(|| Json::parse(list).ok()).flatten())
}
