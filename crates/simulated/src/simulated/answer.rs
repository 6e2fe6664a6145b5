//! The content of a simulated provider's answers.

use std::sync::Arc;

/// The words of a made-up answer.
const WORDS: [&str; 24] = [
    "A ",
    "closure ",
    "is ",
    "a ",
    "function ",
    "that ",
    "keeps ",
    "the ",
    "values ",
    "around ",
    "it, ",
    "so ",
    "that ",
    "you ",
    "can ",
    "call ",
    "it ",
    "later ",
    "and ",
    "elsewhere ",
    "with ",
    "them ",
    "still ",
    "there. ",
];

/// The content of answers, apart from their speed.
#[derive(Clone, Debug, Default)]
pub struct Voice {
    reply: Option<Arc<[Box<str>]>>,
    /// True if the reply was given as JSON.
    is_json: bool,
    tool_arguments: Option<Arc<serde_json::Value>>,
    /// The names and arguments of the calls of a turn, in order.
    calls: Arc<[(String, serde_json::Value)]>,
}

impl Voice {
    pub(crate) fn set_reply(&mut self, text: &str) {
        self.reply = Some(text.split_inclusive(' ').map(Box::from).collect());
        self.is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    }

    /// Sets the reply to these pieces alone.
    pub(super) fn set_pieces(&mut self, pieces: Vec<String>) {
        self.reply = Some(pieces.into_iter().map(String::into_boxed_str).collect());
    }

    /// Returns true if the reply was given as JSON.
    pub(super) fn replies_json(&self) -> bool {
        self.is_json
    }

    /// Sets the reply to the rest behind this beginning of its first `length` tokens, if it begins so. Returns the
    /// length of the rest, in tokens.
    pub(super) fn go_on(&mut self, begun: &str, length: u32) -> Option<u32> {
        let mut left = begun;
        let rest = (0..length).find_map(|index| {
            let token = self.token(index);
            if let Some(behind) = left.strip_prefix(token) {
                left = behind;
                return None;
            }
            Some(token.strip_prefix(left).map(|rest| (index, rest.to_owned())))
        });
        let (index, first) = rest.flatten()?;
        let further = (index + 1..length).map(|index| self.token(index).to_owned());
        self.set_pieces([first].into_iter().chain(further).collect());
        self.length()
    }

    /// Returns some of its words, for any text.
    pub(super) fn filler(&self) -> String {
        (0..self.length().unwrap_or(4)).map(|index| self.token(index)).collect::<String>().trim_end().to_owned()
    }

    pub(crate) fn set_tool_arguments(&mut self, arguments: serde_json::Value) {
        self.tool_arguments = Some(Arc::new(arguments));
    }

    pub(crate) fn set_calls(&mut self, calls: impl IntoIterator<Item = (String, serde_json::Value)>) {
        self.calls = calls.into_iter().collect();
    }

    /// Returns the name and the arguments of a turn's call number `index`.
    pub(super) fn call(&self, index: usize) -> Option<&(String, serde_json::Value)> {
        self.calls.get(index)
    }

    /// Returns the length of a fixed reply, in tokens.
    pub(crate) fn length(&self) -> Option<u32> {
        let reply = self.reply.as_ref()?;
        Some(u32::try_from(reply.len()).unwrap_or(u32::MAX))
    }

    /// Returns the arguments for a tool call, if tools are called.
    pub(crate) fn tool_arguments(&self) -> Option<&serde_json::Value> {
        self.tool_arguments.as_deref()
    }

    /// Returns the text of token `index`.
    pub fn token(&self, index: u32) -> &str {
        let index = index as usize;
        match &self.reply {
            Some(reply) => reply.get(index).map_or("", |token| token),
            None => WORDS[index % WORDS.len()],
        }
    }
}

/// Cuts a text into pieces of some eight characters, as JSON is streamed.
pub fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(8).map(|piece| piece.iter().collect()).collect()
}

/// Estimates the tokens of a text from its bytes: four bytes each, as in English.
pub fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_reply_is_spoken_word_by_word_and_whole() {
        let mut voice = Voice::default();
        voice.set_reply("Grüße aus 東京,\nyou  two!");
        let spoken: String = (0..voice.length().unwrap()).map(|i| voice.token(i)).collect();
        assert_eq!(spoken, "Grüße aus 東京,\nyou  two!");
        assert_eq!(voice.token(99), "");
    }

    #[test]
    fn an_unwritten_answer_has_any_length() {
        let voice = Voice::default();
        assert_eq!(voice.length(), None);
        assert!((0..100).all(|i| !voice.token(i).is_empty()));
    }
}
