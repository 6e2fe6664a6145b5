//! Messages of providers that are known as a whole.
//!
//! Providers' messages repeat their callers' words. So no failure is recognized by a phrase within a message: a message
//! counts only if it consists of known sentences, from its first word to its last.
//!
//! A kind follows from code, type and status. Where these lump kinds together, it follows from a message that consists
//! of known sentences from its first word to its last (the sentences stand beside each provider's `error.rs`). A page
//! in place of an error is `Blocked` under a 403.

/// The sentences that a message may consist of. In a sentence `#` stands for one number and `@` for one word of any
/// kind, such as a model's name or an address. Punctuation and case make no difference.
pub(crate) struct KnownMessage {
    /// One of these comes first.
    pub(crate) first: &'static [&'static str],
    /// Any of these may follow.
    pub(crate) then: &'static [&'static str],
}

impl KnownMessage {
    /// Returns true if a message consists of these sentences alone.
    pub(crate) fn is(&self, message: &str) -> bool {
        let words: Vec<&str> =
            message.split_whitespace().map(bare).filter(|word| !word.is_empty()).take(MOST).collect();
        // Brackets enclose a quotation.
        if words.len() == MOST || message.trim_start().starts_with(['(', '[']) {
            return false;
        }
        // A sentence may begin another one, so that all ways to divide the message count.
        let mut ends = vec![false; words.len() + 1];
        mark(self.first, &words, 0, &mut ends);
        for from in 1..words.len() {
            if ends[from] {
                mark(self.then, &words, from, &mut ends);
            }
        }
        ends[words.len()]
    }
}

/// No known message has as many words.
const MOST: usize = 120;

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
        let fits = match expected {
            "@" => true,
            "#" => is_number(word),
            expected => word.eq_ignore_ascii_case(expected),
        };
        if !fits {
            return None;
        }
        rest = more;
    }
    Some(rest)
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
