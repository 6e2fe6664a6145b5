//! Marks by which a translated answer is recognized when its caller sends it back.
//!
//! A caller of one dialect may be answered from another one, and sends that answer back as history. Its thoughts carry
//! another provider's signature, in an envelope with that dialect's name. Its tool calls have an id that shows that
//! this dialect's own provider did not make them.

use std::borrow::Cow;

use crate::{Dialect, chat::Opaque, internal::base64, skip::OWN_MARK};

/// The beginning of every signature of another provider in a dialect that has signatures of its own.
pub(crate) const ENVELOPE: &str = OWN_MARK;

/// The beginning of an envelope in Gemini's dialect.
///
/// A signature is bytes in base64 there, and Google's Python SDK refuses an answer with any other text. It sends a
/// signature back in the other alphabet of base64, so an envelope has none of the digits in which the two differ.
pub(crate) const ENVELOPE_IN_BASE64: &str = "c3RlYWRmYXN0L";

/// The beginning of the id of a tool call that Anthropic did not make, in Anthropic's dialect.
pub(crate) const CALL: &str = "toolu_sf_";

/// The stand-in for the thought signature that another model's call lacks; Google documents it for that.
pub(crate) const FOREIGN_CALL: &str = "skip_thought_signature_validator";

/// Returns a signature for a caller of `dialect`: the provider's own unchanged, another's in an envelope. An unsigned
/// thought is `None`.
pub(crate) fn seal(opaque: Option<&Opaque>, dialect: Dialect) -> Cow<'_, str> {
    let envelope = match opaque {
        Some(own) if own.dialect == dialect => return Cow::Borrowed(&own.token),
        Some(foreign) => {
            let form = if foreign.redacted { "redacted" } else { "signed" };
            Cow::Owned(format!("{ENVELOPE}{}.{form}.{}", foreign.dialect, foreign.token))
        }
        None => Cow::Borrowed("steadfast.none.unsigned."),
    };
    if dialect == Dialect::Gemini { Cow::Owned(base64::encode(envelope.as_bytes())) } else { envelope }
}

/// Returns true if a signature of Gemini's dialect is in an envelope.
pub(crate) fn is_envelope_of_gemini(token: &str) -> bool {
    token.starts_with(ENVELOPE_IN_BASE64) || token.starts_with(ENVELOPE)
}

/// Reads the signature that a caller of `dialect` sends back. Returns `None` if it is no provider's.
pub(crate) fn unseal(token: String, dialect: Dialect, redacted: bool) -> Option<Opaque> {
    let is_encoded = dialect == Dialect::Gemini && token.starts_with(ENVELOPE_IN_BASE64);
    let opened = is_encoded.then(|| String::from_utf8(base64::decode(&token)?).ok()).flatten();
    let Some(inside) = opened.as_deref().unwrap_or(&token).strip_prefix(ENVELOPE) else {
        return Some(Opaque { dialect, token, redacted });
    };
    let (whose, rest) = inside.split_once('.')?;
    let (form, token) = rest.split_once('.')?;
    let dialect = match whose {
        "anthropic" => Dialect::Anthropic,
        "openai" => Dialect::OpenAi,
        "gemini" => Dialect::Gemini,
        "responses" => Dialect::Responses,
        _ => return None,
    };
    Some(Opaque { dialect, token: token.to_owned(), redacted: form == "redacted" })
}

/// Returns the id that the call's own provider gave it.
pub(crate) fn unmark_call(id: String) -> String {
    match id.strip_prefix(CALL) {
        Some(own) => own.to_owned(),
        None => id,
    }
}

/// The format of reasoning details that OpenAI's Responses sealed. `openai-responses-v1` is another: OpenRouter's
/// details of that name are sealed for its own account. It begins like an envelope, so that bytes with it are marked.
pub(crate) const SEALED_BY_RESPONSES: &str = "steadfast.responses.v1";

/// Returns OpenRouter's name for the signer of reasoning details.
pub(crate) fn format_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "anthropic-claude-v1",
        Dialect::OpenAi => "openai-responses-v1",
        Dialect::Gemini => "google-gemini-v1",
        Dialect::Responses => SEALED_BY_RESPONSES,
    }
}

/// The inverse of [`format_name`].
pub(crate) fn of_format_name(name: &str) -> Option<Dialect> {
    [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses]
        .into_iter()
        .find(|dialect| format_name(*dialect) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_of_gemini_is_base64_in_both_alphabets_and_comes_back() {
        for (dialect, token, redacted) in [
            (Dialect::Anthropic, "EqQBCgIYAhIkMWNi+/==", false),
            (Dialect::Responses, "rs_1:gAAAAA-_x==", true),
            (Dialect::OpenAi, "", false),
        ] {
            let opaque = Opaque { dialect, token: token.to_owned(), redacted };
            let sealed = seal(Some(&opaque), Dialect::Gemini).into_owned();
            assert!(is_envelope_of_gemini(&sealed) && sealed.len().is_multiple_of(4), "{sealed}");
            assert!(sealed.trim_end_matches('=').bytes().all(|byte| byte.is_ascii_alphanumeric()), "{sealed}");
            assert_eq!(unseal(sealed, Dialect::Gemini, false), Some(opaque));
        }
        let unsigned = seal(None, Dialect::Gemini).into_owned();
        assert_eq!(unseal(unsigned, Dialect::Gemini, false), None);
        // As it was written before.
        let plain = unseal("steadfast.anthropic.signed.AAA".to_owned(), Dialect::Gemini, false).unwrap();
        assert_eq!((plain.dialect, plain.token.as_str()), (Dialect::Anthropic, "AAA"));
        let own = unseal("c3RlYWRmYXN0".to_owned(), Dialect::Gemini, false).unwrap();
        assert_eq!((own.dialect, own.token.as_str()), (Dialect::Gemini, "c3RlYWRmYXN0"));
    }
}
