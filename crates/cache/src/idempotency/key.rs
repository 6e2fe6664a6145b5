use std::fmt;

use crate::{
    LlmRequest,
    cache::{Meaning, fingerprint},
    request::Tenant,
};

/// The identity of a request across repeats: a SHA-256 hash of its tenant and of its caller's key, the same in
/// every process. The caller's key itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey([u8; 32]);

/// The input under a key: a SHA-256 hash of what the request [means](crate::cache#what-is-the-same), the
/// same in every process. The prompt cannot be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl IdempotencyKey {
    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Creates a key from its hash, as a store returns it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Fingerprint {
    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Creates a fingerprint from its hash, as a store returns it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A key with the input under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyedInput {
    pub(super) key: IdempotencyKey,
    pub(super) input: Fingerprint,
}

impl KeyedInput {
    /// Returns a key that no request has.
    pub(super) fn unused() -> Self {
        let mut key = [0; 32];
        key.fill_with(|| fastrand::u8(..));
        Self { key: IdempotencyKey(key), input: Fingerprint([0; 32]) }
    }

    /// Returns `None` if the request has no key, and none is to be derived or can be.
    pub(super) fn of(request: &LlmRequest, derive: bool) -> Option<Self> {
        let said = request.idempotency_key().filter(|key| !key.is_empty());
        if said.is_none() && !derive {
            return None;
        }
        let input = match (fingerprint(request), request.wire()) {
            (Some(meaning), _) => *meaning.as_bytes(),
            // The request is ambiguous: then only identical bytes are the same.
            (None, Some(wire)) if said.is_some() => {
                let mut bytes = Meaning::of("steadfast idempotency bytes 1");
                bytes.optional_text(Tenant::of(request).map(|name| &**name));
                bytes.optional_text(request.feature());
                bytes.bytes(wire.body());
                if wire.is_compaction() {
                    bytes.text("compaction");
                }
                bytes.finish()
            }
            (None, _) => return None,
        };
        let key = match said {
            Some(said) => {
                let mut key = Meaning::of("steadfast idempotency key 1");
                key.optional_text(Tenant::of(request).map(|name| &**name));
                key.text(said);
                key.finish()
            }
            None => {
                let mut key = Meaning::of("steadfast idempotency derived 1");
                key.bytes(&input);
                key.finish()
            }
        };
        Some(Self { key: IdempotencyKey(key), input: Fingerprint(input) })
    }
}

/// Writes the first 64 bits in hexadecimal digits: enough to tell keys apart in a log.
fn short(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for IdempotencyKey {
    /// Writes the first 64 bits in hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({self})")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        short(&self.0, f)?;
        f.write_str(")")
    }
}
