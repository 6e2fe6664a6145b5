//! The updates that a circuit sends to its replicas, and its response to theirs.
//!
//! Each circuit decides for itself; an update only spares it from detecting what another has detected already. A
//! state that was forced by hand is neither sent nor changed by updates.

use std::{borrow::Cow, time::Duration};

use tokio::time::Instant;

use super::{
    CircuitBreakerHandle,
    evidence::Cause,
    settings::Settings,
    state::{Circuit, Core, Phase, Transition, nanos, phase},
    word::{Reason, Tag},
};
use crate::{internal::sync::atomic::Ordering, layers::caller::UNNAMED};

/// A replica's update on a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitUpdate {
    /// It is open, and probes after this time.
    Open {
        /// The reason.
        reason: Reason,
        /// The time until it probes.
        left: Duration,
    },
    /// One caller's failures alone have opened it, where nobody else called: it decides for that caller only.
    OpenForOne {
        /// The number of the caller.
        caller: u64,
        /// The reason.
        reason: Reason,
        /// The time until it probes.
        left: Duration,
    },
    /// The provider asked for a pause of this length.
    Throttled {
        /// The time that is left of it.
        left: Duration,
    },
    /// It is half-open. Its probes should be over after this time.
    Probing {
        /// The time until its probes should be over.
        left: Duration,
    },
    /// A probe has shown that the provider is well, or an operator has reset the circuit.
    Closed,
}

/// A version of the circuit's state, which changes whenever the circuit has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    generation: u32,
    throttled_until: u64,
    /// True if it is half-open with a probe under way.
    probes: bool,
}

/// The extra time for which other replicas may wait, so that the one that opened a circuit probes first.
pub const PROBE_HEAD_START: Duration = Duration::from_secs(2);
/// The time for which an open circuit leaves a probe of another replica alone, after each update that the probe is
/// under way.
const HOLD: Duration = Duration::from_secs(1);

impl Circuit {
    fn version(&self, core: &Core) -> Version {
        let word = self.load();
        let throttled_until = if word.throttled() { self.throttled_until.load(Ordering::Acquire) } else { 0 };
        Version { generation: word.generation(), throttled_until, probes: !core.probes.is_empty() }
    }

    /// Returns the update to send, if any: none for a circuit that has never moved, or that is forced.
    fn pending_update(&self, now: Instant) -> (Version, Option<CircuitUpdate>) {
        let core = self.lock();
        let (word, version) = (self.load(), self.version(&core));
        let left = |until: &crate::internal::sync::atomic::AtomicU64| {
            Duration::from_nanos(until.load(Ordering::Acquire).saturating_sub(self.at(now)))
        };
        let update = match phase(word) {
            Phase::Closed => (word.generation() > 0).then_some(CircuitUpdate::Closed),
            Phase::Open => {
                let (reason, left) = (word.reason(), left(&self.until));
                Some(match self.known.only() {
                    Some(caller) => CircuitUpdate::OpenForOne { caller, reason, left },
                    None => CircuitUpdate::Open { reason, left },
                })
            }
            // One caller's wait is for that caller only.
            Phase::Throttled if self.known.only().is_some() => None,
            Phase::Throttled => Some(CircuitUpdate::Throttled { left: left(&self.throttled_until) }),
            Phase::HalfOpen if version.probes => Some(CircuitUpdate::Probing { left: self.settings.probe_lease() }),
            // Any replica may probe.
            Phase::HalfOpen => Some(CircuitUpdate::Open { reason: core.cause, left: Duration::ZERO }),
            Phase::ForcedOpen | Phase::ForcedClosed => None,
        };
        (version, update)
    }

    /// Returns how long this circuit would be closed off by itself for the same reason: other replicas may have
    /// other settings, and an update may be damaged.
    fn own(&self, update: CircuitUpdate) -> Duration {
        let Settings { latch, max_throttle, .. } = self.settings;
        let own = match update {
            CircuitUpdate::Throttled { .. } => max_throttle,
            CircuitUpdate::Open { reason: Reason::Quota | Reason::Auth, .. }
            | CircuitUpdate::OpenForOne { reason: Reason::Quota | Reason::Auth, .. } => latch,
            // The cooldown may have grown.
            CircuitUpdate::Open { reason: Reason::ProbeFailed, .. }
            | CircuitUpdate::OpenForOne { reason: Reason::ProbeFailed, .. } => self.settings.longest_cooldown(u32::MAX),
            CircuitUpdate::Open { .. }
            | CircuitUpdate::OpenForOne { .. }
            | CircuitUpdate::Probing { .. }
            | CircuitUpdate::Closed => self.settings.longest_cooldown(0),
        };
        own.saturating_add(PROBE_HEAD_START)
    }

    /// Applies another replica's update, and returns the resulting version.
    fn apply(&self, update: CircuitUpdate, now: Instant) -> (Option<Transition>, Version) {
        let mut core = self.lock();
        let word = self.load();
        let (before, at) = (phase(word), self.at(now));
        let after = |left: Duration| at.saturating_add(nanos(left.min(self.own(update))));
        if matches!(before, Phase::ForcedOpen | Phase::ForcedClosed) {
            return (None, self.version(&core));
        }
        let transition = match (update, word.tag()) {
            (
                CircuitUpdate::Open { left, .. }
                | CircuitUpdate::OpenForOne { left, .. }
                | CircuitUpdate::Throttled { left },
                _,
            ) if left.is_zero() => None,
            // A caller's failures elsewhere hold nobody else off here.
            (CircuitUpdate::OpenForOne { .. }, Tag::Open) => None,
            (CircuitUpdate::OpenForOne { caller, reason, left }, _) => {
                (core.relapses, core.last) = (0, Cause::default());
                let opened = self.open(&mut core, reason, at, after(left));
                self.known.set_only(Some(caller));
                Some(opened)
            }
            // Never open sooner than this circuit itself has found.
            (CircuitUpdate::Open { left, .. } | CircuitUpdate::Throttled { left }, Tag::Open) => {
                self.until.fetch_max(after(left), Ordering::AcqRel);
                None
            }
            (CircuitUpdate::Open { reason, left }, _) => {
                // The other's last fact is not told.
                (core.relapses, core.last) = (0, Cause::default());
                Some(self.open(&mut core, reason, at, after(left)))
            }
            (CircuitUpdate::Throttled { left }, _) => self.throttle_until(&mut core, after(left)),
            (CircuitUpdate::Probing { left }, Tag::Open) => {
                self.until.fetch_max(after(left.min(HOLD)), Ordering::AcqRel);
                None
            }
            (CircuitUpdate::Closed, Tag::Open | Tag::HalfOpen) if before != Phase::Throttled => {
                core.relapses = 0;
                Some(self.publish(&mut core, Tag::Closed, Reason::Recovered))
            }
            (CircuitUpdate::Probing { .. } | CircuitUpdate::Closed, _) => None,
        };
        (transition, self.version(&core))
    }
}

impl CircuitBreakerHandle {
    /// Returns the update to send to other replicas, if any.
    pub fn pending_update(&self, now: Instant) -> (Version, Option<CircuitUpdate>) {
        self.with(|circuit| circuit.machine.pending_update(now))
    }

    /// Applies another replica's update.
    pub fn apply(&self, update: CircuitUpdate, now: Instant) -> Version {
        self.with(|circuit| {
            let (transition, version) = circuit.machine.apply(update, now);
            circuit.tell(transition);
            version
        })
    }

    /// Returns how long a probe of another replica is waited for at the most.
    pub fn probe_lease(&self) -> Duration {
        self.with(|circuit| circuit.machine.settings.probe_lease())
    }

    /// Returns whether both are of one circuit.
    pub fn is_of(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.view.state(), &other.view.state()) && self.key == other.key
    }
}

impl CircuitUpdate {
    /// Returns its name in a store.
    pub fn name(self) -> Cow<'static, str> {
        let opened = |reason| REASONS.iter().find(|(known, _)| *known == reason).map_or("open", |(_, name)| name);
        match self {
            Self::Open { reason, .. } => opened(reason).into(),
            Self::OpenForOne { caller, reason, .. } => format!("{}{FOR_ONE}{caller:x}", opened(reason)).into(),
            Self::Throttled { .. } => "throttled".into(),
            Self::Probing { .. } => "probing".into(),
            Self::Closed => "closed".into(),
        }
    }

    /// Returns the time that is left of it.
    pub fn left(self) -> Duration {
        match self {
            Self::Open { left, .. }
            | Self::OpenForOne { left, .. }
            | Self::Throttled { left }
            | Self::Probing { left } => left,
            Self::Closed => Duration::ZERO,
        }
    }

    /// Parses a name from a store. Returns `None` if the name is not known: a later version may have more of them.
    pub fn parse(name: &str, left: Duration) -> Option<Self> {
        match name {
            "closed" => Some(Self::Closed),
            "probing" => Some(Self::Probing { left }),
            "throttled" => Some(Self::Throttled { left }),
            open => {
                if let Some((open, caller)) = open.split_once(FOR_ONE) {
                    let Some(Self::Open { reason, .. }) = Self::parse(open, left) else { return None };
                    let caller = u64::from_str_radix(caller, 16).ok().filter(|caller| *caller != UNNAMED)?;
                    return Some(Self::OpenForOne { caller, reason, left });
                }
                let known = REASONS.iter().find(|(_, name)| *name == open);
                known.map(|(reason, _)| Self::Open { reason: *reason, left })
            }
        }
    }
}

/// The words between a reason and the number of the caller that it is of.
const FOR_ONE: &str = ", of caller ";
/// The reasons for which a circuit may have opened without an order.
const REASONS: [(Reason, &str); 7] = [
    (Reason::ConsecutiveFailures, "open: failures in a row"),
    (Reason::FailureRate, "open: failure rate"),
    (Reason::SlowCalls, "open: slow calls"),
    (Reason::InvalidRequests, "open: invalid requests"),
    (Reason::Quota, "open: quota"),
    (Reason::Auth, "open: auth"),
    (Reason::ProbeFailed, "open: probe failed"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::circuit_breaker::{
        evidence::Cause,
        state::{Admission, Decision, Outcome, Way},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn circuit(now: Instant) -> Circuit {
        Circuit::new(Settings { cooldown: Some(60 * SECOND), ..Settings::default() }, now, 7)
    }

    fn admitted(circuit: &Circuit, now: Instant) -> Option<Admission> {
        match circuit.admit(Way::Any, || now) {
            Decision::Admitted(admission) | Decision::AdmittedAfter(admission, _) => Some(admission),
            Decision::Rejected(_) => None,
        }
    }

    fn tripped(now: Instant) -> Circuit {
        let circuit = circuit(now);
        for _ in 0..5 {
            let admission = admitted(&circuit, now).unwrap();
            circuit.settle(
                admission,
                Outcome::Failure { slow: false, throttle: None, cause: Cause::default() },
                || now,
            );
        }
        circuit
    }

    #[test]
    fn every_word_is_understood_again() {
        let left = SECOND;
        let opened = REASONS.map(|(reason, _)| CircuitUpdate::Open { reason, left });
        for update in opened.into_iter().chain([
            CircuitUpdate::Throttled { left },
            CircuitUpdate::Probing { left },
            CircuitUpdate::Closed,
            CircuitUpdate::OpenForOne { caller: u64::MAX, reason: Reason::Quota, left },
        ]) {
            assert_eq!(CircuitUpdate::parse(&update.name(), left), Some(update));
        }
        assert_eq!(CircuitUpdate::parse("open", left), None, "forced: nobody tells of it");
        for unknown in ["", "open: quota, of caller ", "open: quota, of caller 0", "closed, of caller 7"] {
            assert_eq!(CircuitUpdate::parse(unknown, left), None, "{unknown}");
        }
    }

    #[test]
    fn what_opened_here_opens_there_for_as_long() {
        let now = Instant::now();
        let (here, there) = (tripped(now), circuit(now));
        let (_, update) = here.pending_update(now + SECOND);
        let update = update.unwrap();
        assert_eq!(update, CircuitUpdate::Open { reason: Reason::ConsecutiveFailures, left: 59 * SECOND });
        let before = there.pending_update(now);
        assert_eq!(before.1, None, "it has never moved");
        let (transition, version) = there.apply(update, now + SECOND);
        assert_eq!(transition.unwrap().to, Phase::Open);
        assert_eq!(version, there.pending_update(now).0, "it knows that it has not moved by itself");
        assert_ne!(version, before.0);
        assert!(admitted(&there, now + 59 * SECOND).is_none());
        assert!(admitted(&there, now + 60 * SECOND).is_some(), "it looks for itself when the time is over");
    }

    /// A circuit that one key's failures have opened, where nobody else called, is open for that key alone elsewhere.
    #[test]
    fn what_one_key_has_opened_keeps_no_other_out_elsewhere() {
        let now = Instant::now();
        let (here, there) = (circuit(now), circuit(now));
        for _ in 0..5 {
            let admission = Admission { caller: 7, ..admitted(&here, now).unwrap() };
            here.settle(admission, Outcome::Failure { slow: false, throttle: None, cause: Cause::default() }, || now);
        }
        let (_, update) = here.pending_update(now);
        let update = update.unwrap();
        assert!(matches!(update, CircuitUpdate::OpenForOne { caller: 7, .. }), "{update:?}");
        assert_eq!(there.apply(update, now).0.unwrap().to, Phase::Open);
        assert_eq!(there.acquit(7, Way::Any, now), None);
        assert!(matches!(there.acquit(9, Way::Any, now), Some(Decision::AdmittedAfter(..))));
        assert_eq!(there.peek(now), Phase::Closed);
        // A wait that one key was asked for is nobody else's.
        let here = circuit(now);
        let admission = Admission { caller: 7, ..admitted(&here, now).unwrap() };
        here.settle(admission, Outcome::RateLimited { until: Some(now + SECOND) }, || now);
        assert_eq!((here.peek(now), here.pending_update(now).1), (Phase::Throttled, None));
    }

    #[test]
    fn an_open_circuit_is_never_told_to_look_sooner() {
        let now = Instant::now();
        let circuit = tripped(now);
        let update = |left| CircuitUpdate::Open { reason: Reason::ProbeFailed, left };
        assert_eq!(circuit.apply(update(SECOND), now).0, None);
        assert!(admitted(&circuit, now + 59 * SECOND).is_none());
        circuit.apply(update(61 * SECOND), now);
        assert!(admitted(&circuit, now + 60 * SECOND).is_none());
        assert!(admitted(&circuit, now + 61 * SECOND).is_some());
    }

    #[test]
    fn a_probe_elsewhere_is_left_alone_and_its_success_closes() {
        let now = Instant::now();
        let (here, there) = (tripped(now), tripped(now));
        let due = now + 60 * SECOND;
        let probe = admitted(&here, due).unwrap();
        let (_, update) = here.pending_update(due);
        assert_eq!(update, Some(CircuitUpdate::Probing { left: 60 * SECOND }));
        there.apply(update.unwrap(), due);
        assert!(admitted(&there, due + HOLD / 2).is_none());
        here.settle(probe, Outcome::Success { slow: false }, || due);
        let (_, update) = here.pending_update(due);
        assert_eq!(update, Some(CircuitUpdate::Closed));
        assert_eq!(there.apply(CircuitUpdate::Closed, due).0.unwrap().to, Phase::Closed);
        assert!(admitted(&there, due).is_some());
        assert_eq!(there.apply(CircuitUpdate::Closed, due).0, None);
        assert_eq!(there.apply(CircuitUpdate::Probing { left: SECOND }, due).0, None, "nothing to a closed one");
    }

    #[test]
    fn a_probe_that_was_given_up_holds_nobody_off() {
        let now = Instant::now();
        let (here, there) = (tripped(now), tripped(now));
        let due = now + 60 * SECOND;
        let probe = admitted(&here, due).unwrap();
        let (version, update) = here.pending_update(due);
        there.apply(update.unwrap(), due);
        here.settle(probe, Outcome::Abandoned, || due);
        let (after, update) = here.pending_update(due);
        assert_ne!(after, version, "that is an update");
        assert_eq!(there.apply(update.unwrap(), due).0, None);
        assert!(admitted(&there, due + HOLD).is_some());
    }

    #[test]
    fn a_pause_that_the_provider_asked_for_is_one_for_all() {
        let now = Instant::now();
        let (here, there) = (circuit(now), circuit(now));
        let admission = admitted(&here, now).unwrap();
        here.settle(admission, Outcome::RateLimited { until: Some(now + 30 * SECOND) }, || now);
        let (version, update) = here.pending_update(now);
        assert_eq!(update, Some(CircuitUpdate::Throttled { left: 30 * SECOND }));
        assert_eq!(there.apply(update.unwrap(), now).0.unwrap().to, Phase::Throttled);
        assert!(admitted(&there, now + 29 * SECOND).is_none());
        assert!(admitted(&there, now + 30 * SECOND).is_some());
        // A longer one is an update again.
        here.apply(CircuitUpdate::Throttled { left: 40 * SECOND }, now);
        assert_ne!(here.pending_update(now).0, version);
        assert_eq!(here.apply(CircuitUpdate::Closed, now).0, None, "it is the provider's own word");
        assert_eq!(here.pending_update(now).1, Some(CircuitUpdate::Throttled { left: 40 * SECOND }));
    }

    #[test]
    fn nothing_that_is_told_closes_it_off_for_longer_than_its_own_settings_would() {
        let now = Instant::now();
        let settings = Settings { cooldown: Some(10 * SECOND), latch: 40 * SECOND, ..Settings::default() };
        let grows = Settings { growth: Some((2.0, 300 * SECOND)), ..settings.clone() };
        let open = |reason| CircuitUpdate::Open { reason, left: 300 * SECOND };
        for (settings, update, own) in [
            (&settings, open(Reason::ConsecutiveFailures), 10),
            (&settings, open(Reason::ProbeFailed), 10),
            (&grows, open(Reason::ProbeFailed), 300),
            (&settings, open(Reason::Auth), 40),
            (&settings, CircuitUpdate::Throttled { left: Duration::MAX }, 300),
        ] {
            let circuit = Circuit::new(settings.clone(), now, 7);
            circuit.apply(update, now);
            assert!(admitted(&circuit, now + (own - 1) * SECOND).is_none(), "{update:?}");
            assert!(admitted(&circuit, now + own * SECOND + PROBE_HEAD_START).is_some(), "{update:?}");
        }
    }

    #[test]
    fn what_is_forced_is_neither_told_nor_changed() {
        let now = Instant::now();
        let circuit = circuit(now);
        let opened = CircuitUpdate::Open { reason: Reason::Quota, left: SECOND };
        circuit.force_close();
        assert_eq!(circuit.pending_update(now).1, None);
        assert_eq!(circuit.apply(opened, now).0, None);
        circuit.force_open();
        assert_eq!(circuit.pending_update(now).1, None);
        assert_eq!(circuit.apply(CircuitUpdate::Closed, now).0, None);
        assert!(admitted(&circuit, now).is_none());
    }
}
