//! The failures of a connection's last request, for a client that does not number its repeats.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::memory::Subject;
use crate::lock::lock;

/// The time after a failure within which the same request on the same connection is a repeat. Clients wait less at
/// first; somebody who asks the same thing now and then waits longer.
const SOON: Duration = Duration::from_secs(5);

/// The failures in a row of a connection's last request.
#[derive(Debug, Default)]
pub(crate) struct ConnectionFailures(Mutex<Option<Failures>>);

/// The failures in a row of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failures {
    body: Subject,
    /// The time of the last failure.
    at: Instant,
    /// The requests of the client.
    pub(super) requests: u16,
    /// The calls that they cost at the tier that had the most of them.
    pub(super) calls: u16,
}

impl ConnectionFailures {
    /// Returns the failures of the request with this body, if it was the last one and has just failed.
    pub(super) fn of(&self, body: Subject, now: Instant) -> Option<Failures> {
        lock(&self.0).filter(|last| last.body == body && now <= last.at + SOON)
    }

    /// Adds a failed request that cost so many calls.
    pub(super) fn add(&self, body: Subject, calls: u16, now: Instant) {
        let before = self.of(body, now).unwrap_or(Failures { body, at: now, requests: 0, calls: 0 });
        let (requests, calls) = (before.requests.saturating_add(1), before.calls.saturating_add(calls));
        *lock(&self.0) = Some(Failures { body, at: now, requests, calls });
    }

    /// Forgets them: a request was answered.
    pub(super) fn clear(&self) {
        *lock(&self.0) = None;
    }
}
