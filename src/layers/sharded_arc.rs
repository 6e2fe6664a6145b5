//! References to one gate from many threads.
//!
//! A call must own its gate as long as it runs, and so counts a reference up and down. With one count for all, two
//! threads would spend most of a healthy call on passing its cache line to and fro. So there are a few counts, and
//! each thread uses one. Measured on a breaker with 64 tasks on 2 threads: from some 10 to some 16 million calls a
//! second.

use std::{
    cell::Cell,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    LlmError,
    body::admission::{Gate, Outcome, Permit, SoFar, Ticket},
};

/// A gate, with the references to it that permits hold. Clones are the same gate and the same references.
#[derive(Debug)]
pub(crate) struct ShardedArc<G> {
    gate: Arc<G>,
    shards: [Arc<Shard<G>>; SHARDS],
}

// The counts of the `Arc` around it share their cache line with nothing that other threads write.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Shard<G> {
    gate: Arc<G>,
}

impl<G> Deref for Shard<G> {
    type Target = G;

    #[inline]
    fn deref(&self) -> &G {
        &self.gate
    }
}

impl<G: Gate + 'static> ShardedArc<G> {
    pub(crate) fn new(gate: Arc<G>) -> Self {
        let shards = std::array::from_fn(|_| Arc::new(Shard { gate: gate.clone() }));
        Self { gate, shards }
    }

    pub(crate) fn gate(&self) -> &Arc<G> {
        &self.gate
    }

    /// Returns this thread's reference to the gate, to keep as long as a call runs.
    #[inline]
    pub(crate) fn shard(&self) -> Arc<Shard<G>> {
        self.shards[shard()].clone()
    }

    /// Returns how many references to the gate are out: its permits, by this thread's reference or by the gate's
    /// own, and other clones of it.
    pub(crate) fn out(&self) -> usize {
        let shards: usize = self.shards.iter().map(|shard| Arc::strong_count(shard).saturating_sub(1)).sum();
        // Subtract this value's own reference, and one of each shard.
        shards.saturating_add(Arc::strong_count(&self.gate).saturating_sub(SHARDS + 1))
    }

    /// Returns a permit for a call that the gate has admitted with this ticket.
    #[inline]
    pub(crate) fn permit(&self, ticket: Ticket) -> Permit {
        Permit::new(self.shard(), ticket)
    }
}

impl<G> Clone for ShardedArc<G> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), shards: self.shards.clone() }
    }
}

impl<G: Gate> Gate for Shard<G> {
    #[inline]
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.gate.settle(ticket, outcome);
    }

    #[inline]
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        self.gate.settle_with(ticket, outcome, so_far);
    }

    fn begins(&self, ticket: &mut Ticket) {
        self.gate.begins(ticket);
    }

    fn unmask(&self, error: &mut LlmError) {
        self.gate.unmask(error);
    }
}

/// Returns this thread's shard.
#[inline]
fn shard() -> usize {
    // A thread that is being torn down has lost its own shard: any other will do.
    SHARD
        .try_with(|shard| {
            if shard.get() == SHARDS {
                shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
            }
            shard.get()
        })
        .unwrap_or(0)
}

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(SHARDS) };
}

static NEXT: AtomicUsize = AtomicUsize::new(0);
const SHARDS: usize = 16;
