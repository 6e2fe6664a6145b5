//! Marks by which what another provider said is known again when a caller sends it back.
//!
//! A caller of one dialect may be answered from another one, and sends that answer back as history. Its thoughts carry
//! another provider's signature, in an envelope that says whose it is; its tool calls have an id that says that this
//! dialect's own provider did not make them.

use std::borrow::Cow;

use crate::{Dialect, chat::Opaque};

/// With it begins every signature of another provider in a dialect that has signatures of its own.
pub(crate) const ENVELOPE: &str = "steadfast.";

/// With it begins the id of a tool call that Anthropic did not make, in Anthropic's dialect.
pub(crate) const CALL: &str = "toolu_sf_";

/// Stands for the thought signature that a call of another model does not have; Google documents it for that.
pub(crate) const FOREIGN_CALL: &str = "skip_thought_signature_validator";

/// A signature for a caller of `dialect`: the provider's own as it is, another's in an envelope. `None` in: a thought
/// that nobody has signed.
pub(crate) fn seal(opaque: Option<&Opaque>, dialect: Dialect) -> Cow<'_, str> {
    match opaque {
        Some(own) if own.dialect == dialect => Cow::Borrowed(&own.token),
        Some(foreign) => {
            let form = if foreign.redacted { "redacted" } else { "signed" };
            Cow::Owned(format!("{ENVELOPE}{}.{form}.{}", foreign.dialect, foreign.token))
        }
        None => Cow::Borrowed("steadfast.none.unsigned."),
    }
}

/// The signature that a caller of `dialect` sends back. `None`: it was no provider's.
pub(crate) fn unseal(token: String, dialect: Dialect, redacted: bool) -> Option<Opaque> {
    let Some(inside) = token.strip_prefix(ENVELOPE) else { return Some(Opaque { dialect, token, redacted }) };
    let (whose, rest) = inside.split_once('.')?;
    let (form, token) = rest.split_once('.')?;
    let dialect = match whose {
        "anthropic" => Dialect::Anthropic,
        "openai" => Dialect::OpenAi,
        "gemini" => Dialect::Gemini,
        _ => return None,
    };
    Some(Opaque { dialect, token: token.to_owned(), redacted: form == "redacted" })
}

/// The id that the call's own provider gave it.
pub(crate) fn unmark_call(id: String) -> String {
    match id.strip_prefix(CALL) {
        Some(own) => own.to_owned(),
        None => id,
    }
}

/// Reasoning details as OpenRouter spells them: who has signed.
pub(crate) fn format_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "anthropic-claude-v1",
        Dialect::OpenAi => "openai-responses-v1",
        Dialect::Gemini => "google-gemini-v1",
    }
}

/// The other way round.
pub(crate) fn of_format_name(name: &str) -> Option<Dialect> {
    [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini].into_iter().find(|dialect| format_name(*dialect) == name)
}
