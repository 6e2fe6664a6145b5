//! A request as it is written down, and a request again of what was written.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    Dialect, ErrorKind, LlmError, LlmRequest, Wire,
    chat::{Chat, Role},
};

/// What was asked, as a task keeps it: the caller's own bytes, or the neutral form.
///
/// The caller's headers are not kept, for they may hold keys, nor are values of your own that a request carries.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoredRequest {
    /// A request that came in wire form.
    Wire {
        /// Its dialect.
        dialect: Dialect,
        /// Its body.
        body: String,
        /// The model that it names, in its body or its path.
        model: Option<String>,
        /// Whether its answer was asked for as a stream.
        stream: bool,
        /// The longest answer, where a layer has set another than the body says.
        max_tokens: Option<u32>,
    },
    /// A request that was made in the program.
    Chat {
        /// What it says.
        chat: Box<Chat>,
    },
}

impl StoredRequest {
    /// What is kept of a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] where its bytes are not text.
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

    /// The request again, without feature, session and the like.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] where the bytes are no request of their dialect.
    pub fn request(&self) -> Result<LlmRequest, LlmError> {
        match self {
            Self::Chat { chat } => Ok(LlmRequest::from(Chat::clone(chat))),
            Self::Wire { dialect, body, model, stream, max_tokens } => {
                let mut wire = Wire::new(*dialect, body.clone())?;
                if let Some(model) = model {
                    // Where the body names it too, it is the same.
                    wire = wire.path(model.as_str(), *stream);
                }
                let request = LlmRequest::from(wire).stream(*stream);
                Ok(match max_tokens {
                    Some(tokens) => request.max_tokens(*tokens),
                    None => request,
                })
            }
        }
    }

    /// What was asked in the neutral form, for a person to read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] where the bytes are no request of their dialect.
    pub fn chat(&self) -> Result<Cow<'_, Chat>, LlmError> {
        match self {
            Self::Chat { chat } => Ok(Cow::Borrowed(chat)),
            Self::Wire { .. } => Ok(Cow::Owned(self.request()?.chat()?.clone())),
        }
    }

    /// The beginning of the last thing that the user said: so many characters at most, on one line.
    pub fn preview(&self, characters: usize) -> String {
        let Ok(chat) = self.chat() else { return String::new() };
        let said = chat.messages.iter().rev().filter(|message| message.role == Role::User);
        let texts = said.map(crate::chat::Message::text);
        let text = texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default();
        shortened(&text, characters)
    }

    /// How many bytes it takes, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Wire { body, .. } => body.len(),
            Self::Chat { chat } => {
                let parts = chat.messages.iter().flat_map(|message| &message.content).map(crate::chat::Part::size);
                parts.sum::<usize>() + chat.system.as_ref().map_or(0, String::len)
            }
        }
    }
}

impl fmt::Debug for StoredRequest {
    /// Shows nothing of what is asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Self::Wire { dialect, .. } => format!("Wire({dialect})"),
            Self::Chat { .. } => "Chat".to_owned(),
        };
        f.debug_struct("StoredRequest").field("form", &form).field("bytes", &self.size()).finish_non_exhaustive()
    }
}

/// The text on one line, at most so many characters of it: cut ones end in `…`, which counts.
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
                // Where not even a mark would fit, the last character makes room for it.
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
    use crate::chat::Message;

    #[test]
    fn the_callers_own_bytes_come_back_as_they_were() {
        let body = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hé"}],"odd":1.0e2}"#;
        let request = LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap()).max_tokens(9);
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
