//! The rings of records. Their memory is bounded, and a lookup by id is one step: the id has the slot's number.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use steadfast::Dialect;
use steadfast_internal::wall_clock;
use tokio::time::Instant;

use super::{Entry, Record};
use crate::{api::refusals::Refusals, lock::lock};

/// The records of the last requests. Those that were refused at the door have a ring of their own: whoever knocks
/// without a key, or over its rate, must not push out the records of others.
#[derive(Debug)]
pub(crate) struct Records {
    admitted: Ring,
    refused: Ring,
    refusals: Arc<Refusals>,
}

/// The share of refused requests, among all records.
const REFUSED_SHARE: usize = 4;

impl Records {
    /// Creates room for this many records, at least one, and for a quarter as many of requests refused at the door.
    pub(crate) fn new(room: usize, refusals: Arc<Refusals>) -> Self {
        Self { admitted: Ring::new(room), refused: Ring::new(room / REFUSED_SHARE), refusals }
    }

    /// Returns the number of requests whose records it keeps, beside those that were refused at the door.
    pub(crate) fn room(&self) -> usize {
        self.admitted.slots.len()
    }

    /// Starts the record of a request, in place of the oldest.
    pub(crate) fn begin(&self, dialect: Dialect) -> Entry {
        Entry::new(self.admitted.begin(dialect), self.refusals.clone())
    }

    /// Starts the record of a request that is refused at the door, in place of the oldest of these.
    pub(crate) fn begin_refused(&self, dialect: Dialect) -> Entry {
        Entry::new(self.refused.begin(dialect), self.refusals.clone())
    }

    /// Returns the record with this id, if it is still kept.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Record>> {
        self.admitted.find(id).or_else(|| self.refused.find(id))
    }

    /// Returns the last records that match, the newest first.
    pub(crate) fn newest(&self, count: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let rings = [&self.admitted, &self.refused];
        let mut records: Vec<_> = rings.into_iter().flat_map(|ring| ring.newest(count, &wanted)).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.begun));
        records.truncate(count);
        records
    }
}

#[derive(Debug)]
struct Ring {
    slots: Box<[Mutex<Option<Arc<Record>>>]>,
    next: AtomicU64,
}

impl Ring {
    fn new(room: usize) -> Self {
        let slots = (0..room.max(1)).map(|_| Mutex::default()).collect();
        Self { slots, next: AtomicU64::new(0) }
    }

    fn begin(&self, dialect: Dialect) -> Arc<Record> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = id(number, fastrand::u64(..));
        let (at, begun) = (wall_clock::since_1970(), Instant::now());
        let record = Arc::new(Record { number, id, at, begun, dialect, state: Mutex::default() });
        let before = lock(self.slot(number)).replace(record.clone());
        // Dropped outside the lock.
        drop(before);
        record
    }

    fn find(&self, id: &str) -> Option<Arc<Record>> {
        let number = id.strip_prefix("sf-")?.split_once('-')?.0;
        let number = u64::from_str_radix(number, 16).ok()?;
        lock(self.slot(number)).clone().filter(|record| *record.id == *id)
    }

    fn newest(&self, count: usize, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let next = self.next.load(Ordering::Relaxed);
        let numbers = (0..next).rev().take(self.slots.len());
        let kept = numbers.filter_map(|number| lock(self.slot(number)).clone().filter(|kept| kept.number == number));
        kept.filter(|record| wanted(record)).take(count).collect()
    }

    fn slot(&self, number: u64) -> &Mutex<Option<Arc<Record>>> {
        let place = number % self.slots.len() as u64;
        &self.slots[usize::try_from(place).unwrap_or_default()]
    }
}

/// Returns an id: `sf-`, the number, `-`, and 16 random digits; both in base 16.
fn id(number: u64, random: u64) -> Arc<str> {
    let digits = |of: u64| -> [u8; 16] {
        std::array::from_fn(|place| b"0123456789abcdef"[(of >> (60 - 4 * place) & 15) as usize])
    };
    let zeros = (number.leading_zeros() / 4).min(15) as usize;
    let mut bytes = [0; 3 + 16 + 1 + 16];
    let mut end = 0;
    for part in [b"sf-", &digits(number)[zeros..], b"-", &digits(random)] {
        bytes[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    str::from_utf8(&bytes[..end]).expect("digits are ASCII").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_is_found_no_more() {
        let records = Records::new(2, Arc::default());
        let ids: Vec<String> = (0..3).map(|_| records.begin(Dialect::OpenAi).id().to_owned()).collect();
        assert!(records.find(&ids[0]).is_none());
        assert!(ids[1..].iter().all(|id| records.find(id).is_some()));
        assert_eq!(records.newest(9, |_| true).len(), 2);
        assert_eq!(*records.newest(1, |_| true)[0].id, *ids[2]);
        for nonsense in ["", "sf-", "sf-1", "sf-1-", "sf-zz-0", "sf-ffffffffffffffffff-0"] {
            assert!(records.find(nonsense).is_none(), "{nonsense}");
        }
    }

    #[test]
    fn an_id_is_the_number_and_sixteen_digits() {
        for (number, random) in [(0, 0), (1, u64::MAX), (0x10, 1), (u64::MAX, 0xfeed)] {
            assert_eq!(*id(number, random), format!("sf-{number:x}-{random:016x}"));
        }
    }

    #[test]
    fn whoever_is_refused_at_the_door_pushes_out_no_others_record() {
        let records = Records::new(8, Arc::default());
        let served = records.begin(Dialect::OpenAi).id().to_owned();
        let refused: Vec<String> = (0..50).map(|_| records.begin_refused(Dialect::OpenAi).id().to_owned()).collect();
        assert!(records.find(&served).is_some() && records.find(&refused[49]).is_some());
        assert!(records.find(&refused[0]).is_none());
        assert_eq!(records.newest(9, |_| true).len(), 3);
    }
}
