//! Whose network failure it was.

use std::time::Duration;

use tokio::time::Instant;

use super::{LlmError, NetworkFacts};

impl LlmError {
    /// Returns the number of the connection that the call failed with. All calls that fail with one connection, or with
    /// one attempt to connect, have the same number; no other has it in this process. `None`: the transport knows none.
    pub fn connection(&self) -> Option<u64> {
        self.0.exchange().network.connection
    }

    /// Returns true if this machine's network failed: no name lookup, no route, no address, no proxy, no
    /// way to several hosts at once, or a sleep.
    pub fn is_local_network(&self) -> bool {
        self.0.exchange().network.is_local
    }

    /// Sets the number of the connection that the call failed with, for a client of your own. A circuit takes all
    /// failures with one connection for one.
    #[must_use]
    pub fn with_connection(mut self, number: u64) -> Self {
        self.0.exchange_mut().network.connection = Some(number);
        self
    }

    /// Says that this machine's network failed, for a client of your own. Such a failure is no provider's.
    #[must_use]
    pub fn with_local_network(mut self) -> Self {
        self.0.exchange_mut().network.is_local = true;
        self
    }

    /// Says so of a limit that was noticed long after its time: the machine was asleep, or its clock has jumped.
    #[doc(hidden)]
    pub fn noticed_at(self, due: Instant, now: Instant) -> Self {
        if now.saturating_duration_since(due) > ASLEEP { self.with_local_network() } else { self }
    }

    /// Sets the facts of the connection.
    #[doc(hidden)]
    pub fn with_network(mut self, facts: NetworkFacts) -> Self {
        self.0.exchange_mut().network = facts;
        self
    }
}

/// The lateness that only a sleep explains.
const ASLEEP: Duration = Duration::from_secs(5);
