//! The counts that rules compare with their limits: by time, not by request.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{TotalFailure, rules::MAX_TIERS};
use crate::window::Window;

/// Calls to each tier, and those of them that a rule counts.
#[derive(Debug)]
pub(super) struct TierCounts {
    within: Duration,
    tiers: Vec<(Arc<str>, Window)>,
}

impl TierCounts {
    pub(super) fn new(within: Duration) -> Self {
        Self { within, tiers: Vec::new() }
    }

    pub(super) fn within(&self) -> Duration {
        self.within
    }

    /// Counts a call. A tier beyond the first many counts nothing.
    pub(super) fn add(&mut self, tier: &Arc<str>, counted: bool, now: Instant) {
        let place = match self.tiers.iter().position(|(name, _)| name == tier) {
            Some(place) => place,
            None if self.tiers.len() < MAX_TIERS => {
                self.tiers.push((tier.clone(), Window::new(self.within)));
                self.tiers.len() - 1
            }
            None => return,
        };
        self.tiers[place].1.add(now, [1, u64::from(counted)]);
    }

    pub(super) fn sums(&mut self, tier: &str, now: Instant) -> [u64; 2] {
        let window = self.tiers.iter_mut().find(|(name, _)| **name == *tier);
        window.map_or([0; 2], |(_, window)| window.sums(now))
    }
}

/// The requests that every tier has failed: an outage, or an unlucky few.
///
/// A request that fails while no other is answered belongs to the same outage however long ago the one before was, so
/// that an outage shows in thin traffic too.
#[derive(Debug)]
pub(super) struct TotalFailures {
    rule: TotalFailure,
    /// Requests that ended, and those that every tier failed.
    window: Window,
    /// Those that every tier failed since the last answer.
    row: u64,
    /// The time of the first and of the last failure that counts, and the number of these.
    begun: Option<Instant>,
    last: Option<Instant>,
    count: u64,
}

impl TotalFailures {
    pub(super) fn new(rule: TotalFailure) -> Self {
        Self { rule, window: Window::new(rule.within), row: 0, begun: None, last: None, count: 0 }
    }

    /// Changes the limits. Counts continue where the window keeps its length.
    pub(super) fn set_rule(&mut self, rule: TotalFailure) {
        if self.rule.within != rule.within {
            self.window = Window::new(rule.within);
        }
        self.rule = rule;
    }

    /// Counts a request that has ended.
    pub(super) fn ended(&mut self, answered: bool, now: Instant) {
        self.window.add(now, [1, 0]);
        if answered {
            self.row = 0;
        }
    }

    /// Counts a request that every tier failed. Returns true if it is an outage.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let [_, before] = self.window.sums(now);
        if self.last.is_none_or(|last| now.saturating_duration_since(last) > LONGEST_GAP) {
            self.row = 0;
        }
        if before == 0 && self.row == 0 {
            (self.begun, self.count) = (Some(now), 0);
        }
        self.window.add(now, [0, 1]);
        (self.row, self.count, self.last) = (self.row.saturating_add(1), self.count.saturating_add(1), Some(now));
        let [all, failed] = self.window.sums(now);
        let failed = failed.max(self.row);
        // Its own end is reported after this.
        let all = all.max(failed);
        failed > self.rule.more_than && failed as f64 > self.rule.share * all as f64 && self.lasted() >= SHORTEST_OUTAGE
    }

    /// Returns true if no request has been answered since the last that every tier failed.
    pub(super) fn goes_on(&self) -> bool {
        self.row > 0
    }

    /// Returns the failures of the outage so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the time from its first failure to its last.
    pub(super) fn lasted(&self) -> Duration {
        self.last.zip(self.begun).map_or(Duration::ZERO, |(last, begun)| last.saturating_duration_since(begun))
    }
}

/// The shortest time that is more than a bad moment: a client repeats a request at once, and providers drop
/// connections together.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(5);
/// The longest time between two failures of one outage.
pub(super) const LONGEST_GAP: Duration = Duration::from_secs(3600);
