//! Messages of providers that are known as a whole.
//!
//! Providers' messages repeat their callers' words. So no failure is recognized by a phrase within a message: a message
//! counts only if it consists of known sentences, from its first word to its last. The words that servers on the way
//! put around another's message are no part of it (`wrapping`).
//!
//! A kind follows from code, type and status. Where these lump kinds together, it follows from a message that consists
//! of known sentences. The `table` has codes and sentences of all servers. Those that only one provider uses, for
//! something else than a kind, stand beside its `error.rs`. A page in place of an error is `Blocked` under a 403.

mod literal;
mod table;
mod wrapping;

pub(crate) use self::{
    table::{kind_of_message, kind_of_name, kind_of_number},
    wrapping::{Inside, unwrapped},
};

/// The sentences that a message may consist of. In a sentence `#` stands for one number and `@` for one word of any
/// kind, such as a model's name or an address. Punctuation and case make no difference.
#[derive(Clone, Copy, Debug)]
pub struct KnownMessage {
    /// One of these comes first.
    pub first: &'static [&'static str],
    /// Any of these may follow.
    pub then: &'static [&'static str],
}

impl KnownMessage {
    /// Returns true if a message consists of these sentences alone.
    pub fn is(&self, message: &str) -> bool {
        Words::of(message).is_some_and(|words| words.consist_of(self.first, &[self.then, table::endings()]))
    }
}

/// The words of a message without its punctuation.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    /// Returns `None` for a message that cannot be known.
    fn of(message: &'a str) -> Option<Self> {
        let parts = message.split(|letter: char| letter.is_whitespace() || OF_CHINESE.contains(&letter));
        let words: Vec<&str> = parts.map(bare).filter(|word| !word.is_empty()).take(MOST).collect();
        // Brackets enclose a quotation.
        (words.len() < MOST && !message.trim_start().starts_with(['(', '['])).then_some(Self(words))
    }

    /// Returns true if one of the first sentences begins it, and others alone follow.
    fn consist_of(&self, first: &[&str], then: &[&[&str]]) -> bool {
        let words = &self.0;
        // A sentence may begin another one, so that all ways to divide the message count.
        let mut ends = vec![false; words.len() + 1];
        mark(first, words, 0, &mut ends);
        for from in 1..words.len() {
            if ends[from] {
                then.iter().for_each(|sentences| mark(sentences, words, from, &mut ends));
            }
        }
        ends[words.len()]
    }
}

/// No known message has as many words.
const MOST: usize = 120;

/// Punctuation that no space follows.
const OF_CHINESE: [char; 8] = ['，', '。', '：', '；', '！', '、', '（', '）'];

/// Marks the ends of the sentences that begin at a word.
fn mark(sentences: &[&str], words: &[&str], from: usize, ends: &mut [bool]) {
    for rest in sentences.iter().filter_map(|sentence| after(sentence, &words[from..])) {
        ends[words.len() - rest.len()] = true;
    }
}

fn after<'a, 'b>(sentence: &str, words: &'a [&'b str]) -> Option<&'a [&'b str]> {
    let mut rest = words;
    for expected in sentence.split(' ') {
        let (word, more) = rest.split_first()?;
        if !fits(expected, word) {
            return None;
        }
        rest = more;
    }
    Some(rest)
}

/// Returns whether a word is the expected one. An `@` at its end stands for the rest of a word.
fn fits(expected: &str, word: &str) -> bool {
    match expected {
        "#" => is_number(word),
        expected => match expected.strip_suffix('@') {
            Some(begin) => word.get(..begin.len()).is_some_and(|word| word.eq_ignore_ascii_case(begin)),
            None => word.eq_ignore_ascii_case(expected),
        },
    }
}

fn bare(word: &str) -> &str {
    word.trim_start_matches('(').trim_end_matches(['.', ',', ';', ':', '!', ')'])
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.bytes().all(|c| matches!(c, b'0'..=b'9' | b'.' | b',' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: KnownMessage = KnownMessage {
        first: &["the limit is # tokens", "the limit"],
        then: &["you asked for #", "see @", "# in the messages"],
    };

    #[test]
    fn a_sentence_may_begin_another_one() {
        const KEY: KnownMessage = KnownMessage { first: &["bad key", "bad key @"], then: &["get one at @"] };
        for message in ["Bad key.", "Bad key: x***.", "Bad key. Get one at https://x.", "Bad key: x***. Get one at y."]
        {
            assert!(KEY.is(message), "{message}");
        }
        assert!(!KEY.is("Bad key. Get one.") && !KEY.is("Get one at x."));
    }

    #[test]
    fn a_message_is_known_as_a_whole_or_not_at_all() {
        for message in [
            "The limit is 1,000 tokens.",
            "The limit is 1000 tokens. You asked for 20 (20 in the messages); see https://example.com/x?y.",
            "the limit",
            "The limit is 1000 tokens (request id: 20260101)",
        ] {
            assert!(LONG.is(message), "{message}");
        }
        for message in [
            "",
            "...",
            "The limit is many tokens.",
            "Unknown field: The limit is 1000 tokens",
            "The limit is 1000 tokens is no known field",
            "'The limit is 1000 tokens' is no known field",
            "'The limit is 1000 tokens'",
            "(The limit is 1000 tokens)",
            "you asked for 20",
        ] {
            assert!(!LONG.is(message), "{message}");
        }
        assert!(!LONG.is(&format!("the limit{}", " see x".repeat(100_000))), "longer than any");
    }
}
