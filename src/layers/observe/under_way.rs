use std::fmt;

use tokio::time::Instant;

use crate::{
    events::{Account, RequestEnded},
    internal::sync::{Mutex, MutexGuard, lock},
    prices::Price,
};

/// A stream that has not ended: the start of its request, and the facts known so far.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) begun: Instant,
    pub(super) account: Option<Box<dyn Account>>,
    pub(super) event: RequestEnded,
    /// The price of the model whose place a route took: the tokens are known at the end.
    pub(super) without_route: Option<Price>,
}

/// The streams under way, by a number that is reused after its stream has ended. In the long run no stream costs an
/// allocation. There is room for as many as there ever were at once.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Places>);

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    /// The first free slot.
    free: Option<u32>,
    taken: usize,
}

#[expect(clippy::large_enum_variant, reason = "a place is as large as what it is for; a box would be an allocation")]
enum Place {
    Taken(Stream),
    /// A free slot, with the next one.
    Free(Option<u32>),
}

impl UnderWay {
    /// Stores a stream, and returns its number.
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

    /// Removes the stream of this number. A number is valid once.
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
        // No change to the slots can panic half-way.
        lock(&self.0)
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} streams", self.lock().taken)
    }
}
