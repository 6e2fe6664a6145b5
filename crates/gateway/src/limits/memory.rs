//! The limit of the memory that all callers together take: `gateway.memory`.
//!
//! | part | for what | what holds it |
//! |---|---|---|
//! | 1/2 | bodies of requests and whole answers, from their first piece on until their last copy is let go | [`Memory`] |
//! | 1/4 | connections, with their heads and streams | [`connections`], [`Memory`] |
//! | 1/4 | what is kept: answers, idempotency keys, decision records | their own settings, which are checked against it |
//!
//! Each byte of a counted body counts [`WEIGHT`] times, for the copies that reading, decoding and encoding make. A body
//! of up to [`FREE_BODY`] bytes is free: its connection's buffer holds it. Bodies beyond [`SMALL`] may not take the
//! last quarter, which stays for smaller ones. If callers have keys, the bodies of one key may take as much as they
//! leave free, or else a single body, so that another key always finds room. [Answers](super::answers) have the same
//! half, with rules of their own.
//!
//! Heads need no key. Those longer than [`FREE_BODY`] therefore have a [`Memory`] of their own, out of the part for
//! connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use steadfast_internal::system;
use tokio::sync::Notify;

/// The largest body that needs no reservation, in bytes: hyper's buffer of its connection is as large.
pub(crate) const FREE_BODY: usize = 8 << 10;
/// The largest small body, in bytes.
const SMALL: usize = 64 << 10;
/// The number of times that each byte of a body counts.
const WEIGHT: usize = 3;
/// The memory of a connection with a stream, in bytes.
const CONNECTION: u64 = 32 << 10;

/// A part of the memory: for request bodies, or for their heads.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(super) room: usize,
    used: AtomicUsize,
    /// Notified when memory is given back.
    pub(super) freed: Notify,
    /// The answer that may take what is set aside for it, by its number; 0 for none.
    pub(super) elder: AtomicUsize,
    /// The bytes of the other answers that are half there.
    pub(super) growing: AtomicUsize,
}

/// The parts of a [`Memory`] that one caller's bodies and answers take.
#[derive(Debug, Default)]
pub(crate) struct CallerShare {
    bodies: AtomicUsize,
    answers: AtomicUsize,
}

/// The kinds of content that have a [`Memory`].
#[derive(Clone, Copy)]
enum Part {
    Bodies,
    Answers,
}

impl CallerShare {
    fn of(&self, part: Part) -> &AtomicUsize {
        match part {
            Part::Bodies => &self.bodies,
            Part::Answers => &self.answers,
        }
    }
}

/// The memory of one body or answer, returned on drop.
pub(crate) struct Reservation {
    pub(super) memory: Arc<Memory>,
    share: Option<Arc<CallerShare>>,
    part: Part,
    taken: usize,
}

/// The error of a body that finds no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutOfMemory {
    /// There is none at the moment.
    Now,
    /// A body of this size never fits.
    Always,
}

impl Memory {
    /// Creates the part for bodies out of this many bytes for everything.
    pub(crate) fn new(all: u64) -> Self {
        let room = usize::try_from(all / 2).unwrap_or(usize::MAX);
        Self { room, ..Self::default() }
    }

    /// Returns an empty reservation for a caller's body.
    pub(crate) fn reservation(self: &Arc<Self>, share: Option<&Arc<CallerShare>>) -> Reservation {
        self.reservation_of(Part::Bodies, share)
    }

    /// Returns an empty reservation for a caller's answer.
    pub(super) fn reservation_for_answer(self: &Arc<Self>, share: Option<&Arc<CallerShare>>) -> Reservation {
        self.reservation_of(Part::Answers, share)
    }

    fn reservation_of(self: &Arc<Self>, part: Part, share: Option<&Arc<CallerShare>>) -> Reservation {
        Reservation { memory: self.clone(), share: share.cloned(), part, taken: 0 }
    }

    /// Returns the number of reserved bytes.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Returns the number of bytes of answers that are half there.
    #[cfg(test)]
    pub(crate) fn growing(&self) -> usize {
        self.growing.load(Relaxed)
    }

    /// Returns the limit for all bodies together that applies to one of this size.
    fn limit(&self, body: usize) -> usize {
        if body <= SMALL { self.room } else { self.room - self.room / 4 }
    }

    /// Checks whether a body of this size has room, without reserving it.
    pub(crate) fn check(&self, body: usize, share: Option<&Arc<CallerShare>>) -> Result<(), OutOfMemory> {
        if body <= FREE_BODY {
            return Ok(());
        }
        let (wanted, limit) = (body.saturating_mul(WEIGHT), self.limit(body));
        if wanted > limit {
            return Err(OutOfMemory::Always);
        }
        let others = share.map_or(0, |share| share.of(Part::Bodies).load(Relaxed));
        let fits = self.used.load(Relaxed).saturating_add(wanted) <= limit;
        if fits && self.is_fair(others, limit, wanted, wanted) { Ok(()) } else { Err(OutOfMemory::Now) }
    }

    /// Returns true if a caller leaves as much memory free, within this limit, as its others and this one take. A
    /// single one is always fair.
    fn is_fair(&self, others: usize, limit: usize, wanted: usize, more: usize) -> bool {
        let free = limit.saturating_sub(self.used.load(Relaxed)).saturating_sub(more);
        others == 0 || others.saturating_add(wanted) <= free
    }
}

impl Reservation {
    /// Grows the reservation to a body of this size.
    ///
    /// # Errors
    ///
    /// The memory has no room. The reservation stays as it was.
    pub(crate) fn grow(&mut self, body: usize) -> Result<(), OutOfMemory> {
        let limit = self.memory.limit(body);
        self.take(body.saturating_mul(WEIGHT).saturating_sub(self.taken), limit, true)
    }

    /// Takes so many bytes more, within a limit for all together. `is_shared`: it leaves room for other callers.
    pub(super) fn take(&mut self, more: usize, limit: usize, is_shared: bool) -> Result<(), OutOfMemory> {
        let wanted = self.taken.saturating_add(more);
        if wanted > limit {
            return Err(OutOfMemory::Always);
        }
        let share = self.share.as_ref().map(|share| share.of(self.part));
        if let Some(share) = share {
            let others = share.fetch_add(more, Relaxed) - self.taken;
            if is_shared && !self.memory.is_fair(others, limit, wanted, more) {
                share.fetch_sub(more, Relaxed);
                return Err(OutOfMemory::Now);
            }
        }
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        if self.memory.used.fetch_update(Relaxed, Relaxed, fits).is_err() {
            if let Some(share) = share {
                share.fetch_sub(more, Relaxed);
            }
            return Err(OutOfMemory::Now);
        }
        self.taken += more;
        Ok(())
    }

    /// Gives so many bytes back.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.taken);
        self.taken -= bytes;
        self.memory.used.fetch_sub(bytes, Relaxed);
        if let Some(share) = &self.share {
            share.of(self.part).fetch_sub(bytes, Relaxed);
        }
        self.memory.freed.notify_waiters();
    }

    /// Returns the number of its bytes.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Returns the bytes of a body; dropping the last copy of them returns the memory.
    pub(crate) fn into_body(self, body: Bytes) -> Bytes {
        Bytes::from_owner(CountedBody { body, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(self.taken);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// A body and its reservation.
struct CountedBody {
    // Dropped first.
    body: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Returns the number of wanted connections that fit into this much memory.
pub(crate) fn connections(all: u64, wanted: usize) -> usize {
    let room = usize::try_from(all / 4 / CONNECTION).unwrap_or(usize::MAX).max(1);
    if room < wanted {
        tracing::warn!(connections = room, "fewer connections than wanted: `gateway.memory` has room for no more");
    }
    room.min(wanted)
}

/// Returns the default memory: a quarter of the machine's, the container's or the process's own, and always enough for
/// bodies of this size and for the kept answers and records.
pub(crate) fn default(largest_body: u64, kept: u64) -> u64 {
    let there = system::memory().unwrap_or(ASSUMED_MEMORY);
    (there / 4).max(largest_body.saturating_mul(8)).max(kept.saturating_mul(4))
}

/// The assumed memory of a machine that does not report its own, in bytes: small ones have as much.
const ASSUMED_MEMORY: u64 = 1 << 30;

/// Warns of a memory that the process's own limit does not allow.
pub(crate) fn warn_if_over_limit(memory: u64) {
    if let Some(left) = system::address_space().filter(|left| *left < memory) {
        tracing::warn!(memory, left, "`gateway.memory` is over what RLIMIT_AS leaves to the process: raise the limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn memory(mib: u64) -> Arc<Memory> {
        Arc::new(Memory::new(mib << 20))
    }

    fn full(memory: &Arc<Memory>, share: Option<&Arc<CallerShare>>, body: usize) -> Vec<Reservation> {
        std::iter::repeat_with(|| {
            let mut reservation = memory.reservation(share);
            reservation.grow(body).ok().map(|()| reservation)
        })
        .map_while(|reservation| reservation)
        .collect()
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let memory = memory(256);
        let large = full(&memory, None, 4 * MIB);
        assert_eq!(large.len(), 96 / 12);
        assert_eq!((memory.check(4 * MIB, None), memory.check(SMALL, None)), (Err(OutOfMemory::Now), Ok(())));
        let small = full(&memory, None, SMALL);
        assert_eq!(small.len(), 32 * MIB / (3 * SMALL));
        drop((large, small));
        assert_eq!(memory.used.load(Relaxed), 0);
    }

    #[test]
    fn one_key_takes_half_at_most_or_a_single_body() {
        let (memory, one, two) = (memory(256), Arc::<CallerShare>::default(), Arc::<CallerShare>::default());
        let of_one = full(&memory, Some(&one), 4 * MIB);
        assert_eq!(of_one.len(), 96 / 24);
        assert_eq!(
            (memory.check(5 * MIB, Some(&one)), memory.check(5 * MIB, Some(&two))),
            (Err(OutOfMemory::Now), Ok(()))
        );
        assert_eq!(full(&memory, Some(&two), 4 * MIB).len(), 48 / 24);
        drop(of_one);
        let mut largest = memory.reservation(Some(&one));
        assert_eq!(largest.grow(32 * MIB), Ok(()), "it has nothing else there");
        drop(largest);
        assert_eq!((one.bodies.load(Relaxed), two.bodies.load(Relaxed), memory.used.load(Relaxed)), (0, 0, 0));
    }

    #[test]
    fn keys_that_take_what_they_can_leave_room_for_another() {
        for body in [SMALL, MIB] {
            let memory = memory(512);
            let mut taken = Vec::new();
            for number in 0..5 {
                let key = Arc::default();
                let of_key = full(&memory, Some(&key), body);
                assert!(!of_key.is_empty(), "key {number}, {body} bytes each");
                taken.extend(of_key);
            }
            assert!(full(&memory, Some(&Arc::default()), SMALL).len() > 10, "{body} bytes each");
        }
    }

    #[test]
    fn a_body_takes_its_place_until_its_last_copy_is_gone() {
        let memory = memory(256);
        let mut reservation = memory.reservation(None);
        reservation.grow(MIB).unwrap();
        reservation.grow(2 * MIB).unwrap();
        assert_eq!(memory.used.load(Relaxed), 2 * MIB * WEIGHT);
        let body = reservation.into_body(vec![b'x'; 2 * MIB].into());
        let part = body.slice(5..6);
        drop(body);
        assert_eq!((&*part, memory.used.load(Relaxed)), (&b"x"[..], 2 * MIB * WEIGHT));
        drop(part);
        assert_eq!(memory.used.load(Relaxed), 0);
    }

    #[test]
    fn what_never_fits_is_told_apart_from_what_does_not_fit_now() {
        let memory = memory(64);
        assert_eq!(
            (memory.check(9 * MIB, None), memory.reservation(None).grow(9 * MIB)),
            (Err(OutOfMemory::Always), Err(OutOfMemory::Always))
        );
        assert_eq!(memory.check(8 * MIB, None), Ok(()));
    }

    #[test]
    fn the_default_has_room_for_what_the_other_settings_allow() {
        assert!(default(1 << 40, 0) >= 8 << 40 && default(0, 1 << 40) >= 4 << 40);
        assert_eq!((connections(1 << 30, 20_000), connections(1 << 30, 7), connections(0, 7)), (8192, 7, 1));
    }
}
