//! Virtual keys: who may call, and for what.
//!
//! A key is 32 random bytes, and the file has only its SHA-256: whoever reads the file can call with none of them. (A slow
//! hash is for what people think up; nobody guesses 256 random bits.) What a caller shows is hashed and compared with every
//! entry in constant time. A key's limits are those of the features that it may use, and a rate of its own.
//!
//! ```yaml
//! keys:
//!   - name: team-search
//!     hash: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//!     features: [search, background]     # the first where a request names none; left out: any
//!     models: [gpt-4o, 'claude-*']       # left out: any
//!     requests_per_minute: 600           # left out: no limit
//!   - name: operations
//!     hash: sha256:..
//!     admin: true                        # sees the decision records of all
//! ```

mod file;
mod make;
mod rate;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

pub(crate) use self::make::Key as MakeKey;
use self::rate::Rate;
use crate::exit::Failure;

/// The keys of a file, as they are at the moment.
pub(crate) struct Keys {
    path: PathBuf,
    current: ArcSwap<Vec<Arc<Key>>>,
}

/// One caller.
pub(crate) struct Key {
    pub(crate) name: Box<str>,
    hash: [u8; 32],
    features: Option<Vec<Box<str>>>,
    models: Option<Vec<Box<str>>>,
    rate: Option<Arc<Rate>>,
    pub(crate) admin: bool,
}

/// Why a caller is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key was shown.
    NoKey,
    /// Nobody has the key that was shown.
    UnknownKey,
    /// The key is not for this feature.
    Feature,
    /// The key is not for this model.
    Model,
    /// There are no keys, and the request is from a web page of elsewhere.
    Origin,
    /// The key's rate is used up for so long.
    Rate(Duration),
}

impl Keys {
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let keys = file::read(path, &[])?;
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(keys) })
    }

    /// Reads the file again. A file that is wrong changes nothing. Gives the number of keys.
    pub(crate) fn reload(&self) -> Result<usize, String> {
        let before = self.current.load();
        let keys = file::read(&self.path, &before).map_err(|failure| failure.to_string())?;
        let count = keys.len();
        self.current.store(Arc::new(keys));
        Ok(count)
    }

    /// Who calls, by the key in `Authorization: Bearer` or `x-api-key`: Claude Code may send both.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Arc<Key>, Denied> {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let own = headers.get_all("x-api-key").iter().filter_map(|value| Some(value.to_str().ok()?.trim()));
        let mut denied = Denied::NoKey;
        for shown in bearer.chain(own).filter(|shown| !shown.is_empty()) {
            match self.find(shown) {
                Some(key) => return Ok(key),
                None => denied = Denied::UnknownKey,
            }
        }
        Err(denied)
    }

    fn find(&self, shown: &str) -> Option<Arc<Key>> {
        let hash: [u8; 32] = Sha256::digest(shown).into();
        let keys = self.current.load();
        // All of them, whether or not one has matched.
        let mut found = None;
        for key in keys.iter() {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some(key.clone());
            }
        }
        found
    }
}

impl Key {
    /// The feature that a request counts as, where it may.
    pub(crate) fn feature(&self, named: Option<Box<str>>) -> Result<Option<Box<str>>, Denied> {
        match (&self.features, named) {
            (None, named) => Ok(named),
            (Some(allowed), None) => Ok(allowed.first().cloned()),
            (Some(allowed), Some(named)) if allowed.contains(&named) => Ok(Some(named)),
            _ => Err(Denied::Feature),
        }
    }

    /// Whether the key is for this model.
    pub(crate) fn model(&self, named: Option<&str>) -> Result<(), Denied> {
        let Some(allowed) = &self.models else { return Ok(()) };
        let fits = |pattern: &str| match (pattern.strip_suffix('*'), named) {
            (_, None) => false,
            (Some(start), Some(named)) => named.starts_with(start),
            (None, Some(named)) => named == pattern,
        };
        if allowed.iter().any(|pattern| fits(pattern)) { Ok(()) } else { Err(Denied::Model) }
    }

    /// Counts a request.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Denied> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(now).map_err(Denied::Rate))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).field("keys", &self.current.load().len()).finish()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}
