use std::{fmt, io};

use sha2::{Digest as _, Sha256};
use steadfast_internal::hex;

/// A new key for a caller of the gateway.
///
/// The secret goes to the caller; the hash goes into the file of keys.
pub struct VirtualKey {
    secret: String,
    hash: String,
}

impl VirtualKey {
    /// Makes a key of 256 random bits.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn generate() -> io::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let secret = format!("sk-steadfast-{}", hex::encode(&random));
        let hash = hash_of(&secret);
        Ok(Self { secret, hash })
    }

    /// Returns the key itself, which the caller sends.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns the hash for the file of keys: `sha256:` and 64 hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

impl fmt::Debug for VirtualKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualKey").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// Returns the hash of a key, as the file of keys has it.
pub(super) fn hash_of(key: &str) -> String {
    format!("sha256:{}", hex::encode(&Sha256::digest(key)))
}
