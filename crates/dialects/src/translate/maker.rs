//! The account that made a thought, where the server signs none.

#[expect(deprecated, reason = "it is the hash of a key whose result is the same in every release")]
use std::hash::SipHasher;
use std::{fmt, hash::Hasher, sync::Arc};

use crate::{
    Dialect, StreamEvent,
    chat::{Message, Opaque, Part},
    translate::AccountSeals,
    wire::{foreign::UNSIGNED, thoughts},
};

/// The account that a request goes to.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct TargetAccount {
    /// The maker of the thoughts that it takes.
    pub maker: Maker,
    /// The seals that it can read, if it is one of several.
    pub seals: Option<Arc<AccountSeals>>,
}

/// Returns true if a thought comes from a server of Anthropic's dialect that signs nothing. A stream's words are on
/// their way before such a thought ends, so that its mark follows from the account alone.
pub(crate) fn is_unsigned(opaque: &Opaque) -> bool {
    opaque.dialect == Dialect::Anthropic && !opaque.redacted && opaque.token.starts_with(UNSIGNED)
}

/// The account of a leaf: it signs the thoughts of servers that sign nothing themselves, and knows them again.
///
/// A thought of DeepSeek's is a text. It must come back to the account that thought it, and to no other. The signature
/// follows from the account's address and key, so that every replica knows it, and nobody else can make one.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Maker {
    account: (u64, u64),
    /// The model, where those of one address are different vendors'.
    model: Option<Arc<str>>,
}

impl Maker {
    /// Creates the maker of the account with this key at a place.
    pub fn new(place: &str, key: Option<&str>) -> Self {
        let half = |number: u64| {
            let mut hasher = hasher(0, number);
            for part in [place, key.unwrap_or_default()] {
                hasher.write(&(part.len() as u64).to_le_bytes());
                hasher.write(part.as_bytes());
            }
            hasher.finish()
        };
        Self { account: (half(0), half(1)), model: None }
    }

    /// Returns the maker of one model's thoughts, where the models of one address are different vendors'.
    pub(crate) fn of_model(self, model: Arc<str>) -> Self {
        Self { model: Some(model), ..self }
    }

    fn digits(&self, fields: &str) -> String {
        let hash = |(one, other): (u64, u64), text: &str| {
            let mut hasher = hasher(one, other);
            hasher.write(text.as_bytes());
            hasher.finish()
        };
        let (one, other) = self.account;
        let keys = match &self.model {
            Some(model) => (hash((one, other), model), hash((one ^ 1, other), model)),
            None => self.account,
        };
        format!("{:016x}", hash(keys, fields))
    }

    fn sign(&self, opaque: &mut Opaque) {
        match opaque.dialect {
            Dialect::OpenAi => opaque.token = thoughts::join(&self.digits(&opaque.token), &opaque.token),
            Dialect::Anthropic if opaque.token.is_empty() && !opaque.redacted => {
                opaque.token = format!("{UNSIGNED}{}", self.digits(UNSIGNED));
            }
            _ => {}
        }
    }

    /// Returns true if a thought is this account's, whose server signs nothing.
    pub(crate) fn is_own_unsigned(&self, opaque: &Opaque) -> bool {
        is_unsigned(opaque) && opaque.token.strip_prefix(UNSIGNED) == Some(&*self.digits(UNSIGNED))
    }

    /// Signs the thoughts of a whole answer.
    pub(crate) fn sign_message(&self, message: &mut Message) {
        for part in &mut message.content {
            match part {
                Part::Reasoning(reasoning) => reasoning.opaque.iter_mut().for_each(|opaque| self.sign(opaque)),
                Part::ToolCall(call) => call.opaque.iter_mut().for_each(|opaque| self.sign(opaque)),
                _ => {}
            }
        }
    }

    /// Signs the thought of a stream's event.
    #[inline]
    pub(crate) fn sign_event(&self, event: &mut StreamEvent) {
        if let StreamEvent::Signature { opaque, .. } | StreamEvent::ToolCall { opaque: Some(opaque), .. } = event {
            self.sign(opaque);
        }
    }

    /// Returns the fields of a thought, if this account has signed it.
    pub(crate) fn open<'a>(&self, opaque: &'a Opaque) -> Option<&'a str> {
        let (digits, fields) = thoughts::split(&opaque.token);
        (opaque.dialect == Dialect::OpenAi && digits == self.digits(fields)).then_some(fields)
    }
}

#[expect(deprecated, reason = "it is the hash of a key whose result is the same in every release")]
fn hasher(one: u64, other: u64) -> SipHasher {
    SipHasher::new_with_keys(one, other)
}

impl fmt::Debug for Maker {
    /// Writes nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_opens_at_its_own_account_alone() {
        let own = Maker::new("https://api.deepseek.com", Some("key"));
        let mut opaque = Opaque { dialect: Dialect::OpenAi, token: "{\"reasoning\":\"a:b\"}".into(), redacted: false };
        assert_eq!(own.open(&opaque), None, "unsigned");
        own.sign(&mut opaque);
        assert_eq!(own.open(&opaque), Some("{\"reasoning\":\"a:b\"}"));
        for (place, key) in [
            ("https://api.deepseek.com", Some("other")),
            ("https://api.deepseek.com", None),
            ("https://api.deepseek.comk", Some("ey")),
            ("https://api.moonshot.ai", Some("key")),
        ] {
            assert_eq!(Maker::new(place, key).open(&opaque), None, "{place}");
        }
        for place in 0..opaque.token.len() {
            let mut changed = opaque.token.clone().into_bytes();
            changed[place] ^= 1;
            let changed = Opaque { token: String::from_utf8(changed).unwrap(), ..opaque.clone() };
            assert_eq!(own.open(&changed), None, "{place}");
        }
        let elsewhere = Opaque { dialect: Dialect::Gemini, ..opaque };
        assert_eq!(own.open(&elsewhere), None);
    }

    #[test]
    fn an_unsigned_thought_is_its_own_accounts_alone() {
        let own = Maker::new("https://api.moonshot.ai/anthropic", Some("key"));
        let thought = |token: &str| Opaque { dialect: Dialect::Anthropic, token: token.into(), redacted: false };
        let mut unsigned = thought("");
        own.sign(&mut unsigned);
        assert!(is_unsigned(&unsigned) && own.is_own_unsigned(&unsigned));
        assert!(!Maker::new("https://api.moonshot.ai/anthropic", Some("other")).is_own_unsigned(&unsigned));
        assert!(!Maker::new("https://api.z.ai/api/anthropic", Some("key")).is_own_unsigned(&unsigned));
        let mut signed = thought("EqQB");
        own.sign(&mut signed);
        assert_eq!(signed, thought("EqQB"));
        assert!(!is_unsigned(&signed) && !own.is_own_unsigned(&thought(UNSIGNED)));
    }
}
