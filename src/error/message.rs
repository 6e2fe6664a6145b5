//! The message of an error.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

/// A text, or two parts that become one when somebody reads them: most refusals by an open circuit are never read.
#[derive(Clone)]
pub(super) enum Message {
    Text(Cow<'static, str>),
    Parts { subject: Arc<str>, rest: &'static str, joined: OnceLock<Box<str>> },
}

impl Message {
    pub(super) fn parts(subject: Arc<str>, rest: &'static str) -> Self {
        Self::Parts { subject, rest, joined: OnceLock::new() }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Parts { subject, rest, joined } => joined.get_or_init(|| [&**subject, rest].concat().into()),
        }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::Text(Cow::Borrowed(""))
    }
}

/// Returns a copy. Of two parts it is joined from them, in one allocation.
impl From<&Message> for String {
    fn from(message: &Message) -> Self {
        match message {
            Message::Text(text) => text.clone().into_owned(),
            Message::Parts { subject, rest, .. } => [&**subject, rest].concat(),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
