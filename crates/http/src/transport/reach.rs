//! Tells a provider that cannot be reached from a network that is away.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::internal::sync::{Mutex, lock};

/// The hosts that this process could not reach of late.
///
/// Several within a second, with a word from none, are this machine's network: whose fault else would they share? One
/// alone is its own fault. So is one that fails while another answers, until it is reached; and so are all after a
/// minute, lest an outage of all providers hides as one of the network.
#[derive(Debug, Default)]
pub(super) struct Reach {
    state: Mutex<State>,
    /// True if a host's failure may still be the network's: each answer reads it in place of the state behind the lock.
    has_failures: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The last failure of each host within a second.
    failed: VecDeque<(Box<str>, Instant)>,
    /// The time since which the network is away.
    away: Option<Instant>,
    /// The hosts whose failures are their own.
    own: VecDeque<Box<str>>,
}

impl Reach {
    /// Returns the one that all clients share: they have one network.
    pub(super) fn of_process() -> Arc<Self> {
        static PROCESS: OnceLock<Arc<Reach>> = OnceLock::new();
        PROCESS.get_or_init(Arc::default).clone()
    }

    /// Learns that a host could not be reached. Returns true if that is this machine's network.
    pub(super) fn failed(&self, host: &str) -> bool {
        if is_this_machine(host) {
            return false;
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        if state.own.iter().any(|own| **own == *host) {
            return false;
        }
        self.has_failures.store(true, Relaxed);
        state.failed.retain(|(other, at)| **other != *host && now.duration_since(*at) <= AT_ONCE);
        if state.failed.len() < MOST {
            state.failed.push_back((host.into(), now));
        }
        match state.away {
            Some(since) if now.duration_since(since) < LONGEST => true,
            Some(_) => {
                state.accuse();
                false
            }
            None if state.failed.len() > 1 => {
                state.away = Some(now);
                drop(state);
                tracing::warn!("this machine's network is away: several providers cannot be reached at once");
                true
            }
            None => false,
        }
    }

    /// Learns that a host was reached.
    pub(super) fn reached(&self, host: &str) {
        if !is_this_machine(host) {
            lock(&self.state).own.retain(|own| **own != *host);
            self.heard(host);
        }
    }

    /// Learns that a host has answered.
    pub(super) fn heard(&self, host: &str) {
        if !self.has_failures.load(Relaxed) || is_this_machine(host) {
            return;
        }
        let mut state = lock(&self.state);
        state.failed.retain(|(failed, at)| **failed != *host && at.elapsed() <= AT_ONCE);
        let was_away = state.away.is_some();
        state.accuse();
        self.has_failures.store(false, Relaxed);
        drop(state);
        if was_away {
            tracing::info!("this machine's network is back");
        }
    }
}

impl State {
    /// Takes what failed just now for the hosts' own fault.
    fn accuse(&mut self) {
        self.away = None;
        self.own.extend(self.failed.drain(..).map(|(host, _)| host));
        let beyond = self.own.len().saturating_sub(MOST);
        self.own.drain(..beyond);
    }
}

/// Returns true for a host that no network is needed for.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The time within which failures of several hosts have one cause.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The longest time for which a network is thought to be away without a word from anybody.
const LONGEST: Duration = Duration::from_secs(60);
/// The hosts that are known of each kind.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// An observation.
    #[derive(Clone, Copy, Debug)]
    enum Seen {
        Failed(&'static str, bool),
        Reached(&'static str),
        Heard(&'static str),
        Waits(u64),
    }

    use Seen::{Failed, Heard, Reached, Waits};

    #[tokio::test(start_paused = true)]
    async fn several_at_once_are_the_network_and_one_beside_others_is_not() {
        let rows: [(&str, &[Seen]); 10] = [
            ("one alone", &[Failed("a", false), Failed("a", false), Waits(500), Failed("a", false)]),
            ("two at once", &[Failed("a", false), Failed("b", true), Failed("a", true)]),
            ("two one after the other", &[Failed("a", false), Waits(1500), Failed("b", false)]),
            (
                "seldom calls of a network that is away",
                &[
                    Failed("a", false),
                    Failed("b", true),
                    Waits(9000),
                    Failed("a", true),
                    Waits(9000),
                    Failed("c", true),
                ],
            ),
            (
                "it is back",
                &[
                    Failed("a", false),
                    Failed("b", true),
                    Waits(2000),
                    Reached("a"),
                    Failed("b", false),
                    Failed("a", true),
                ],
            ),
            (
                "two that are down beside one that answers",
                &[
                    Failed("a", false),
                    Failed("b", true),
                    Heard("c"),
                    Failed("a", false),
                    Failed("b", false),
                    Waits(5000),
                    Failed("a", false),
                    Failed("b", false),
                ],
            ),
            (
                "who was reached again may lose the network again",
                &[
                    Failed("a", false),
                    Failed("b", true),
                    Heard("c"),
                    Reached("a"),
                    Reached("b"),
                    Failed("a", false),
                    Failed("b", true),
                ],
            ),
            (
                "all are down, for longer than a minute",
                &[Failed("a", false), Failed("b", true), Waits(61_000), Failed("a", false), Failed("b", false)],
            ),
            (
                "servers of this machine",
                &[Failed("localhost", false), Failed("127.0.0.1", false), Failed("[::1]", false)],
            ),
            (
                "a server of this machine answers while the network is away",
                &[Failed("a", false), Failed("b", true), Heard("localhost"), Failed("a", true)],
            ),
        ];
        for (name, seen) in rows {
            let reach = Reach::default();
            for (number, seen) in seen.iter().enumerate() {
                match *seen {
                    Failed(host, expected) => assert_eq!(reach.failed(host), expected, "{name}: {number}"),
                    Reached(host) => reach.reached(host),
                    Heard(host) => reach.heard(host),
                    Waits(time) => sleep(Duration::from_millis(time)).await,
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_hosts_takes_bounded_room() {
        let reach = Reach::default();
        for round in 0..3 {
            for number in 0..500 {
                let _away = reach.failed(&format!("{round}-{number}"));
            }
            reach.heard("other");
        }
        let state = lock(&reach.state);
        assert!(state.failed.len() <= MOST && state.own.len() <= MOST);
    }
}
