//! Leaves out the thoughts that another account sealed.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;

use super::report::Report;
use crate::{
    Dialect,
    chat::{Chat, ExtraOf, Opaque, Part},
    translate::rules::Feature,
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
