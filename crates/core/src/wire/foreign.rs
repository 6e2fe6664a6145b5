//! Marks by which a translated answer is recognized when its caller sends it back.
//!
//! A caller of one dialect may be answered from another one, and sends that answer back as history. Its thoughts carry
//! another provider's signature, in an envelope with that dialect's name. Its tool calls have an id that shows that
//! this dialect's own provider did not make them.
//!
//! An envelope has digits that follow from its content, so that a changed or invented one is passed over. Providers
//! verify their own signatures; thoughts of servers that sign nothing have the account's own digits
//! (`Maker`).

use std::borrow::Cow;

use crate::{
    Dialect,
    chat::Opaque,
    internal::{
        base64,
        fnv::{OFFSET_BASIS, fnv1a},
    },
    skip::OWN_MARK,
};

/// The beginning of every signature of another provider in a dialect that has signatures of its own.
pub const ENVELOPE: &str = OWN_MARK;

/// The beginning of an envelope in Gemini's dialect.
///
/// A signature is bytes in base64 there, and Google's Python SDK refuses an answer with any other text.
pub const ENVELOPE_IN_BASE64: &str = "c3RlYWRmYXN0L";

/// The beginning of the id of a tool call that Anthropic did not make, in Anthropic's dialect.
pub const CALL: &str = "toolu_sf_";

/// The stand-in for the thought signature that another model's call lacks; Google documents it for that.
pub const FOREIGN_CALL: &str = "skip_thought_signature_validator";

/// The form of an envelope that has a call's signature, where a dialect's calls have no place for one. It stands in a
/// thought of its own, before the call.
const OF_CALL: &str = "call";

/// The begin of the account's own mark at a thought that its server of Anthropic's dialect has not signed.
pub const UNSIGNED: &str = "unsigned-";

/// Returns a signature for a caller of `dialect`: the provider's own unchanged, another's in an envelope. An unsigned
/// thought is `None`.
pub fn seal(opaque: Option<&Opaque>, dialect: Dialect) -> Cow<'_, str> {
    let envelope = match opaque {
        Some(own) if own.dialect == dialect && dialect == Dialect::Anthropic && own.token.starts_with(UNSIGNED) => {
            return Cow::Borrowed("");
        }
        Some(own) if own.dialect == dialect => return Cow::Borrowed(&own.token),
        Some(foreign) => Cow::Owned(envelope(foreign, if foreign.redacted { "redacted" } else { "signed" })),
        None => Cow::Borrowed("steadfast.none.unsigned."),
    };
    if dialect == Dialect::Gemini { Cow::Owned(base64::encode(envelope.as_bytes())) } else { envelope }
}

/// Returns the envelope of a call's signature, for a thought before the call.
pub fn seal_call(opaque: &Opaque) -> String {
    envelope(opaque, OF_CALL)
}

/// Returns the envelope of a provider's own sealed thought, which has another id here.
pub fn seal_own(opaque: &Opaque) -> String {
    envelope(opaque, "redacted")
}

/// The form of an envelope that has the id of the call behind it, where the caller's dialect takes no such id.
const OF_ID: &str = "id";

/// Returns the envelope of a call's id.
pub fn seal_id(id: &str) -> String {
    let opaque = Opaque { dialect: Dialect::OpenAi, token: id.to_owned(), redacted: true };
    envelope(&opaque, OF_ID)
}

/// Returns the id in an envelope; `None` if it has another content, or was changed.
pub(crate) fn unseal_id(token: &str) -> Option<String> {
    let (whose, rest) = token.strip_prefix(ENVELOPE)?.split_once('.')?;
    let (digits, id) = rest.strip_prefix(OF_ID)?.strip_prefix('.')?.split_once('.')?;
    (digits == check(of_name(whose)?, id)).then(|| id.to_owned())
}

fn envelope(opaque: &Opaque, form: &str) -> String {
    format!("{ENVELOPE}{}.{form}.{}.{}", opaque.dialect, check(opaque.dialect, &opaque.token), opaque.token)
}

/// Returns the digits that show whether a token is as it was. They prove nothing about its maker.
fn check(dialect: Dialect, token: &str) -> String {
    format!("{:016x}", fnv1a(fnv1a(OFFSET_BASIS, &dialect.to_string()), token))
}

/// Returns true if a signature of Gemini's dialect is in an envelope.
pub fn is_envelope_of_gemini(token: &str) -> bool {
    token.starts_with(ENVELOPE_IN_BASE64) || token.starts_with(ENVELOPE)
}

/// A signature that a caller has sent back.
#[derive(Debug, PartialEq)]
pub struct Unsealed {
    /// The signature as its provider gave it.
    pub opaque: Opaque,
    /// True if it is that of the call behind the thought.
    pub of_call: bool,
}

/// Reads the signature that a caller of `dialect` sends back. Returns `None` if it is no provider's, or if its envelope
/// was changed.
pub fn unseal(token: String, dialect: Dialect, redacted: bool) -> Option<Unsealed> {
    let is_encoded = dialect == Dialect::Gemini && token.starts_with(ENVELOPE_IN_BASE64);
    let opened = match is_encoded {
        // Google's Python SDK sends it back in the other alphabet.
        true => String::from_utf8(base64::decode(&token.replace('-', "+").replace('_', "/"))?).ok()?,
        false => token,
    };
    let Some(inside) = opened.strip_prefix(ENVELOPE) else {
        return Some(Unsealed { opaque: Opaque { dialect, token: opened, redacted }, of_call: false });
    };
    let (whose, rest) = inside.split_once('.')?;
    let (form, rest) = rest.split_once('.')?;
    let (digits, token) = rest.split_once('.')?;
    let dialect = of_name(whose)?;
    let is_whole = matches!(form, "redacted" | "signed" | OF_CALL) && digits == check(dialect, token);
    let opaque = Opaque { dialect, token: token.to_owned(), redacted: form == "redacted" };
    is_whole.then_some(Unsealed { opaque, of_call: form == OF_CALL })
}

fn of_name(name: &str) -> Option<Dialect> {
    [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses]
        .into_iter()
        .find(|dialect| dialect.to_string() == name)
}

/// The name of a mark beside a signature of Gemini's.
pub const MARK: &str = "steadfast";

/// Returns the mark of a signature for a caller of Chat Completions, where it stands without an envelope.
pub fn mark(opaque: &Opaque) -> String {
    format!("{ENVELOPE}{}.{}", opaque.dialect, check(opaque.dialect, &opaque.token))
}

/// Returns false if a signature has a mark of ours that is not its own.
pub(crate) fn is_marked_well(opaque: &Opaque, mark: Option<&str>) -> bool {
    mark.is_none_or(|mark| !mark.starts_with(ENVELOPE) || mark == self::mark(opaque))
}

/// Stands behind that beginning in an id with characters that Anthropic's ids do not have, such as Kimi's
/// `functions.read:0`, and then before the code of each of them.
const ESCAPE: char = '-';

/// Returns an id for Anthropic's dialect that has any other id in it; `None` for an empty one.
pub fn escape_call(id: &str) -> Option<String> {
    let mut escaped = format!("{CALL}{ESCAPE}");
    for byte in id.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("{ESCAPE}{byte:02x}")),
        }
    }
    (!id.is_empty()).then_some(escaped)
}

/// Returns the id in what stands behind the beginning; `None` if nothing was escaped so.
fn unescape_call(escaped: &str) -> Option<String> {
    let mut pieces = escaped.strip_prefix(ESCAPE)?.split(ESCAPE);
    let mut id = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = (piece.get(..2)?, piece.get(2..)?);
        id.push(u8::from_str_radix(code, 16).ok()?);
        id.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(id).ok()
}

/// Returns the id that the call's own provider gave it.
pub fn unmark_call(id: String) -> String {
    match id.strip_prefix(CALL) {
        Some(own) => unescape_call(own).unwrap_or_else(|| own.to_owned()),
        None => id,
    }
}

/// The format of reasoning details that OpenAI's Responses sealed. `openai-responses-v1` is another: OpenRouter's
/// details of that name are sealed for its own account. It begins like an envelope, so that bytes with it are marked.
pub(crate) const SEALED_BY_RESPONSES: &str = "steadfast.responses.v1";

/// Returns OpenRouter's name for the signer of reasoning details.
pub fn format_name(dialect: Dialect) -> &'static str {
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

    const DIALECTS: [Dialect; 4] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses];

    #[test]
    fn an_envelope_comes_back_and_a_changed_one_does_not() {
        for (dialect, token, redacted) in [
            (Dialect::Anthropic, "EqQBCgIYAhIkMWNi+/==", false),
            (Dialect::Responses, "rs_1:gAAAAA-_x==", true),
            (Dialect::OpenAi, "0a.{\"reasoning\":\"Wait? 好 > ~\"}", false),
            (Dialect::Gemini, "", false),
        ] {
            let opaque = Opaque { dialect, token: token.to_owned(), redacted };
            for to in DIALECTS.into_iter().filter(|to| *to != dialect) {
                let sealed = seal(Some(&opaque), to).into_owned();
                assert!(sealed.starts_with(if to == Dialect::Gemini { ENVELOPE_IN_BASE64 } else { ENVELOPE }));
                let back = unseal(sealed.clone(), to, false);
                assert_eq!(back, Some(Unsealed { opaque: opaque.clone(), of_call: false }), "{to} {sealed}");
                let in_the_other_alphabet = sealed.replace('+', "-").replace('/', "_");
                if to == Dialect::Gemini {
                    assert_eq!(unseal(in_the_other_alphabet, to, false), back);
                    continue;
                }
                for place in (ENVELOPE.len()..sealed.len()).filter(|place| sealed.as_bytes()[*place].is_ascii()) {
                    let mut changed = sealed.clone().into_bytes();
                    changed[place] ^= 1;
                    let opened = unseal(String::from_utf8(changed).unwrap(), to, false);
                    assert_eq!(opened, None, "{sealed} at {place}");
                }
            }
            let of_call = unseal(seal_call(&opaque), Dialect::Anthropic, true).unwrap();
            assert_eq!((of_call.of_call, &of_call.opaque.token), (true, &opaque.token));
        }
    }

    #[test]
    fn an_id_of_any_characters_comes_back() {
        for id in ["functions.read_file:0", "-x", "a b/ä☃", "functions.mcp__github__list_pull_requests:12", "9:"] {
            let escaped = escape_call(id).unwrap();
            assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{escaped}");
            assert_eq!(unmark_call(escaped), id);
        }
        for (id, own) in [
            ("toolu_sf_call_1", "call_1"),
            ("toolu_01", "toolu_01"),
            ("toolu_sf_-a-zz", "-a-zz"),
            ("toolu_sf_-a-2", "-a-2"),
        ] {
            assert_eq!(unmark_call(id.to_owned()), own);
        }
    }

    #[test]
    fn the_envelope_of_an_id_has_it_as_it_is_and_nothing_else_opens() {
        for id in ["functions.x:0", "", "a.b.c", "☃", "steadfast.openai.id.0.x"] {
            let sealed = seal_id(id);
            assert_eq!(unseal_id(&sealed).as_deref(), Some(id));
            assert_eq!(unseal(sealed.clone(), Dialect::Anthropic, true), None, "it is no thought");
            assert_eq!(unseal_id(&format!("{sealed}x")), None);
        }
        for other in ["", "functions.x:0", "steadfast.", "steadfast.openai.id.0000000000000000.x"] {
            assert_eq!(unseal_id(other), None, "{other}");
        }
        let of_call = seal_call(&Opaque { dialect: Dialect::OpenAi, token: "x".to_owned(), redacted: false });
        assert_eq!(unseal_id(&of_call), None);
    }

    #[test]
    fn what_is_no_providers_is_none() {
        for to in DIALECTS {
            assert_eq!(unseal(seal(None, to).into_owned(), to, false), None);
        }
        for forged in ["steadfast.anthropic.signed.AAA", "steadfast.gemini.signed.0000000000000000.AAA", "steadfast."] {
            assert_eq!(unseal(forged.to_owned(), Dialect::Responses, true), None, "{forged}");
        }
        let own = unseal("c3RlYWRmYXN0".to_owned(), Dialect::Gemini, false).unwrap();
        assert_eq!((own.opaque.dialect, own.opaque.token.as_str()), (Dialect::Gemini, "c3RlYWRmYXN0"));
    }
}
