//! Stored requests: conversion of a request to storage and back.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use steadfast::{
    Dialect, ErrorKind, LlmError, LlmRequest, Wire,
    chat::{Chat, Role},
};

/// A task's request: the caller's own bytes, or the neutral form.
///
/// Headers are not stored, because they may contain keys, nor are extensions of a program's own types.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoredRequest {
    /// A request in wire form.
    Wire {
        /// Its dialect.
        dialect: Dialect,
        /// Its body.
        body: String,
        /// The model that its body or its path names.
        model: Option<String>,
        /// True if the request asked for a stream.
        stream: bool,
        /// The largest number of output tokens, if a layer has set another than the body's.
        max_tokens: Option<u32>,
    },
    /// A request that the program built.
    Chat {
        /// The conversation.
        chat: Box<Chat>,
    },
}

impl StoredRequest {
    /// Returns the stored form of a request.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidRequest`] if its bytes are not text.
    pub fn of(request: &LlmRequest) -> Result<Self, LlmError> {
        let Some(wire) = request.wire() else {
            return Ok(Self::Chat { chat: Box::new(request.chat()?.clone()) });
        };
        let body = std::str::from_utf8(wire.body())
            .map_err(|error| LlmError::new(ErrorKind::InvalidRequest, "the body is not UTF-8").with_source(error))?;
        Ok(Self::Wire {
            dialect: wire.dialect(),
            body: body.to_owned(),
            model: wire.model().map(str::to_owned),
            stream: wire.is_stream(),
            max_tokens: wire.max_tokens(),
        })
    }

    /// Rebuilds the request, without feature, session and the like.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidRequest`] if the bytes are no request of their dialect.
    pub fn request(&self) -> Result<LlmRequest, LlmError> {
        match self {
            Self::Chat { chat } => Ok(LlmRequest::from(Chat::clone(chat))),
            Self::Wire { dialect, body, model, stream, max_tokens } => {
                let mut wire = Wire::new(*dialect, body.clone())?;
                if let Some(model) = model {
                    // The body may name the model too, and then names the same one.
                    wire = wire.path(model.as_str(), *stream);
                }
                let request = LlmRequest::from(wire).with_stream(*stream);
                Ok(match max_tokens {
                    Some(tokens) => request.with_max_tokens(*tokens),
                    None => request,
                })
            }
        }
    }

    /// Returns the conversation in the neutral form, for a person to read.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::InvalidRequest`] if the bytes are no request of their dialect.
    pub fn chat(&self) -> Result<Cow<'_, Chat>, LlmError> {
        match self {
            Self::Chat { chat } => Ok(Cow::Borrowed(chat)),
            Self::Wire { .. } => Ok(Cow::Owned(self.request()?.chat()?.clone())),
        }
    }

    /// Returns the beginning of the user's last text, on one line, with at most this many characters.
    pub fn preview(&self, characters: usize) -> String {
        let Ok(chat) = self.chat() else { return String::new() };
        let said = chat.messages.iter().rev().filter(|message| message.role == Role::User);
        let texts = said.map(steadfast::chat::Message::text);
        let text = texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default();
        shortened(&text, characters)
    }

    /// Returns the approximate size in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Wire { body, .. } => body.len(),
            Self::Chat { chat } => {
                let parts = chat.messages.iter().flat_map(|message| &message.content).map(steadfast::chat::Part::size);
                parts.sum::<usize>() + chat.system.as_ref().map_or(0, String::len)
            }
        }
    }
}

impl fmt::Debug for StoredRequest {
    /// Hides the request's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Self::Wire { dialect, .. } => format!("Wire({dialect})"),
            Self::Chat { .. } => "Chat".to_owned(),
        };
        f.debug_struct("StoredRequest").field("form", &form).field("bytes", &self.size()).finish_non_exhaustive()
    }
}

/// Returns the text on one line, with at most this many characters. A cut text ends in `…`, which counts.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    let mut short = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let spaced = usize::from(count > 0);
        let length = word.chars().count();
        if count + spaced + length > characters {
            let room = characters.saturating_sub(count + spaced + 1);
            if spaced == 1 && room > 0 {
                short.push(' ');
            }
            short.extend(word.chars().take(room));
            if characters > 0 {
                // At full length, the mark takes the last character's place.
                if short.chars().count() >= characters {
                    short.pop();
                }
                short.push('…');
            }
            return short;
        }
        if spaced == 1 {
            short.push(' ');
        }
        short.push_str(word);
        count += spaced + length;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast::chat::Message;

    #[test]
    fn the_callers_own_bytes_come_back_as_they_were() {
        let body = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hé"}],"odd":1.0e2}"#;
        let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap()).with_max_tokens(9);
        let stored = StoredRequest::of(&request).unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        let again = serde_json::from_str::<StoredRequest>(&text).unwrap().request().unwrap();
        assert_eq!(again.wire().unwrap().body(), body.as_bytes());
        assert_eq!((again.model(), again.is_stream()), (Some("gpt-4o"), true));
        assert_eq!(again.chat().unwrap().max_tokens, Some(9));
        assert_eq!(stored.preview(200), "hé");
    }

    #[test]
    fn what_stood_in_the_path_comes_back_too() {
        let body = r#"{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}"#;
        let wire = Wire::new(Dialect::Gemini, body).unwrap().path("gemini-pro", true);
        let again = StoredRequest::of(&LlmRequest::from(wire)).unwrap().request().unwrap();
        assert_eq!((again.model(), again.is_stream()), (Some("gemini-pro"), true));
    }

    #[test]
    fn a_conversation_of_the_programs_own_comes_back_as_it_was() {
        let chat = Chat::new([Message::user("one"), Message::assistant("two"), Message::user("three")])
            .system("be brief")
            .max_tokens(5);
        let stored = StoredRequest::of(&LlmRequest::from(chat.clone())).unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        let again = serde_json::from_str::<StoredRequest>(&text).unwrap();
        assert_eq!(again.request().unwrap().chat().unwrap(), &chat);
        assert_eq!(again.preview(200), "three");
        assert!(!format!("{again:?}").contains("three"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let body = b"{\"model\":\"m\",\"messages\":[\"\xff\"]}".to_vec();
        if let Ok(wire) = Wire::new(Dialect::OpenAi, body) {
            assert_eq!(StoredRequest::of(&LlmRequest::from(wire)).unwrap_err().kind(), ErrorKind::InvalidRequest);
        }
    }

    #[test]
    fn a_preview_is_on_one_line_and_cut_between_characters() {
        assert_eq!(shortened("  a\nb\t c\u{7}d ", 10), "a b c d");
        assert_eq!(shortened("hello", 5), "hello");
        for (text, max) in [("helloo", 5), ("ab cd ef", 6), ("ééééééé", 3), ("ab cd", 4), ("ab cd", 3), ("abc", 1)]
        {
            let short = shortened(text, max);
            assert!(short.chars().count() <= max && short.ends_with('…'), "{short:?} of {text:?}");
        }
        assert_eq!(shortened("abc", 0), "");
    }
}
