//! The plan of each call: a pure function of the time, the call's number and the seed.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::{
    fault::{Fault, FaultMix, Outage},
    latency::Latency,
    rate_limit::RateStatus,
};
use crate::internal::{
    fnv::{OFFSET_BASIS, fnv1a},
    mix::{numbered, spread},
};

/// All settings of a simulated provider.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// The instant from which outages count.
    pub(crate) start: Instant,
    pub(crate) latency: Latency,
    pub(crate) pace: Duration,
    pub(crate) tokens: (u32, u32),
    pub(crate) faults: FaultMix,
    pub(crate) outages: Vec<Outage>,
    pub(crate) forced: Option<Override>,
}

/// A behaviour set at run time, in place of the script.
#[derive(Clone, Debug)]
pub(crate) enum Override {
    Healthy,
    Faults(FaultMix),
}

/// The plan of one call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The time before the first token, or before the error.
    pub delay: Duration,
    /// The fault; `None`: the call is answered.
    pub fault: Option<Fault>,
    /// The number of tokens of the answer, if there is one.
    pub tokens: u32,
    /// The time between two tokens.
    pub pace: Duration,
    /// The remainder of the provider's rate limit, if it has one.
    pub rate: RateStatus,
}

impl Script {
    pub(crate) fn new(seed: u64, start: Instant) -> Self {
        Self {
            seed,
            start,
            latency: Latency::default(),
            pace: Duration::ZERO,
            tokens: (16, 16),
            faults: FaultMix::new(),
            outages: Vec::new(),
            forced: None,
        }
    }

    /// Returns the plan of a call. The same seed, time and number give the same plan, in any order of calls.
    pub(crate) fn decide(&self, now: Instant, call_number: u64) -> Plan {
        let mut rng = Rng::with_seed(scramble(self.seed, call_number));
        // Drawn in a fixed order, so that another fault mix leaves latencies unchanged.
        let delay = self.latency.sample(&mut rng);
        let (low, high) = self.tokens;
        let tokens = rng.u32(low.min(high)..=high.max(low));
        let roll = rng.f64();
        let mut plan = Plan {
            delay,
            fault: self.fault(now, roll, &mut rng),
            tokens,
            pace: self.pace,
            rate: RateStatus::default(),
        };
        if let Some(Fault::Slow(extra)) = plan.fault {
            plan.delay = plan.delay.saturating_add(extra);
        }
        plan
    }

    fn fault(&self, now: Instant, roll: f64, rng: &mut Rng) -> Option<Fault> {
        match &self.forced {
            Some(Override::Healthy) => return None,
            Some(Override::Faults(mix)) => return mix.pick(roll).cloned(),
            None => {}
        }
        let since_start = now.saturating_duration_since(self.start);
        self.outages
            .iter()
            .find_map(|outage| outage.pick(since_start, rng.f64()))
            .or_else(|| self.faults.pick(roll))
            .cloned()
    }
}

/// Returns a seed of its own for each call.
fn scramble(seed: u64, number: u64) -> u64 {
    spread(seed.wrapping_add(numbered(number)))
}

/// Returns a seed from a provider's name, so that two providers do not fail in step.
pub(crate) fn seed_of(name: &str) -> u64 {
    fnv1a(OFFSET_BASIS, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script() -> Script {
        let mut script = Script::new(7, Instant::now());
        script.latency = Latency::percentiles(Duration::from_millis(500), Duration::from_secs(3));
        script.tokens = (5, 50);
        script.faults = FaultMix::new().with(0.25, Fault::ServerError);
        script
    }

    #[test]
    fn the_same_seed_gives_the_same_plans_in_any_order() {
        let (a, mut b) = (script(), script());
        b.start = a.start;
        let forward: Vec<_> = (0..200).map(|n| a.decide(a.start, n)).collect();
        let mut backward: Vec<_> = (0..200).rev().map(|n| b.decide(b.start, n)).collect();
        backward.reverse();
        assert_eq!(forward, backward);

        b.seed = 8;
        let other: Vec<_> = (0..200).map(|n| b.decide(b.start, n)).collect();
        assert_ne!(forward, other);
    }

    #[test]
    fn faults_come_as_often_as_the_mix_says() {
        let script = script();
        let failed = (0..10_000).filter(|n| script.decide(script.start, *n).fault.is_some()).count();
        assert!((2_350..2_650).contains(&failed), "{failed}");
    }

    #[test]
    fn another_fault_mix_leaves_latencies_and_lengths_alone() {
        let calm = script();
        let mut stormy = calm.clone();
        stormy.faults = Fault::Hang.into();
        for n in 0..100 {
            let (a, b) = (calm.decide(calm.start, n), stormy.decide(calm.start, n));
            assert_eq!((a.delay, a.tokens), (b.delay, b.tokens));
            assert!((5..=50).contains(&a.tokens));
            assert_eq!(b.fault, Some(Fault::Hang));
        }
    }

    #[test]
    fn an_outage_comes_before_the_everyday_faults() {
        let mut script = script();
        let hour = Duration::from_secs(3600);
        script.outages.push(Outage::new(hour, 2 * hour, Fault::Unavailable));
        let during = script.start + hour + hour / 2;
        for n in 0..50 {
            assert_eq!(script.decide(during, n).fault, Some(Fault::Unavailable));
        }
        let after = script.start + 3 * hour;
        assert!((0..50).any(|n| script.decide(after, n).fault.is_none()));
    }

    #[test]
    fn what_is_forced_wins_over_the_script() {
        let mut script = script();
        script.outages.push(Outage::new(Duration::ZERO, Duration::MAX, Fault::Hang));
        script.forced = Some(Override::Healthy);
        assert_eq!(script.decide(script.start, 1).fault, None);
        script.forced = Some(Override::Faults(Fault::Empty.into()));
        assert_eq!(script.decide(script.start, 1).fault, Some(Fault::Empty));
        script.forced = None;
        assert_eq!(script.decide(script.start, 1).fault, Some(Fault::Hang));
    }

    #[test]
    fn a_slow_call_is_late_by_what_was_asked() {
        let mut script = script();
        let calm = script.decide(script.start, 3).delay;
        let late = Duration::from_secs(30);
        script.forced = Some(Override::Faults(Fault::Slow(late).into()));
        assert_eq!(script.decide(script.start, 3).delay, calm + late);
    }
}
