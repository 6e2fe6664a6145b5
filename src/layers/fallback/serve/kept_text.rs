//! The room for the texts of streams that another call may go on with: a provider may send any amount of text.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::State;
use crate::body::FREE_ANSWER;

/// The longest text that is kept, in bytes.
const LONGEST: usize = 1 << 20;
/// The most bytes that all texts of a fallback have beyond the [free ones](FREE_ANSWER).
const ROOM: usize = 64 << 20;

/// The bytes beyond the free ones that all texts have.
#[derive(Debug, Default)]
pub(crate) struct TextRoom(AtomicUsize);

/// A text that grows while its stream runs. Dropping it gives its room back.
pub(crate) struct KeptText {
    state: Arc<State>,
    taken: usize,
    text: String,
}

impl KeptText {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { state, taken: 0, text: String::new() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Adds a piece. Returns false, and keeps nothing, if the text is too long or there is no room.
    pub(crate) fn push(&mut self, piece: &str) -> bool {
        let length = self.text.len() + piece.len();
        let fits = length <= LONGEST && self.take(length);
        if fits {
            self.text.push_str(piece);
        } else {
            *self = Self::new(self.state.clone());
        }
        fits
    }

    /// Takes the room for a text of this length.
    fn take(&mut self, length: usize) -> bool {
        // In steps, so that few pieces touch what all streams share.
        let wanted = length.saturating_sub(FREE_ANSWER).next_multiple_of(FREE_ANSWER);
        let more = wanted.saturating_sub(self.taken);
        if more == 0 {
            return true;
        }
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= ROOM);
        let has_room = self.state.texts.0.fetch_update(Relaxed, Relaxed, fits).is_ok();
        self.taken += if has_room { more } else { 0 };
        has_room
    }
}

impl Drop for KeptText {
    fn drop(&mut self) {
        self.state.texts.0.fetch_sub(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_have_one_room_and_short_ones_need_none() {
        let state = Arc::new(State::new());
        let new = || KeptText::new(state.clone());
        let used = || state.texts.0.load(Relaxed);
        let piece = "a".repeat(1000);
        let mut short: Vec<_> = (0..100).map(|_| new()).collect();
        for text in &mut short {
            assert!((0..16).all(|_| text.push(&piece)));
        }
        assert_eq!(used(), 0);
        let mut long = Vec::new();
        loop {
            let mut text = new();
            let kept = (0..1000).take_while(|_| text.push(&piece)).count();
            assert!(used() <= ROOM);
            if kept < 1000 {
                assert_eq!(text.as_str(), "", "nothing of it is kept");
                break;
            }
            assert_eq!(text.as_str().len(), 1_000_000);
            long.push(text);
        }
        assert!((64..=ROOM / 900_000).contains(&long.len()), "{}", long.len());
        assert!((0..1).all(|_| short[0].push("b")), "a short one goes on");
        long.pop();
        assert!((0..100).all(|_| short[1].push(&piece)), "room that was given back is another's");
        drop((short, long));
        assert_eq!(used(), 0);
    }

    #[test]
    fn a_text_that_is_too_long_gives_its_room_back() {
        let mut text = KeptText::new(Arc::new(State::new()));
        let piece = "a".repeat(LONGEST / 4);
        assert_eq!([(); 5].map(|()| text.push(&piece)), [true, true, true, true, false]);
        assert_eq!((text.as_str(), text.state.texts.0.load(Relaxed)), ("", 0));
    }
}
