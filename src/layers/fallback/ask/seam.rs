//! The seam between a broken text and the text that goes on with it.

use std::sync::Arc;

/// The characters of the text so far that may come again at the beginning of the rest.
const LONGEST_OVERLAP: usize = 200;
/// The characters from which on a beginning that comes again is another answer, or the same one from its start.
const SURE: usize = 48;

/// Joins the text so far with the rest, which comes in pieces. What comes again is left out.
///
/// A model that was given the text so far may say the last words once more, or all of it. A text that repeats itself
/// (a table, a refrain) shows the same, so only an overlap that is no repetition within the text is left out.
pub(super) struct Seam {
    so_far: Arc<str>,
    /// The white space at the end of the text so far that the model was not given.
    tail: usize,
    /// The least overlap that is taken for one, in bytes.
    least: usize,
    held: String,
    /// True as long as what is held is the beginning of the text so far.
    begins_alike: bool,
    is_open: bool,
}

/// The rest is another answer, which begins as the text so far does.
#[derive(Debug, PartialEq)]
pub(super) struct BeginsAnew;

impl Seam {
    /// Creates the seam behind a text, of which the model was given all but so many bytes at its end.
    pub(super) fn new(so_far: Arc<str>, tail: usize, least: usize) -> Self {
        Self { so_far, tail, least, held: String::new(), begins_alike: true, is_open: false }
    }

    /// Takes a piece of the rest. Returns the text to show, which is empty while more must be known.
    pub(super) fn push(&mut self, piece: String) -> Result<String, BeginsAnew> {
        if self.is_open {
            return Ok(piece);
        }
        // Each piece is looked at once: the whole text so far may come again.
        self.begins_alike &=
            self.so_far.as_bytes()[self.held.len().min(self.so_far.len())..].starts_with(piece.as_bytes());
        self.held.push_str(&piece);
        if self.may_come_again() { Ok(String::new()) } else { self.open() }
    }

    /// Takes the end of the rest. Returns the text that was held.
    pub(super) fn finish(&mut self) -> Result<String, BeginsAnew> {
        if self.is_open { Ok(String::new()) } else { self.open() }
    }

    /// Returns whether what is held may be the beginning of something that is there already.
    fn may_come_again(&self) -> bool {
        let held = self.held.as_bytes();
        let so_far = self.so_far.as_bytes();
        let is_beginning_of = |text: &[u8]| held.len() < text.len() && text.starts_with(held);
        is_beginning_of(&so_far[so_far.len() - self.tail..])
            || self.begins_alike && held.len() < so_far.len()
            || self.ends().any(|end| is_beginning_of(end.as_bytes()))
    }

    /// The ends of the text so far that may come again, the longest first.
    fn ends(&self) -> impl Iterator<Item = &str> {
        let from = self.so_far.char_indices().rev().nth(LONGEST_OVERLAP - 1).map_or(0, |(at, _)| at);
        let ends = self.so_far[from..].char_indices().map(move |(at, _)| &self.so_far[from + at..]);
        ends.filter(|end| end.len() >= self.least)
    }

    fn open(&mut self) -> Result<String, BeginsAnew> {
        self.is_open = true;
        let held = std::mem::take(&mut self.held);
        let so_far = &*self.so_far;
        let common = so_far.bytes().zip(held.bytes()).take_while(|(one, other)| one == other).count();
        if common == so_far.len() && !repeats(so_far) && common >= self.least {
            return Ok(held[common..].to_owned());
        }
        if common >= SURE {
            return Err(BeginsAnew);
        }
        let again = self.ends().find(|end| held.starts_with(end));
        if let Some(end) = again.filter(|end| !repeats(end) && !so_far[..so_far.len() - end.len()].ends_with(end)) {
            return Ok(held[end.len()..].to_owned());
        }
        let tail = &so_far[so_far.len() - self.tail..];
        let space = tail.bytes().zip(held.bytes()).take_while(|(one, other)| one == other).count();
        Ok(held[space..].to_owned())
    }
}

/// Returns whether a text is a shorter one again and again.
fn repeats(text: &str) -> bool {
    let bytes = text.as_bytes();
    // The longest beginning that is an end too, by Knuth, Morris and Pratt.
    let mut borders = vec![0; bytes.len()];
    let mut border = 0;
    for at in 1..bytes.len() {
        while border > 0 && bytes[at] != bytes[border] {
            border = borders[border - 1];
        }
        border += usize::from(bytes[at] == bytes[border]);
        borders[at] = border;
    }
    border * 2 >= bytes.len().max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(so_far: &str, pieces: &[&str], least: usize) -> Result<String, BeginsAnew> {
        let tail = so_far.len() - so_far.trim_end().len();
        let mut seam = Seam::new(so_far.into(), tail, least);
        let mut text = so_far.to_owned();
        for piece in pieces {
            text.push_str(&seam.push((*piece).to_owned())?);
        }
        text.push_str(&seam.finish()?);
        Ok(text)
    }

    #[test]
    fn the_rest_follows_at_the_character() {
        let cases: [(&str, &[&str], &str); 13] = [
            ("Hello wor", &["ld", "!"], "Hello world!"),
            ("Hello ", &["world"], "Hello world"),
            ("Hello ", &[" world"], "Hello world"),
            ("Hello", &[" world"], "Hello world"),
            ("One.\n", &["\n", "Two."], "One.\nTwo."),
            ("One.\n", &["\n\n", "Two."], "One.\n\nTwo."),
            ("One. ", &["\n\nTwo."], "One. \n\nTwo."),
            // Repeated words at the end, and the whole beginning.
            ("The quick brown fox jumps", &["quick brown fox", " jumps over"], "The quick brown fox jumps over"),
            ("The quick brown fox jumps", &["The quick brown fox jumps over"], "The quick brown fox jumps over"),
            // A text that repeats itself goes on to do so.
            ("ha ha ha ha ha ha ", &["ha ha ha ha ha ha "], "ha ha ha ha ha ha ha ha ha ha ha ha "),
            (
                "| a | 0 | 0 | 0 |\n| a | 0 | 0 | 0 |\n",
                &["| a | 0 | 0 | 0 |\n"],
                "| a | 0 | 0 | 0 |\n| a | 0 | 0 | 0 |\n| a | 0 | 0 | 0 |\n",
            ),
            // A short one may be the text's own.
            ("She said that that", &[" that"], "She said that that that"),
            ("naïve café, naï", &["ve café"], "naïve café, naïve café"),
        ];
        for (so_far, pieces, whole) in cases {
            assert_eq!(joined(so_far, pieces, 16).as_deref(), Ok(whole), "{so_far:?} {pieces:?}");
        }
    }

    #[test]
    fn an_answer_that_begins_anew_in_other_words_is_none() {
        let so_far = "The three reasons are these, in the order of their weight: first, the cost.";
        let anew = "The three reasons are these, in the order of their weight: to begin with, the";
        assert_eq!(joined(so_far, &[anew], 16), Err(BeginsAnew));
        assert_eq!(joined(so_far, &["The three reasons are these, in the order of their we"], 16), Err(BeginsAnew));
    }

    const LETTERS: [char; 14] = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'k', 'n', 'ä', 'ß', '日'];

    #[test]
    fn a_long_text_may_come_again_in_small_pieces() {
        let mut random = fastrand::Rng::with_seed(1);
        let text: String = (0..1 << 20).map(|_| random.alphabetic()).collect();
        let pieces: Vec<&str> = (0..text.len()).step_by(4).map(|at| &text[at..at + 4]).chain([" more"]).collect();
        assert!(joined(&text, &pieces, 16).unwrap() == format!("{text} more"));
    }

    proptest! {
        /// A model that goes on at the character, and one that says up to 200 characters again: the same text.
        #[test]
        fn no_character_is_lost_or_doubled(
            seed in any::<u64>(),
            cut in 30_usize..400,
            again in prop_oneof![Just(0_usize), 16_usize..200],
            piece in 1_usize..40,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let word = |random: &mut fastrand::Rng| -> String {
                (0..random.usize(1..9)).map(|_| *random.choice(&LETTERS).unwrap()).collect()
            };
            let whole: Vec<char> = (0..120).map(|_| word(&mut random)).collect::<Vec<_>>().join(" ").chars().collect();
            let cut = cut.min(whole.len());
            let so_far: String = whole[..cut].iter().collect();
            let rest: String = whole[cut - again.min(cut)..].iter().collect();
            let pieces: Vec<String> =
                rest.chars().collect::<Vec<_>>().chunks(piece).map(|piece| piece.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(joined(&so_far, &pieces, 16).unwrap(), whole.iter().collect::<String>());
        }
    }
}
