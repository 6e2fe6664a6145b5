use std::fmt;

use tokio::time::Instant;

use crate::{
    events::RequestEnded,
    internal::sync::{Mutex, MutexGuard, lock},
    prices::Price,
};

/// A stream whose end is still to come: when its request began, and what is known of it so far.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) begun: Instant,
    pub(super) told: RequestEnded,
    /// The price of the model whose place a route took: the tokens are known at the end.
    pub(super) without_route: Option<Price>,
}

/// The streams under way, by a number that is used again when its stream has ended: so that in the long run none of them
/// costs an allocation. There is room for as many as there were at once.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Places>);

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    /// The first of those that are free.
    free: Option<u32>,
    taken: usize,
}

#[expect(clippy::large_enum_variant, reason = "a place is as large as what it is for; a box would be an allocation")]
enum Place {
    Taken(Stream),
    /// And the next that is free.
    Free(Option<u32>),
}

impl UnderWay {
    /// Keeps a stream, and gives its number.
    pub(super) fn keep(&self, stream: Stream) -> u32 {
        let mut all = self.lock();
        all.taken += 1;
        let Some(number) = all.free else {
            let number = u32::try_from(all.places.len()).expect("memory ends long before the numbers do");
            all.places.push(Place::Taken(stream));
            return number;
        };
        let Some(place) = all.places.get_mut(number as usize) else { unreachable!("places are never given up") };
        let before = std::mem::replace(place, Place::Taken(stream));
        all.free = match before {
            Place::Free(next) => next,
            Place::Taken(_) => unreachable!("a free place was taken"),
        };
        number
    }

    /// Takes the stream of this number out. A number is good for once.
    pub(super) fn take(&self, number: u32) -> Option<Stream> {
        let mut all = self.lock();
        let next = all.free;
        let place = all.places.get_mut(number as usize)?;
        match std::mem::replace(place, Place::Free(next)) {
            Place::Taken(stream) => {
                all.free = Some(number);
                all.taken -= 1;
                Some(stream)
            }
            before => {
                *place = before;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Nothing in here panics in the middle of a change.
        lock(&self.0)
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} streams", self.lock().taken)
    }
}
