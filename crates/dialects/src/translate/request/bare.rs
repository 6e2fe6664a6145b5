//! An answer that is one of several words: Gemini gives the word without the quotes of JSON (`text/x.enum`), and other
//! models, which are held to a schema, with them.

use serde_json::Value;

use crate::{
    StreamEvent,
    chat::{Chat, Message, Part},
    fields::{Object, word},
};

/// Returns true if a caller of Gemini's dialect asks for a bare word.
pub(super) fn is_wanted(chat: &Chat) -> bool {
    let kind = |chat: &Chat| {
        let extra = chat.extra.as_ref()?;
        let config = Object::read(extra.fields.raw(), &["generationConfig", "generation_config"]).ok()?;
        let config = config.either(&["generationConfig", "generation_config"])?;
        let config = Object::read(config, &["responseMimeType", "response_mime_type"]).ok()?;
        Some(config.either(&["responseMimeType", "response_mime_type"]).and_then(word)? == "text/x.enum")
    };
    chat.output.is_some() && kind(chat) == Some(true)
}

/// Takes the quotes off an answer. A text of another form stays as it is.
///
/// A stream shows late that it is of another form, as `"Yes" is right` does: it lacks the quote that it began with.
#[derive(Clone, Debug, Default)]
pub(super) struct Bare {
    state: State,
    /// White space before or behind the text, or an escape in it, as far as it came.
    held: String,
    /// The index of the part that is read.
    part: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Begin,
    Text,
    Escape,
    /// Behind the text.
    After,
    /// The text has no quotes.
    Other,
}

impl Bare {
    /// Takes them off a whole answer.
    pub(super) fn message(message: &mut Message) {
        for part in &mut message.content {
            if let Part::Text(text) = part
                && let Ok(Value::String(bare)) = serde_json::from_str(text)
            {
                *text = bare;
            }
        }
    }

    /// Takes them off a piece of a stream.
    pub(super) fn event(&mut self, event: &mut StreamEvent) {
        if let StreamEvent::Text { index, text } = event {
            if self.part != *index {
                *self = Self { part: *index, ..Self::default() };
            }
            self.text(text);
        }
    }

    fn text(&mut self, text: &mut String) {
        let mut bare = String::with_capacity(text.len());
        for letter in text.chars() {
            match (self.state, letter) {
                (State::Begin, '"') => (self.state, self.held) = (State::Text, String::new()),
                (State::Begin | State::After, ' ' | '\t' | '\n' | '\r') => self.held.push(letter),
                (State::Begin, letter) => {
                    self.state = State::Other;
                    bare.push_str(&std::mem::take(&mut self.held));
                    bare.push(letter);
                }
                (State::Text, '"') => self.state = State::After,
                (State::Text, '\\') => (self.state, self.held) = (State::Escape, letter.into()),
                (State::Escape, letter) => {
                    self.held.push(letter);
                    if is_whole(&self.held) {
                        self.state = State::Text;
                        let escape = std::mem::take(&mut self.held);
                        bare.push_str(&serde_json::from_str(&format!("\"{escape}\"")).unwrap_or(escape));
                    }
                }
                (State::After, letter) => {
                    self.state = State::Other;
                    bare.push('"');
                    bare.push_str(&std::mem::take(&mut self.held));
                    bare.push(letter);
                }
                (State::Text | State::Other, letter) => bare.push(letter),
            }
        }
        *text = bare;
    }
}

/// Returns true if an escape is complete. Some letters are two of them.
fn is_whole(escape: &str) -> bool {
    let Some(digits) = escape.strip_prefix("\\u") else { return true };
    let is_first_half = digits.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match is_first_half {
        Some(0xd800..=0xdbff) => escape.len() >= 12,
        Some(_) => true,
        None => escape.len() >= 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a text in pieces of so many letters.
    fn read(text: &str, size: usize) -> String {
        let (letters, mut bare) = (text.chars().collect::<Vec<_>>(), Bare::default());
        let pieces = letters.chunks(size).map(|piece| {
            let mut event = StreamEvent::Text { index: 0, text: piece.iter().collect() };
            bare.event(&mut event);
            match event {
                StreamEvent::Text { text, .. } => text,
                _ => String::new(),
            }
        });
        pieces.collect()
    }

    #[test]
    fn quotes_are_taken_off_whatever_the_pieces() {
        for word in ["A", "", "two words", "\"", "\\", "a\nb", "\u{1}", "ü😀", "\\u0041"] {
            let escaped = word.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect::<String>();
            let mut texts = vec![Value::from(word).to_string(), format!(" \n{}\n ", Value::from(word))];
            if word.is_ascii() {
                texts.push(format!("\"{escaped}\""));
            }
            for text in texts {
                for size in [1, 2, 3, 7, 1000] {
                    assert_eq!(read(&text, size), word, "{text} in pieces of {size}");
                }
                let mut message = Message::assistant(text);
                Bare::message(&mut message);
                assert_eq!(message.text(), word);
            }
        }
        assert_eq!(read(r#""\ud83d\ude00""#, 3), "😀");
    }

    /// A whole answer is of another form as a whole. A streamed one has lost its first quote by then, and nothing else.
    #[test]
    fn a_text_behind_the_quotes_stays() {
        for text in [
            r#""Yes" is right"#,
            "\"Yes\" \n\t is\n",
            r#""Yes"""#,
            r#""A" "B" "C""#,
            r#""A", or \"B\""#,
            "\"Yes\"\u{a0}",
            r#""" empty"#,
        ] {
            let mut message = Message::assistant(text);
            Bare::message(&mut message);
            assert_eq!(message.text(), text);
            for size in [1, 2, 3, 1000] {
                assert_eq!(read(text, size), message.text()[1..], "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn each_part_has_its_own_quotes() {
        let mut bare = Bare::default();
        let pieces =
            [(0, "\"A"), (0, "\" "), (2, " \"B\""), (3, "C\""), (4, "\"D\" "), (4, "!")].map(|(index, text)| {
                let mut event = StreamEvent::Text { index, text: text.into() };
                bare.event(&mut event);
                event
            });
        let expected = [(0, "A"), (0, ""), (2, "B"), (3, "C\""), (4, "D"), (4, "\" !")];
        for (event, (at, words)) in pieces.iter().zip(expected) {
            assert!(matches!(event, StreamEvent::Text { index, text } if *index == at && text == words), "{event:?}");
        }
    }

    #[test]
    fn another_text_stays_as_it_is() {
        for text in ["", "A", " A ", "\u{a0}\"A\"", "I cannot \"say\".", "{\"a\": 1}", "7", "[\"A\"]"] {
            for size in [1, 2, 1000] {
                assert_eq!(read(text, size), text);
            }
            let mut message = Message::assistant(text);
            Bare::message(&mut message);
            assert_eq!(message.text(), text);
        }
    }
}
