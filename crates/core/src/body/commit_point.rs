use std::{fmt, str::FromStr};

use super::Progress;
use crate::InvalidConfig;

/// The progress that a stream must make before its caller sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(serde::Deserialize, schemars::JsonSchema), serde(rename_all = "snake_case"))]
#[non_exhaustive]
// As wide as the gap that it would otherwise leave in a request's context: the compiler copies a context with a gap
// piece by piece wherever it moves.
#[repr(u16)]
pub enum CommitPoint {
    /// The first event of any kind but a keep-alive.
    FirstEvent,
    /// The first event with content in it; reasoning counts.
    #[default]
    FirstToken,
    /// The first text, tool call or refusal. Reasoning is held back with the rest, up to 1 MiB: then it commits.
    FirstText,
    /// The whole answer: a stream that breaks or stalls can still fail over. One over 64 MiB is
    /// [`Malformed`](crate::ErrorKind::Malformed).
    Complete,
}

impl CommitPoint {
    /// All commit points, from the earliest to the latest.
    pub const ALL: [Self; 4] = [Self::FirstEvent, Self::FirstToken, Self::FirstText, Self::Complete];

    /// Returns the name used in files and headers, such as `first_token`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstEvent => "first_event",
            Self::FirstToken => "first_token",
            Self::FirstText => "first_text",
            Self::Complete => "complete",
        }
    }

    pub(crate) fn is_reached(self, progress: Progress) -> bool {
        match self {
            Self::FirstEvent => progress >= Progress::Lifecycle,
            Self::FirstToken => progress >= Progress::Reasoning,
            Self::FirstText => progress >= Progress::Content,
            Self::Complete => progress >= Progress::End,
        }
    }
}

impl fmt::Display for CommitPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CommitPoint {
    type Err = InvalidConfig;

    /// Parses a commit point's [name](CommitPoint::name).
    ///
    /// # Errors
    ///
    /// Any other word; the error lists the names.
    fn from_str(word: &str) -> Result<Self, InvalidConfig> {
        Self::ALL.into_iter().find(|point| point.name() == word).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            InvalidConfig::new("commit", format!("this is no commit point; there are {names}"))
        })
    }
}
