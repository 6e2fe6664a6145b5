use std::{borrow::Cow, error::Error, fmt};

use tower::BoxError;

/// What kept a store from doing what it was asked. It never holds a prompt, an answer or a password.
///
/// When it was told of a write, that may or may not have been done; every method of a store may be called again.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: Cow<'static, str>,
    source: Option<BoxError>,
}

/// What is the matter with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached, or did not answer in time. It heals by itself: ask again later.
    Unavailable,
    /// It has no room: a full disk, or a server's limit.
    Full,
    /// It may be read and not written: a file's permissions, a replica, a disk that was mounted so.
    ReadOnly,
    /// A later version of this crate has written it. Nothing of it was touched.
    NewerSchema,
    /// What was found there cannot be what was written. The rest of it is served.
    Corrupt,
    /// It cannot be opened as it is named: no such folder, a wrong password, something that is not a store.
    Misconfigured,
}

impl StoreErrorKind {
    /// Says it in one sentence, in lower case and without a full stop.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Unavailable => "the store cannot be reached",
            Self::Full => "the store is full",
            Self::ReadOnly => "the store cannot be written",
            Self::NewerSchema => "the store is of a newer version",
            Self::Corrupt => "the store is damaged",
            Self::Misconfigured => "the store cannot be opened",
        }
    }

    /// Whether the store has answered, and will not do what it was asked: others may still be answered.
    #[cfg_attr(
        not(any(feature = "handoff", feature = "idempotency", feature = "redis")),
        allow(dead_code, reason = "nobody asks a store")
    )]
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly | Self::Corrupt)
    }
}

impl StoreError {
    /// An error that says what was tried, and what to do where there is something to be done.
    pub fn new(kind: StoreErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// With what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What is the matter.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same may succeed later without anybody's help.
    pub fn heals(&self) -> bool {
        self.kind == StoreErrorKind::Unavailable
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.sentence(), self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_the_matter_and_what_was_tried() {
        let disk = std::io::Error::other("disk I/O error");
        let error = StoreError::new(StoreErrorKind::Full, "writing a task to tasks.db").with_source(disk);
        assert_eq!(error.to_string(), "the store is full: writing a task to tasks.db");
        assert_eq!(error.source().unwrap().to_string(), "disk I/O error");
        assert!(!error.heals());
        assert!(StoreError::new(StoreErrorKind::Unavailable, "a claim").heals());
    }
}
