//! The message of an error.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

/// A text, or parts that become one when somebody reads them: most refusals are never read.
#[derive(Clone)]
pub(super) enum Message {
    Text(Cow<'static, str>),
    Parts { subject: Arc<str>, rest: Rest, joined: OnceLock<Box<str>> },
}

/// The part of a message after its subject.
#[derive(Clone, Copy)]
pub(crate) enum Rest {
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

impl Message {
    pub(super) fn parts(subject: Arc<str>, rest: Rest) -> Self {
        Self::Parts { subject, rest, joined: OnceLock::new() }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Parts { subject, rest, joined } => joined.get_or_init(|| rest.join(subject).into()),
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::Text(Cow::Borrowed(""))
    }
}

/// Returns a copy. Of parts it is joined from them.
impl From<&Message> for String {
    fn from(message: &Message) -> Self {
        match message {
            Message::Text(text) => text.clone().into_owned(),
            Message::Parts { subject, rest, .. } => rest.join(subject),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
