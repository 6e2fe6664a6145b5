//! The message of a failure.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

/// The message of a failure: a text, or parts that become one when somebody reads it.
///
/// Most refusals on this side are never read: they allocate no text.
#[derive(Clone)]
pub struct ErrorMessage(Content);

enum Content {
    Text(Cow<'static, str>),
    Parts { subject: Arc<str>, rest: Rest, joined: OnceLock<Box<str>> },
}

impl Clone for Content {
    /// Copies the parts alone: most copies are never read.
    #[inline]
    fn clone(&self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.clone()),
            Self::Parts { subject, rest, .. } => {
                Self::Parts { subject: subject.clone(), rest: *rest, joined: OnceLock::new() }
            }
        }
    }
}

/// The part of a message after its subject.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
#[doc(hidden)]
pub enum Rest {
    /// Words that stand as they are.
    Text(&'static str),
    /// Numbers, and the function that writes the whole message from the subject and them.
    Numbers([usize; 4], fn(&str, [usize; 4]) -> String),
}

impl Rest {
    fn join(self, subject: &str) -> String {
        match self {
            Self::Text(text) => [subject, text].concat(),
            Self::Numbers(numbers, write) => write(subject, numbers),
        }
    }
}

impl ErrorMessage {
    #[inline]
    pub(super) fn parts(subject: Arc<str>, rest: Rest) -> Self {
        Self(Content::Parts { subject, rest, joined: OnceLock::new() })
    }

    /// Truncates a text of more than `most` bytes at the end of a character, and marks the cut with `…`.
    pub fn truncate(&mut self, most: usize) {
        let length = match &self.0 {
            // Known without joining the parts.
            Content::Parts { subject, rest: Rest::Text(rest), .. } => subject.len() + rest.len(),
            _ => self.as_str().len(),
        };
        if length > most {
            let text = self.as_str();
            let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
            *self = format!("{}…", &text[..end]).into();
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Content::Text(text) => text,
            Content::Parts { subject, rest, joined } => joined.get_or_init(|| rest.join(subject).into()),
        }
    }
}

impl Default for ErrorMessage {
    /// Returns an empty message.
    fn default() -> Self {
        Self(Content::Text(Cow::Borrowed("")))
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for ErrorMessage {
    fn from(text: T) -> Self {
        Self(Content::Text(text.into()))
    }
}

impl PartialEq for ErrorMessage {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl PartialEq<&str> for ErrorMessage {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for ErrorMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ErrorMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
