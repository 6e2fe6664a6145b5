use std::{borrow::Cow, error::Error, fmt};

use tower::BoxError;

/// The failure of a store's operation. It never contains a prompt, an answer or a password.
///
/// A write that failed may or may not have been done; every method of a store may be called again.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: Cow<'static, str>,
    source: Option<BoxError>,
}

/// The kind of a store's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or did not answer in time. It heals by itself: try again later.
    Unavailable,
    /// The store is out of space: a full disk, or a server's limit.
    Full,
    /// The store can be read but not written: a file's permissions, a replica, a read-only mount.
    ReadOnly,
    /// A later version of this crate wrote it. Nothing in it was changed.
    NewerSchema,
    /// Stored data is not what was written. The rest remains available.
    Corrupt,
    /// The store cannot be opened under this name: a missing folder, a wrong password, something that is not a store.
    Misconfigured,
}

impl StoreErrorKind {
    /// Returns the kind as one sentence, in lower case and without a full stop.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unavailable => "the store cannot be reached",
            Self::Full => "the store is full",
            Self::ReadOnly => "the store cannot be written",
            Self::NewerSchema => "the store is of a newer version",
            Self::Corrupt => "the store is damaged",
            Self::Misconfigured => "the store cannot be opened",
        }
    }

    /// Returns whether the store answered but refuses this operation: others may still succeed.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly | Self::Corrupt)
    }
}

impl StoreError {
    /// Creates an error from the operation that failed and, if there is one, the remedy.
    pub fn new(kind: StoreErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns whether the same operation may succeed later without anyone's help.
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
