//! Repairs a request of the provider's own dialect whose earlier turn another provider or account answered.
//!
//! Everything else is forwarded byte for byte. Bytes without a mark of ours are not even parsed.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

use super::{
    clearing::{CONTEXT, without_clearing},
    report::Report,
    responses, seals, thoughts,
};
use crate::{
    Dialect, ErrorKind, LlmError, Wire,
    chat::Json,
    fields::{Object, each, is_list, text, word},
    raw_json::RawJson,
    translate::{
        ids::{StandIns, Target, fit_id, id_fits},
        maker::TargetAccount,
        rules::Feature,
        seals::AccountSeals,
    },
    wire::foreign::{CALL, ENVELOPE, ENVELOPE_IN_BASE64, FOREIGN_CALL, is_envelope_of_gemini},
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
        Dialect::Gemini => {
            object.is_marked
                || has(ENVELOPE_IN_BASE64)
                || target.stand_ins != StandIns::None && (has("\"functionCall\"") || has("\"function_call\""))
        }
        Dialect::Responses => object.is_marked,
        Dialect::OpenAi => {
            object.is_marked
                || (target.short_ids && has("tool_call"))
                || (target.older_roles && has("\"developer\""))
                || seals.is_some_and(AccountSeals::shares_thoughts)
                    && (seals.is_some_and(AccountSeals::is_any) && thoughts::may_carry(body)
                        || target.stand_ins != StandIns::None && has("\"tool_calls\""))
        }
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
    let read = |body| -> Result<RawJson<'_>, LlmError> {
        serde_json::from_slice(body).map_err(|error| {
            LlmError::new(ErrorKind::InvalidRequest, "the body is not a request of its dialect").with_source(error)
        })
    };
    let body = wire.body();
    if target.dialect != Dialect::OpenAi {
        return Ok(apply(body, edits(read(body)?, body, target, report)?));
    }
    // Whole turns first, and then the ids in them.
    let mended = apply(body, thoughts::mend(read(body)?, body, target.stand_ins, report)?);
    let body = mended.as_ref().unwrap_or(body);
    Ok(apply(body, openai(read(body)?, body, target)?).or(mended))
}

fn edits(top: RawJson<'_>, body: &Bytes, target: Target, report: &mut Report) -> Result<Edits, LlmError> {
    match target.dialect {
        Dialect::Anthropic => anthropic(top, body, report),
        Dialect::Gemini => gemini(top, body, target.stand_ins, report),
        Dialect::Responses => responses::mend(top, body, report),
        Dialect::OpenAi => thoughts::none(top, body),
    }
}

/// Returns a body of Chat Completions with the stand-ins that it lacks; `None` if it has them all.
pub(crate) fn with_stand_ins(body: &[u8], stand_ins: StandIns) -> Option<Vec<u8>> {
    let body = Bytes::copy_from_slice(body);
    let edits = thoughts::all(serde_json::from_slice(&body).ok()?, &body, stand_ins).ok()?;
    apply(&body, edits).map(Into::into)
}

/// Returns a body without all the thoughts that a provider sealed; `None` if it has none. In Chat Completions all
/// thoughts count as such.
pub(crate) fn without_seals(body: &[u8], dialect: Dialect) -> Option<Vec<u8>> {
    let body = Bytes::copy_from_slice(body);
    let account = TargetAccount { seals: Some(AccountSeals::of_stranger().into()), ..TargetAccount::default() };
    let mut report = Report::new(dialect, None).with_account(account);
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
    // Some servers of this dialect sign nothing.
    let is_refused = || token.is_empty() && seals.is_some_and(AccountSeals::doubts);
    let is_anothers = || seals.is_some_and(|seals| seals.is_sealed_elsewhere(Dialect::Anthropic, &token));
    Ok(is_thought && (token.starts_with(ENVELOPE) || is_refused() || is_anothers()))
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
    let top = Object::read(top, &["messages", "thinking", CONTEXT])?;
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
            let context = top.object(CONTEXT);
            let left = context.and_then(|context| without_clearing(&Value::Object(Json::of(context).fields())));
            edits.extend(context.zip(left).map(|(context, left)| (place(context, body), left.to_string())));
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

/// Returns true if a part of Gemini's is a call.
fn is_call(part: RawJson<'_>) -> Result<bool, LlmError> {
    Ok(Object::read(part, &["functionCall", "function_call"])?.either(&["functionCall", "function_call"]).is_some())
}

/// Returns true if a part of Gemini's is a thought.
fn is_thought(part: RawJson<'_>) -> Result<bool, LlmError> {
    Ok(Object::read(part, &["thought"])?.flag("thought") == Some(true))
}

/// Returns the place for a signature in a call without one.
fn unsigned_call(part: RawJson<'_>, body: &Bytes) -> Result<Option<usize>, LlmError> {
    let names = &["thoughtSignature", "thought_signature"];
    let is_signed = Object::read(part, names)?.either(names).is_some();
    let at = place(part, body).start + 1;
    Ok((!is_signed).then_some(at))
}

/// Removes thoughts of other providers and accounts; their calls get the stand-in for a signature. So do those without
/// one, if the model requires it.
fn gemini(top: RawJson<'_>, body: &Bytes, stand_ins: StandIns, report: &mut Report) -> Result<Edits, LlmError> {
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
        let (mut is_anothers, mut has_thoughts) = (false, false);
        // Only the first of parallel calls has a signature.
        let mut unsigned = stand_ins != StandIns::None;
        each(parts, |raw| {
            if unsigned && is_call(raw)? {
                unsigned = false;
                if let Some(at) = unsigned_call(raw, body)? {
                    report.record(Feature::CallSignature);
                    calls.push((at..at, format!("\"thoughtSignature\":{stand_in},")));
                }
            }
            match foreign(raw)? {
                Some((_, true)) => drops = true,
                Some((signature, false)) => {
                    is_anothers = true;
                    calls.push((place(signature, body), stand_in.clone()));
                }
                None => has_thoughts |= is_thought(raw)?,
            }
            Ok(())
        })?;
        // The thought before another account's call is that account's, though only the call is signed.
        drops |= is_anothers && has_thoughts;
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
            let goes = foreign(raw)?.map_or(is_anothers && is_thought(raw)?, |(_, is_thought)| is_thought);
            if goes {
                return Ok(());
            }
            list.push_str(if list.len() > 1 { "," } else { "" });
            let part = place(raw, body);
            let mut kept = part.start;
            for (at, text) in calls.iter().filter(|(at, _)| part.start <= at.start && at.end <= part.end) {
                list.extend([&raw.get()[kept - part.start..at.start - part.start], text]);
                kept = at.end;
            }
            list.push_str(&raw.get()[kept - part.start..]);
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

/// Replaces ids of calls that the server does not take, in the call and in its result.
fn openai(top: RawJson<'_>, body: &Bytes, target: Target) -> Result<Edits, LlmError> {
    let mut edits = Vec::new();
    let is_strange = target.short_ids || target.older_roles;
    let Some(messages) = Object::read(top, &["messages"])?.get("messages").filter(|_| is_strange) else {
        return Ok(edits);
    };
    each(messages, |message| {
        let message = Object::read(message, &["role", "tool_calls", "tool_call_id"])?;
        if let Some(role) = message.get("role").filter(|_| target.older_roles)
            && word(role).as_deref() == Some("developer")
        {
            edits.push((place(role, body), "\"system\"".to_owned()));
        }
        if !target.short_ids {
            return Ok(());
        }
        let mut fit = |raw: RawJson<'_>| {
            if let Some(id) = text(raw)?.filter(|id| !id_fits(id, target)) {
                edits.push((place(raw, body), format!("\"{}\"", fit_id(&id, target))));
            }
            Ok(())
        };
        if let Some(calls) = message.get("tool_calls") {
            each(calls, |call| Object::read(call, &["id"])?.get("id").map_or(Ok(()), &mut fit))?;
        }
        message.get("tool_call_id").map_or(Ok(()), &mut fit)
    })?;
    Ok(edits)
}
