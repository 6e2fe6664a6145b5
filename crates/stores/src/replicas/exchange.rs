//! The exchange between a replica and the store, as a state machine without a clock or a store: `now` and replies go
//! in, reports come out.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Notice, Report, SharedState, Snapshot, Stamp, shared_state::Counter};
use steadfast::{
    CircuitBreakerHandle,
    layers::circuit_breaker::{CircuitUpdate, PROBE_HEAD_START, Version},
};

pub(super) struct Exchange {
    replica: u64,
    rng: fastrand::Rng,
    circuits: Vec<Circuit>,
    counts: Vec<Count>,
    /// The store's epoch, as far as it is known since the last failure.
    epoch: Option<u64>,
}

struct Circuit {
    name: Arc<str>,
    handle: CircuitBreakerHandle,
    /// The version at the last look.
    mark: Version,
    /// The time of its last own change.
    changed_at: Option<Instant>,
    /// True if that change was reported to the others.
    reported: bool,
    /// The stamp of the last notice received.
    received: Option<Stamp>,
}

struct Count {
    name: Arc<str>,
    counter: Counter,
    /// The count at the last report.
    reported: i64,
    /// The count of the report under way.
    reporting: i64,
    /// The total of all replicas, as far as it is known since the last failure.
    total: Option<i64>,
}

impl Exchange {
    pub(super) fn new(replica: u64) -> Self {
        let rng = fastrand::Rng::with_seed(replica);
        Self { replica, rng, circuits: Vec::new(), counts: Vec::new(), epoch: None }
    }

    /// Replaces the shared state. The state of names that remain is kept.
    pub(super) fn share(&mut self, state: &SharedState, now: Instant) {
        let mut known = std::mem::take(&mut self.circuits);
        for (name, handle) in &state.circuits {
            let place = known.iter().position(|known| known.name == *name && known.handle.is_of(handle));
            self.circuits.push(match place {
                Some(place) => known.swap_remove(place),
                None => {
                    let (mark, news) = handle.pending_update(now);
                    // Do not report a change that no longer holds: other replicas may have learned more since it began.
                    let changed_at = news.filter(|news| !news.left().is_zero()).map(|_| now);
                    let (name, handle) = (name.clone(), handle.clone());
                    Circuit { name, handle, mark, changed_at, reported: changed_at.is_none(), received: None }
                }
            });
        }
        let mut known = std::mem::take(&mut self.counts);
        for (name, counter) in &state.counters {
            let place = known.iter().position(|known| known.name == *name && known.counter.is_of(counter));
            self.counts.push(match place {
                Some(place) => known.swap_remove(place),
                None => {
                    let reported = counter.total();
                    Count { name: name.clone(), counter: counter.clone(), reported, reporting: 0, total: None }
                }
            });
        }
    }

    /// Returns whether there is a change to report at once.
    pub(super) fn has_news(&self, now: Instant) -> bool {
        self.circuits.iter().any(|circuit| {
            let (mark, news) = circuit.handle.pending_update(now);
            news.is_some() && mark != circuit.mark
        })
    }

    pub(super) fn report(&mut self, now: Instant) -> Report {
        let notices = self.circuits.iter_mut().map(|circuit| (circuit.name.clone(), circuit.report(now))).collect();
        let counts = self.counts.iter_mut().map(|count| (count.name.clone(), count.report())).collect();
        Report { replica: self.replica, notices, counts }
    }

    /// Applies the store's reply.
    pub(super) fn apply(&mut self, received: &Snapshot, now: Instant) {
        for (circuit, notice) in self.circuits.iter_mut().zip(&received.notices) {
            circuit.reported = true;
            match notice {
                Some((stamp, notice)) => circuit.apply(*stamp, notice, self.replica, &mut self.rng, now),
                // The store has lost it: it is reported again if it still holds.
                None => circuit.reported = circuit.changed_at.is_none(),
            }
        }
        let is_same = self.epoch == Some(received.epoch);
        for (count, total) in self.counts.iter_mut().zip(&received.totals) {
            count.apply(*total, is_same, now);
        }
        self.epoch = Some(received.epoch);
    }

    /// Records that the store did not reply. It may or may not have added the counts. They may stay uncharged to the
    /// others, but are never charged twice.
    pub(super) fn record_failure(&mut self) {
        self.epoch = None;
        for count in &mut self.counts {
            count.reported = count.reported.wrapping_add(count.reporting);
            count.total = None;
        }
    }
}

impl Circuit {
    fn report(&mut self, now: Instant) -> Option<Notice> {
        let (mark, news) = self.handle.pending_update(now);
        if mark != self.mark {
            self.mark = mark;
            self.changed_at = Some(now);
            self.reported = false;
        }
        let (Some(news), Some(changed_at), false) = (news, self.changed_at, self.reported) else { return None };
        let age = now.saturating_duration_since(changed_at);
        Some(Notice { change: news.name(), age, remaining: news.left() })
    }

    fn apply(&mut self, stamp: Stamp, notice: &Notice, replica: u64, rng: &mut fastrand::Rng, now: Instant) {
        let is_known = self.received == Some(stamp);
        self.received = Some(stamp);
        if stamp.replica == replica {
            return;
        }
        let Some(news) = CircuitUpdate::parse(&notice.change, notice.remaining) else { return };
        let news = match news {
            // A probe elsewhere holds other probes back for as long as it runs.
            CircuitUpdate::Probing { .. } if notice.age < self.handle.probe_lease() => news,
            CircuitUpdate::Probing { .. } => return,
            _ if is_known => return,
            CircuitUpdate::Open { reason, left } if !left.is_zero() => {
                let courtesy = PROBE_HEAD_START.mul_f64(0.5 + 0.5 * rng.f64());
                CircuitUpdate::Open { reason, left: left.saturating_add(courtesy) }
            }
            _ => news,
        };
        // Its own change since the request is newer.
        if self.handle.pending_update(now).0 != self.mark {
            return;
        }
        self.mark = self.handle.apply(news, now);
        if !is_known {
            self.changed_at = None;
            tracing::debug!(circuit = %self.name, what = %notice.change, "change received from another replica");
        }
    }
}

impl Count {
    fn report(&mut self) -> i64 {
        let total = self.counter.total();
        self.reporting = if self.total.is_some() { total.wrapping_sub(self.reported) } else { 0 };
        self.reported = total.wrapping_sub(self.reporting);
        self.reporting
    }

    fn apply(&mut self, total: i64, is_same_epoch: bool, now: Instant) {
        let before = self.total.replace(total).filter(|_| is_same_epoch);
        self.reported = self.reported.wrapping_add(self.reporting);
        if let Some(before) = before {
            let others = total.wrapping_sub(before).wrapping_sub(self.reporting);
            self.counter.charge(now, others);
        }
        self.reporting = 0;
    }
}
