//! Leaves out the thoughts that another account sealed.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;

use super::report::Report;
use crate::{
    Dialect,
    chat::{Chat, ExtraOf, Opaque, Part, Reasoning},
    translate::{maker::is_unsigned, rules::Feature},
};

/// Returns true if a body of this dialect may carry sealed thoughts.
pub(super) fn may_carry(body: &Bytes, dialect: Dialect) -> bool {
    let names: &[&str] = match dialect {
        Dialect::Anthropic => &["\"signature\"", "\"redacted_thinking\""],
        Dialect::Gemini => &["\"thoughtSignature\"", "\"thought_signature\""],
        Dialect::Responses => &["\"encrypted_content\""],
        Dialect::OpenAi => &[],
    };
    names.iter().any(|name| memmem::find(body, name.as_bytes()).is_some())
}

/// Takes the account's mark off its own thoughts that its server has not signed, and removes those of other accounts.
pub(super) fn fit_unsigned(chat: &mut Cow<'_, Chat>, dialect: Dialect, report: &mut Report) {
    let is = |part: &Part| match part {
        Part::Reasoning(reasoning) => reasoning.opaque.as_ref().is_some_and(is_unsigned),
        _ => false,
    };
    if dialect != Dialect::Anthropic || !chat.messages.iter().flat_map(|message| &message.content).any(is) {
        return;
    }
    let maker = report.maker();
    let mut is_any_gone = false;
    for message in &mut chat.to_mut().messages {
        message.content.retain_mut(|part| match part {
            Part::Reasoning(Reasoning { opaque: Some(opaque), .. }) if is_unsigned(opaque) => {
                let is_own = maker.is_own_unsigned(opaque);
                opaque.token.clear();
                is_any_gone |= !is_own;
                is_own
            }
            _ => true,
        });
    }
    if is_any_gone {
        report.record(Feature::Reasoning);
    }
}

/// Removes the target's thoughts that another account sealed, and such signatures of calls.
pub(super) fn fit(chat: &mut Cow<'_, Chat>, dialect: Dialect, report: &mut Report) {
    let Some(seals) = report.seals().filter(|seals| seals.is_any()).cloned() else { return };
    let is_anothers = |opaque: &Option<Opaque>| {
        opaque.as_ref().is_some_and(|opaque| opaque.dialect == dialect && seals.is_anothers(opaque))
    };
    let goes = |part: &Part| match part {
        Part::Reasoning(reasoning) => is_anothers(&reasoning.opaque),
        _ => false,
    };
    for at in 0..chat.messages.len() {
        let content = &chat.messages[at].content;
        if content.iter().any(|part| matches!(part, Part::ToolCall(call) if is_anothers(&call.opaque))) {
            report.record(Feature::CallSignature);
            for part in &mut chat.to_mut().messages[at].content {
                if let Part::ToolCall(call) = part
                    && is_anothers(&call.opaque)
                {
                    call.opaque = None;
                }
            }
        }
        if chat.messages[at].content.iter().any(goes) {
            report.record(Feature::Reasoning);
            let mut is_behind = false;
            chat.to_mut().messages[at].content.retain(|part| {
                // The provider's fields of a thought go with it.
                is_behind = goes(part) || (is_behind && matches!(part, Part::Extra { of: ExtraOf::Part, .. }));
                !is_behind
            });
        }
    }
}
