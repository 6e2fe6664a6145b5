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
    let mut goes = |part: &mut Part| match part {
        Part::Reasoning(Reasoning { opaque: Some(opaque), .. }) if is_unsigned(opaque) => {
            let is_own = maker.is_own_unsigned(opaque);
            opaque.token.clear();
            !is_own
        }
        _ => false,
    };
    let mut is_any_gone = false;
    for message in &mut chat.to_mut().messages {
        is_any_gone |= remove_thoughts(&mut message.content, &mut goes);
    }
    if is_any_gone {
        report.record(Feature::Reasoning);
    }
}

/// Removes thoughts, each with the provider's fields of it. Returns true if there were any.
fn remove_thoughts(content: &mut Vec<Part>, goes: &mut dyn FnMut(&mut Part) -> bool) -> bool {
    let (before, mut is_behind) = (content.len(), false);
    content.retain_mut(|part| {
        is_behind = goes(part) || (is_behind && matches!(part, Part::Extra { of: ExtraOf::Part, .. }));
        !is_behind
    });
    content.len() < before
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
            remove_thoughts(&mut chat.to_mut().messages[at].content, &mut |part| goes(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{
        chat::{Extra, Message, Role},
        translate::{Maker, TargetAccount},
    };

    #[test]
    fn a_thought_of_another_account_goes_with_its_fields() {
        let (own, other) = (Maker::new("https://a.test", Some("k")), Maker::new("https://b.test", Some("k")));
        let thought = |maker: &Maker, text: &str| {
            let opaque = Opaque { dialect: Dialect::Anthropic, token: String::new(), redacted: false };
            let mut message = Message::new(Role::Assistant, vec![]);
            message.content.push(Part::Reasoning(Reasoning { text: text.into(), opaque: Some(opaque) }));
            maker.sign_message(&mut message);
            message.content.remove(0)
        };
        let fields = |name: &str| {
            let fields = Map::from_iter([(name.to_owned(), json!(1))]);
            Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::Anthropic, fields) }
        };
        let content = vec![
            thought(&own, "mine"),
            fields("of_mine"),
            thought(&other, "theirs"),
            fields("of_theirs"),
            fields("more_of_theirs"),
            Part::Text("said".into()),
            fields("of_said"),
        ];
        let chat = Chat::new([Message::new(Role::Assistant, content)]);
        let mut fitted = Cow::Borrowed(&chat);
        let account = TargetAccount { maker: own, seals: None };
        let mut report = Report::new(Dialect::Anthropic, Some(Dialect::OpenAi)).with_account(account);
        fit_unsigned(&mut fitted, Dialect::Anthropic, &mut report);
        let opaque = Opaque { dialect: Dialect::Anthropic, token: String::new(), redacted: false };
        let kept = [
            Part::Reasoning(Reasoning { text: "mine".into(), opaque: Some(opaque) }),
            fields("of_mine"),
            Part::Text("said".into()),
            fields("of_said"),
        ];
        assert_eq!(fitted.messages[0].content, kept);
        assert!(report.notes().iter().any(|note| note.starts_with("reasoning")), "{:?}", report.notes());
    }
}
