//! The similarity of two short texts, by their words.
//!
//! The measure is the cosine between the counts of words and of pairs of neighbouring words: no model, no weights,
//! the same everywhere. It compares wording, not meaning, so it errs on both sides: another wording of a question
//! looks different, and a "not" in a long one hardly counts. Words with digits in them must be the same: order 17
//! is not like order 18.

use std::hash::{DefaultHasher, Hasher as _};

/// The words of a text and the pairs of them, by their hashes, counted.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// In rising order.
    counts: Vec<(u64, f32)>,
    /// The words with digits, in rising order.
    figures: Vec<u64>,
    length: f32,
}

impl Words {
    /// Counts the words of a text.
    pub fn of(text: &str) -> Self {
        let mut figures = Vec::new();
        let mut grams = Vec::new();
        let mut before = None;
        for word in split(text) {
            let word = word.to_lowercase();
            let hash = hash_of(&word);
            if word.chars().any(char::is_numeric) {
                figures.push(hash);
            }
            grams.push(hash);
            grams.extend(before.map(|before: u64| hash_of(&(before, hash))));
            before = Some(hash);
        }
        figures.sort_unstable();
        grams.sort_unstable();
        let counts: Vec<(u64, f32)> = grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f32)).collect();
        let length = counts.iter().map(|(_, count)| count * count).sum::<f32>().sqrt();
        Self { counts, figures, length }
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the similarity, from 0, nothing in common, to 1, nearly the same words in the same order. It is 0 if
    /// the words with digits differ.
    pub fn similarity(&self, other: &Self) -> f32 {
        if self.figures == other.figures { self.cosine(other) } else { 0.0 }
    }

    /// Returns the similarity without regard to words with digits.
    pub fn cosine(&self, other: &Self) -> f32 {
        if self.is_empty() || other.is_empty() {
            return 0.0;
        }
        let (mut mine, mut theirs) = (self.counts.iter().peekable(), other.counts.iter().peekable());
        let mut common = 0.0;
        while let (Some((a, of_mine)), Some((b, of_theirs))) = (mine.peek(), theirs.peek()) {
            match a.cmp(b) {
                std::cmp::Ordering::Less => drop(mine.next()),
                std::cmp::Ordering::Greater => drop(theirs.next()),
                std::cmp::Ordering::Equal => {
                    common += of_mine * of_theirs;
                    mine.next();
                    theirs.next();
                }
            }
        }
        (common / (self.length * other.length)).clamp(0.0, 1.0)
    }
}

fn hash_of(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Splits a text into words. In scripts that write no spaces, each letter is a word: the pairs compensate for that.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.flat_map(|word| {
        let spaced = !word.chars().any(|letter| letter >= '\u{2e80}');
        let letters = if spaced { None } else { Some(word.char_indices().map(|(at, l)| &word[at..at + l.len_utf8()])) };
        spaced.then_some(word).into_iter().chain(letters.into_iter().flatten())
    })
}
#[cfg(test)]
mod tests {
    use super::*;

    fn similarity(a: &str, b: &str) -> f32 {
        let (a, b) = (Words::of(a), Words::of(b));
        assert!((a.similarity(&b) - b.similarity(&a)).abs() < 1e-6, "it is the same both ways");
        a.similarity(&b)
    }

    #[test]
    fn case_and_marks_do_not_count() {
        assert!(similarity("How do I reset my password?", "how do I   reset my PASSWORD") > 0.999);
        assert!(similarity("Ärger mit Straßen", "ärger, mit straßen!") > 0.999);
    }

    #[test]
    fn another_wording_is_less_alike_and_another_question_hardly() {
        let asked = "How do I reset my password?";
        let near = similarity(asked, "How can I reset my password?");
        let far = similarity(asked, "How do I delete my account?");
        assert!((0.6..0.9).contains(&near), "{near}");
        assert!(far < 0.6 && far < near - 0.1, "{far}");
        assert_eq!(similarity(asked, "Wie wird das Wetter?"), 0.0);
    }

    #[test]
    fn figures_must_be_the_same() {
        assert_eq!(similarity("where is my order number 17", "where is my order number 18"), 0.0);
        assert!(similarity("where is my order number 17", "Where is my order, number 17?") > 0.999);
    }

    #[test]
    fn scripts_without_spaces_are_compared_letter_by_letter() {
        let near = similarity("如何重置我的密码", "怎么重置我的密码");
        assert!((0.5..0.95).contains(&near), "{near}");
    }

    #[test]
    fn nothing_is_like_nothing() {
        assert!(Words::of(" ?! ").is_empty());
        assert_eq!(similarity("", ""), 0.0);
    }
}
