//! Repairs a request of the provider's own dialect whose earlier turn another provider or account answered.
//!
//! Everything else is forwarded byte for byte. Bytes without a mark of ours are not even parsed.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use super::{report::Report, responses, seals};
use crate::{
    Dialect, ErrorKind, LlmError, Wire,
    fields::{Object, each, is_list, text, word},
    raw_json::RawJson,
    translate::{
        ids::{Target, fit_id, id_fits},
        rules::Feature,
        seals::AccountSeals,
    },
    wire::foreign::{CALL, ENVELOPE, ENVELOPE_IN_BASE64, FOREIGN_CALL, SEALED_BY_RESPONSES, is_envelope_of_gemini},
};

/// Returns true if the body must be parsed for repairs, which is rare.
pub(crate) fn may_need_mending(wire: &Wire, target: Target, seals: Option<&AccountSeals>) -> bool {
    let (body, object) = (wire.body(), wire.object());
    if seals.is_some_and(AccountSeals::is_any) && seals::may_carry(body, target.dialect) {
        return true;
    }
    let has = |needle: &str| memmem::find(body, needle.as_bytes()).is_some();
    match target.dialect {
        // Another provider's call matters only if the request asks for thinking.
        Dialect::Anthropic => object.is_marked || (object.field("thinking").is_some() && has(CALL)),
        Dialect::Gemini => object.is_marked || has(ENVELOPE_IN_BASE64),
        Dialect::Responses => object.is_marked,
        Dialect::OpenAi => object.is_marked || (target.short_ids && has("tool_call")),
    }
}

/// Returns the body without the parts that the provider would refuse; `None` if there are none.
///
/// # Errors
///
/// The body is not of its dialect.
pub(crate) fn mend(wire: &Wire, target: Target, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
    if !may_need_mending(wire, target, report.seals().map(AsRef::as_ref)) {
        return Ok(None);
    }
    let body = wire.body();
    let top: RawJson<'_> = serde_json::from_slice(body).map_err(|error| {
        LlmError::new(ErrorKind::InvalidRequest, "the body is not a request of its dialect").with_source(error)
    })?;
    Ok(apply(body, edits(top, body, target, report)?))
}

fn edits(top: RawJson<'_>, body: &Bytes, target: Target, report: &mut Report) -> Result<Edits, LlmError> {
    match target.dialect {
        Dialect::Anthropic => anthropic(top, body, report),
        Dialect::Gemini => gemini(top, body, report),
        Dialect::Responses => responses::mend(top, body, report),
        Dialect::OpenAi => openai(top, body, target, report),
    }
}

/// Returns a body without all the thoughts that a provider sealed; `None` if it has none.
pub(crate) fn without_seals(body: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
    let body = Bytes::copy_from_slice(body);
    let mut report = Report::new(dialect, None).with_seals(Some(AccountSeals::of_stranger().into()));
    let edits = edits(serde_json::from_slice(&body).ok()?, &body, Target::new(dialect), &mut report).ok()?;
    apply(&body, edits).map(Into::into)
}

pub(super) type Edits = Vec<(Range<usize>, String)>;

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

/// Returns the range of a value, which is a slice of the body, by its address.
pub(super) fn place(raw: RawJson<'_>, body: &Bytes) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

/// Returns a list without some of its items; `None` if none of them goes.
fn without(
    list: RawJson<'_>,
    goes: impl Fn(RawJson<'_>) -> Result<bool, LlmError>,
    instead: &str,
) -> Result<Option<String>, LlmError> {
    let mut any = false;
    each(list, |item| {
        any = any || goes(item)?;
        Ok(())
    })?;
    if !any {
        return Ok(None);
    }
    let mut kept = String::from("[");
    each(list, |item| {
        if !goes(item)? {
            kept.push_str(if kept.len() > 1 { "," } else { "" });
            kept.push_str(item.get());
        }
        Ok(())
    })?;
    if kept.len() == 1 {
        kept.push_str(instead);
    }
    kept.push(']');
    Ok(Some(kept))
}

/// Returns true if a thought is another provider's, or another account's.
fn is_foreign_thought(raw: RawJson<'_>, seals: Option<&AccountSeals>) -> Result<bool, LlmError> {
    if seals.is_none() && memmem::find(raw.get().as_bytes(), ENVELOPE.as_bytes()).is_none() {
        return Ok(false);
    }
    let block = Object::read(raw, &["type", "signature", "data"])?;
    let token = block.word("signature").or_else(|| block.word("data")).unwrap_or_default();
    let is_thought = matches!(block.word("type").as_deref(), Some("thinking" | "redacted_thinking"));
    let is_anothers = || seals.is_some_and(|seals| seals.is_sealed_elsewhere(Dialect::Anthropic, &token));
    Ok(is_thought && (token.starts_with(ENVELOPE) || is_anothers()))
}

/// Returns the turns of an Anthropic conversation without any thoughts. The provider's own are another model's, so they
/// go too.
///
/// # Errors
///
/// The messages are not of the dialect.
pub(crate) fn without_thoughts(messages: RawJson<'_>) -> Result<Option<String>, LlmError> {
    let is_thought = |raw: RawJson<'_>| {
        let kind = Object::read(raw, &["type"])?.word("type");
        Ok(matches!(kind.as_deref(), Some("thinking" | "redacted_thinking")))
    };
    let mut any = false;
    let mut kept = String::from("[");
    each(messages, |turn| {
        kept.push_str(if kept.len() > 1 { "," } else { "" });
        let content = Object::read(turn, &["content"])?.get("content").filter(|content| is_list(content));
        match content.map(|content| without(content, is_thought, NOTHING)).transpose()?.flatten() {
            Some(list) => {
                any = true;
                let text = turn.get();
                let content = content.map_or("", RawJson::get);
                let at = content.as_ptr() as usize - text.as_ptr() as usize;
                kept.extend([&text[..at], list.as_str(), &text[at + content.len()..]]);
            }
            None => kept.push_str(turn.get()),
        }
        Ok(())
    })?;
    kept.push(']');
    Ok(any.then_some(kept))
}

/// The replacement for a turn of thoughts alone.
const NOTHING: &str = r#"{"type":"text","text":"(no answer)"}"#;

/// Removes thoughts of other providers and accounts. If the newest tool turn has none of Anthropic's own, thinking is
/// switched off: the API would refuse it with `Expected thinking, but found tool_use`.
fn anthropic(top: RawJson<'_>, body: &Bytes, report: &mut Report) -> Result<Edits, LlmError> {
    let top = Object::read(top, &["messages", "thinking"])?;
    let seals = report.seals().cloned();
    let is_foreign = |block: RawJson<'_>| is_foreign_thought(block, seals.as_deref());
    let mut edits = Vec::new();
    let mut thoughtless_call = false;
    let messages = top.get("messages").map(|messages| {
        each(messages, |turn| {
            report.check_stopped()?;
            let turn = Object::read(turn, &["role", "content"])?;
            let Some(content) = turn.get("content").filter(|content| is_list(content)) else { return Ok(()) };
            let is_models = turn.word("role").as_deref() == Some("assistant");
            let (mut first, mut calls, mut answers) = (None, false, false);
            each(content, |block| {
                if !is_models || !is_foreign(block)? {
                    let kind = Object::read(block, &["type"])?.word("type").unwrap_or_default();
                    calls |= kind == "tool_use";
                    answers |= kind == "tool_result";
                    first.get_or_insert_with(|| kind.ends_with("thinking"));
                }
                Ok(())
            })?;
            if !is_models {
                thoughtless_call &= answers;
                return Ok(());
            }
            thoughtless_call = calls && first != Some(true);
            if let Some(list) = without(content, is_foreign, NOTHING)? {
                report.record(Feature::Reasoning);
                edits.push((place(content, body), list));
            }
            Ok(())
        })
    });
    messages.transpose()?;
    if let Some(raw) = top.object("thinking").filter(|_| thoughtless_call) {
        let thinking = Object::read(raw, &["type", "budget_tokens"])?;
        // Adaptive thinking is accepted without one.
        if thinking.word("type").as_deref() == Some("enabled") || thinking.number("budget_tokens")?.is_some() {
            report.record(Feature::Thinking);
            edits.push((place(raw, body), r#"{"type":"disabled"}"#.to_owned()));
        }
    }
    Ok(edits)
}

/// Returns a part's signature, unparsed, if it is in an envelope or another account's, and whether the part is a
/// thought.
fn foreign_signature<'a>(
    raw: RawJson<'a>,
    seals: Option<&AccountSeals>,
) -> Result<Option<(RawJson<'a>, bool)>, LlmError> {
    let piece = Object::read(raw, &["thought", "thoughtSignature", "thought_signature"])?;
    let signature = piece.get("thoughtSignature").or_else(|| piece.get("thought_signature"));
    let is_anothers = |raw: RawJson<'_>| {
        let token = seals.and_then(|_| word(raw)).filter(|token| token != FOREIGN_CALL);
        token.is_some_and(|token| seals.is_some_and(|seals| seals.is_sealed_elsewhere(Dialect::Gemini, &token)))
    };
    let is_in_envelope = |raw: RawJson<'_>| raw.get().strip_prefix('"').is_some_and(is_envelope_of_gemini);
    let foreign = signature.filter(|raw| is_in_envelope(*raw) || is_anothers(*raw));
    Ok(foreign.map(|raw| (raw, piece.flag("thought") == Some(true))))
}

/// Removes thoughts of other providers and accounts; their calls get the stand-in for a signature.
fn gemini(top: RawJson<'_>, body: &Bytes, report: &mut Report) -> Result<Edits, LlmError> {
    const NOTHING: &str = r#"{"text":"(no answer)"}"#;
    let mut edits = Vec::new();
    let Some(contents) = Object::read(top, &["contents"])?.get("contents") else { return Ok(edits) };
    let seals = report.seals().cloned();
    let stand_in = format!("\"{FOREIGN_CALL}\"");
    let foreign = |raw| foreign_signature(raw, seals.as_deref());
    each(contents, |content| {
        report.check_stopped()?;
        let Some(parts) = Object::read(content, &["parts"])?.get("parts") else { return Ok(()) };
        let (mut calls, mut drops) = (Edits::new(), false);
        each(parts, |raw| {
            match foreign(raw)? {
                Some((_, true)) => drops = true,
                Some((signature, false)) => calls.push((place(signature, body), stand_in.clone())),
                None => {}
            }
            Ok(())
        })?;
        if seals.is_some() && !calls.is_empty() {
            report.record(Feature::CallSignature);
        }
        if !drops {
            edits.append(&mut calls);
            return Ok(());
        }
        report.record(Feature::Reasoning);
        let mut list = String::from("[");
        each(parts, |raw| {
            let signature = match foreign(raw)? {
                Some((_, true)) => return Ok(()),
                other => other.map(|(signature, _)| place(signature, body)),
            };
            list.push_str(if list.len() > 1 { "," } else { "" });
            let part = place(raw, body);
            match signature {
                Some(signature) => list.extend([
                    &raw.get()[..signature.start - part.start],
                    &stand_in,
                    &raw.get()[signature.end - part.start..],
                ]),
                None => list.push_str(raw.get()),
            }
            Ok(())
        })?;
        if list.len() == 1 {
            list.push_str(NOTHING);
        }
        list.push(']');
        edits.push((place(parts, body), list));
        Ok(())
    })?;
    Ok(edits)
}

/// Returns true if a detail of reasoning was sealed by OpenAI's Responses.
fn is_sealed_elsewhere(detail: RawJson<'_>) -> Result<bool, LlmError> {
    Ok(Object::read(detail, &["format"])?.word("format").as_deref() == Some(SEALED_BY_RESPONSES))
}

/// Removes thoughts that only Responses can read. Replaces ids of calls that the server does not take, in the call and
/// in its result.
fn openai(top: RawJson<'_>, body: &Bytes, target: Target, report: &mut Report) -> Result<Edits, LlmError> {
    let (mut edits, mut removed) = (Vec::new(), Vec::new());
    let Some(messages) = Object::read(top, &["messages"])?.get("messages") else { return Ok(edits) };
    let mut fit = |raw: RawJson<'_>| {
        if let Some(id) = text(raw)?.filter(|id| target.short_ids && !id_fits(id, target)) {
            edits.push((place(raw, body), format!("\"{}\"", fit_id(&id, target))));
        }
        Ok(())
    };
    each(messages, |message| {
        let message = Object::read(message, &["tool_calls", "tool_call_id", "reasoning_details"])?;
        if let Some(details) = message.get("reasoning_details")
            && let Some(list) = without(details, is_sealed_elsewhere, "")?
        {
            report.record(Feature::Reasoning);
            removed.push((place(details, body), list));
        }
        if let Some(calls) = message.get("tool_calls") {
            each(calls, |call| Object::read(call, &["id"])?.get("id").map_or(Ok(()), &mut fit))?;
        }
        message.get("tool_call_id").map_or(Ok(()), &mut fit)
    })?;
    edits.append(&mut removed);
    Ok(edits)
}
