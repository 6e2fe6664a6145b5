//! The keys that have left their home, and where they went.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::time::Moment;
use crate::internal::mix::spread;

/// The time after which a key that moved goes home: by then the provider has forgotten the prefix, or nearly.
const MEMORY: Duration = Duration::from_secs(600);
/// The seconds of a tick. Ages are counted in 16 bits of ticks, which last for six days.
const TICK: u64 = 8;
/// The sets of the memory, and the keys of a set: 8,192 keys in 128 kB, made with the first one.
const SETS: usize = 2048;
const WAYS: usize = 4;

/// The memory of the keys that have left their home. They stay where they went until they rest for [ten
/// minutes](MEMORY), or until they have to move again.
///
/// It takes no lock, and its size is fixed: in a full set the key that rested longest is forgotten, and goes home. So a
/// caller with very many keys costs others a cold prefix at most, and cannot choose whose.
#[derive(Debug)]
pub(super) struct Moved {
    /// Chooses the sets, so that no caller knows which keys share one.
    seed: u64,
    entries: OnceLock<Box<[Entry]>>,
}

/// A key and its place, in two words without a lock, as in Hyatt and Mann, "A lock-less transposition table
/// implementation for parallel search" (2002). Halves of two writers fit no key.
#[derive(Debug, Default)]
struct Entry {
    /// The key, exclusive-or the place.
    check: AtomicU64,
    /// 0 if there is none.
    place: AtomicU64,
}

/// The deployment that a key moved to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// The number of the deployment, never 0.
    pub(super) id: u32,
    /// Its position when the key was stored.
    pub(super) at: u16,
}

impl Entry {
    fn place_of(&self, key: u64) -> Option<u64> {
        let (check, place) = (self.check.load(Relaxed), self.place.load(Relaxed));
        (place != 0 && check ^ place == key).then_some(place)
    }
}

impl Moved {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, entries: OnceLock::new() }
    }

    fn set<'a>(&self, entries: &'a [Entry], key: u64) -> &'a [Entry] {
        let set = (spread(key ^ self.seed) >> 32) as usize % SETS;
        &entries[set * WAYS..][..WAYS]
    }

    /// Returns the deployment that a key moved to.
    #[inline]
    pub(super) fn get(&self, key: u64, now: Moment) -> Option<Place> {
        // Most balancers never move a key.
        let entries = self.entries.get()?;
        let place = self.set(entries, key).iter().find_map(|entry| entry.place_of(key))?;
        let is_fresh = age(place, tick(now)) < (MEMORY.as_secs() / TICK) as u16;
        is_fresh.then_some(Place { id: (place >> 32) as u32, at: (place >> 16) as u16 })
    }

    /// Stores the deployment that a key goes to.
    pub(super) fn put(&self, key: u64, to: Place, now: Moment) {
        let tick = tick(now);
        let place = u64::from(to.id) << 32 | u64::from(to.at) << 16 | u64::from(tick);
        let entries = self.entries.get_or_init(|| (0..SETS * WAYS).map(|_| Entry::default()).collect());
        let set = self.set(entries, key);
        let entry = set.iter().find(|entry| entry.place_of(key).is_some()).or_else(|| {
            set.iter().max_by_key(|entry| match entry.place.load(Relaxed) {
                0 => u32::MAX,
                known => age(known, tick).into(),
            })
        });
        if let Some(entry) = entry
            && entry.place_of(key) != Some(place)
        {
            entry.place.store(place, Relaxed);
            entry.check.store(key ^ place, Relaxed);
        }
    }
}

fn tick(now: Moment) -> u16 {
    (now as u64 / TICK) as u16
}

/// Returns the ticks since a place was stored.
fn age(place: u64, tick: u16) -> u16 {
    // A clock that two threads read in another order makes no age.
    match tick.wrapping_sub(place as u16) {
        age if age > u16::MAX / 2 => 0,
        age => age,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place { id: 7, at: 3 };

    #[test]
    fn a_key_is_known_for_ten_minutes_after_its_last_use() {
        let (now, tick, memory) = (0.0, TICK as f64, MEMORY.as_secs_f64());
        let moved = Moved::new(1);
        assert_eq!(moved.get(1, now), None);
        moved.put(1, HERE, now);
        assert_eq!((moved.get(1, now), moved.get(2, now)), (Some(HERE), None));
        let later = now + memory - tick;
        assert_eq!(moved.get(1, later), Some(HERE));
        moved.put(1, HERE, later);
        assert_eq!(moved.get(1, later + memory - tick), Some(HERE));
        assert_eq!(moved.get(1, later + memory), None);
        moved.put(0, HERE, later);
        assert_eq!(moved.get(0, later), Some(HERE), "the key 0 is a key");
        let there = Place { id: 8, at: 0 };
        moved.put(0, there, later);
        assert_eq!(moved.get(0, later), Some(there));
    }

    #[test]
    fn the_memory_is_bounded_and_a_key_in_use_outlasts_a_flood() {
        let (now, flood) = (0.0, 100_000_u32);
        let moved = Moved::new(1);
        // A key in use is younger than those of the flood.
        let mut lost = 0;
        for key in 0..flood {
            let at = now + f64::from(key) * 0.005;
            moved.put(spread(u64::from(key) + 1), HERE, at);
            if key.is_multiple_of(100) {
                lost += usize::from(moved.get(1, at).is_none() && key > 0);
                moved.put(1, HERE, at);
            }
        }
        assert_eq!(moved.entries.get().unwrap().len(), SETS * WAYS);
        assert_eq!(lost, 0, "it was used each half second");
        let kept = (0..flood).filter(|key| moved.get(spread(u64::from(*key) + 1), now).is_some()).count();
        assert!(kept <= SETS * WAYS, "{kept}");
    }

    #[test]
    fn writers_at_once_leave_no_wrong_place() {
        let (moved, now) = (Moved::new(1), 0.0);
        std::thread::scope(|scope| {
            for writer in 0..4_u64 {
                let moved = &moved;
                scope.spawn(move || {
                    for nth in 0..50_000_u64 {
                        let key = spread(nth * 4 + writer);
                        // The place follows from the key, so that a mixture of two shows.
                        let id = (key as u32) | 1;
                        moved.put(key, Place { id, at: 0 }, now);
                        let looked = spread(nth.saturating_sub(9) * 4 + (writer + 1) % 4);
                        assert!(moved.get(looked, now).is_none_or(|place| place.id == (looked as u32) | 1));
                    }
                });
            }
        });
    }
}
