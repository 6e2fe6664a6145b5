//! The settings of a circuit: when to trip, how long to stay open, how to come back.

use std::{num::NonZeroU32, time::Duration};

use super::{
    evidence::Cause,
    window::{MOST_CALLS, SHORTEST, Span},
};
use crate::layers::patience::SHORT_WAIT;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) consecutive_failures: Option<NonZeroU32>,
    pub(super) failure_rate: Option<Rule>,
    pub(super) slow_rate: Option<Rule>,
    /// The first cooldown; `None`: as long as the last failure suggests.
    pub(super) cooldown: Option<Duration>,
    /// The factor from one cooldown to the next while no probe succeeds, and the longest cooldown.
    pub(super) growth: Option<(f64, Duration)>,
    /// The share of a repeated cooldown that chance may take off it.
    pub(super) jitter: f64,
    pub(super) probes: NonZeroU32,
    pub(super) successes: NonZeroU32,
    /// The time after which a probe that has not ended may be replaced; `None`: the cooldown, at least a minute.
    pub(super) probe_lease: Option<Duration>,
    /// The cooldown after a quota or auth error.
    pub(super) latch: Duration,
    /// The longest time that a provider may ask for.
    pub(super) max_throttle: Duration,
    /// The number of different invalid requests that are believed before another tier is asked.
    pub(super) second_opinion_after: u32,
}

impl Settings {
    /// Returns the cooldown before the `relapses`-th repetition after this failure, of a circuit that has not been
    /// closed for this time, with `chance` in `[0, 1)`.
    ///
    /// The first is exact: circuits trip at different times already, each on its own failures. Chance shortens
    /// repeated ones, and never lengthens them, so that many processes do not probe in step and yet all are back
    /// within one cooldown.
    pub(super) fn cooldown(&self, relapses: u32, last: Cause, down: Duration, chance: f64) -> Duration {
        let first = match (self.cooldown, self.growth) {
            (Some(first), _) => first,
            (None, Some(_)) => FIRST_PAUSE,
            (None, None) => {
                let rest = rest(relapses, last, down);
                return if relapses == 0 { rest } else { rest.mul_f64(1.0 - self.jitter * chance) };
            }
        };
        if relapses == 0 {
            return first;
        }
        let (factor, longest) = self.growth.unwrap_or((1.0, first));
        let exponent = i32::try_from(relapses).unwrap_or(i32::MAX);
        let grown = (first.as_secs_f64() * factor.powi(exponent)).min(longest.max(first).as_secs_f64());
        // NaN (0 * infinity) and other edge cases of floats: the plain cooldown.
        Duration::try_from_secs_f64(grown * (1.0 - self.jitter * chance)).unwrap_or(first)
    }

    /// Returns the cooldown for a call that waits only for a short time: nobody pays more for a silent provider.
    pub(super) fn rest_of_short(&self, last: Cause, down: Duration) -> Duration {
        match (self.cooldown, self.growth) {
            (None, None) if last.is_silence() => SHORT_WAIT.max(share(down)),
            _ => Duration::MAX,
        }
    }

    /// Returns how many facts decide of one caller.
    pub(super) fn limit(&self) -> u32 {
        self.consecutive_failures.map_or(USUAL_FAILURES, |limit| limit.get().min(MOST_FAILURES))
    }

    /// Returns how many probes must succeed in a row after so many trips soon after a closing.
    pub(super) fn evidence(&self, lapses: u32) -> u32 {
        self.successes.get().saturating_mul(MORE_EVIDENCE.pow(lapses.min(MOST_EVIDENCE)))
    }

    /// Returns the longest cooldown before the `relapses`-th repetition, whatever failed.
    pub(super) fn longest_cooldown(&self, relapses: u32) -> Duration {
        self.cooldown(relapses, Cause::default(), Duration::MAX, 0.0)
    }

    pub(super) fn probe_lease(&self) -> Duration {
        self.probe_lease.unwrap_or_else(|| self.cooldown.unwrap_or_default().max(Duration::from_secs(60)))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: NonZeroU32::new(USUAL_FAILURES),
            failure_rate: None,
            slow_rate: None,
            cooldown: None,
            growth: None,
            jitter: 0.1,
            probes: NonZeroU32::MIN,
            successes: NonZeroU32::MIN,
            probe_lease: None,
            latch: Duration::from_secs(60),
            max_throttle: Duration::from_secs(300),
            second_opinion_after: 2,
        }
    }
}

/// The span of a rate, and the least number of calls that it needs.
///
/// ```
/// use std::time::Duration;
/// use steadfast::layers::circuit_breaker::Window;
///
/// let by_calls = Window::last_calls(100);
/// let by_time = Window::last(Duration::from_secs(60)).minimum_calls(20);
/// assert_ne!(by_calls, by_time);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub(super) span: Span,
    pub(super) minimum_calls: u32,
}

impl Window {
    /// Creates a window of the last `calls` calls that ended, exactly: from 1 to 1,048,576 (others are clamped), at
    /// four bytes each.
    pub fn last_calls(calls: u32) -> Self {
        let calls = NonZeroU32::new(calls.min(MOST_CALLS)).unwrap_or(NonZeroU32::MIN);
        Self { span: Span::Calls(calls), minimum_calls: MINIMUM_CALLS }
    }

    /// Creates a window of the last `length` of time, at least 10 ms (less counts as that). It slides in steps of a
    /// tenth, so that it covers between nine and ten tenths of `length`, and costs the same however many calls are
    /// in it.
    pub fn last(length: Duration) -> Self {
        Self { span: Span::Time(length.max(SHORTEST)), minimum_calls: MINIMUM_CALLS }
    }

    /// Sets how many calls must be in the window before its rates count. Default: 10, or all calls of a window that
    /// holds fewer.
    #[must_use]
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }
}

/// Returns the pause before the next call after so many that failed in a row. A failure of a connection is over with
/// the first new connection, which costs the provider nothing.
pub(super) fn pause(failed: u32, is_connection: bool) -> Duration {
    let longest = if is_connection { LONGEST_PAUSE_TO_CONNECT } else { LONGEST_PAUSE };
    FIRST_PAUSE.saturating_mul(1 << failed.min(MOST_DOUBLED)).min(longest)
}

/// Returns the cooldown after so many that were in vain, if none was set: the [`pause`], but at least twice as long as
/// the last call waited in vain, up to a minute. So for two thirds of the time nobody waits for a silent provider.
///
/// The cooldown is a share of the outage too: a provider that was away for long need not be seen to be back as soon.
fn rest(failed: u32, last: Cause, down: Duration) -> Duration {
    let waited = last.waited.saturating_mul(2).min(LONGEST_REST);
    pause(failed, last.is_connection).max(waited).max(share(down))
}

/// Returns the least cooldown of a circuit that has not been closed for this time.
fn share(down: Duration) -> Duration {
    (down / SHARE).min(LONGEST_REST)
}

/// Returns the pause before the next call that has nowhere else to go. To try a connection costs the provider nothing,
/// and alone its caller would.
pub(super) fn pause_of_only_way(failed: u32, last: Cause) -> Duration {
    if last.is_connection { PAUSE_TO_CONNECT } else { pause(failed, false) }
}

const USUAL_FAILURES: u32 = 5;
/// The largest count that a circuit's word has room for.
pub(super) const MOST_FAILURES: u32 = (1 << 25) - 1;
/// The pauses of the SDKs of OpenAI and Anthropic begin with half a second, and end with eight.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
const LONGEST_PAUSE_TO_CONNECT: Duration = Duration::from_secs(2);
const PAUSE_TO_CONNECT: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A provider that is back is seen to be within a fiftieth of the time that it was away.
const SHARE: u32 = 50;
/// The number of doublings after which any pause has its longest.
const MOST_DOUBLED: u32 = 8;

const MINIMUM_CALLS: u32 = 10;

/// The factor by which each lapse raises the successes needed, up to its square.
const MORE_EVIDENCE: u32 = 4;
const MOST_EVIDENCE: u32 = 2;

/// A rule that trips if at least this share of the calls in the window is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    /// In `(0, 1]`.
    pub(super) share: f64,
    pub(super) window: Window,
}

impl Rule {
    /// Clamps a share that is out of range.
    pub(super) fn new(share: f64, window: Window) -> Self {
        Self { share: if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) }, window }
    }

    /// Returns the least number of calls. A minimum larger than the window could never be reached.
    fn minimum(&self) -> u32 {
        match self.window.span {
            Span::Calls(calls) => self.window.minimum_calls.min(calls.get()),
            Span::Time(_) => self.window.minimum_calls,
        }
    }

    /// Returns the least number of bad calls that trips.
    pub(super) fn least_bad(&self) -> u32 {
        ((self.share * f64::from(self.minimum())).ceil() as u32).max(1)
    }

    pub(super) fn trips(&self, bad: u64, calls: u64) -> bool {
        bad > 0 && calls >= u64::from(self.minimum()) && bad as f64 >= self.share * calls as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cooldown_grows_to_its_cap_and_jitter_only_shortens() {
        let growth = Some((2.0, Duration::from_secs(300)));
        let settings = Settings { cooldown: Some(Duration::from_secs(60)), growth, ..Settings::default() };
        let seconds =
            |relapses, chance| settings.cooldown(relapses, Cause::default(), Duration::ZERO, chance).as_secs_f64();
        assert_eq!(seconds(0, 0.9), 60.0);
        assert_eq!(seconds(1, 0.0), 120.0);
        assert_eq!(seconds(2, 0.0), 240.0);
        assert_eq!(seconds(3, 0.0), 300.0);
        assert!((seconds(u32::MAX, 0.5) - 285.0).abs() < 1e-6);
    }

    #[test]
    fn pauses_grow_from_a_second() {
        let seconds =
            |is_connection| [0, 1, 2, 3, 4, 99, u32::MAX].map(|failed| pause(failed, is_connection).as_secs());
        assert_eq!(seconds(false), [1, 2, 4, 8, 8, 8, 8]);
        assert_eq!(seconds(true), [1, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn default_cooldown_is_a_pause_or_twice_the_wait() {
        let settings = Settings::default();
        let waited = |seconds| Cause { waited: Duration::from_secs(seconds), ..Cause::default() };
        let seconds =
            |waited, chance| [0, 1, 4, 9].map(|n| settings.cooldown(n, waited, Duration::ZERO, chance).as_secs_f64());
        assert_eq!(seconds(Cause::default(), 0.0), [1.0, 2.0, 8.0, 8.0]);
        assert_eq!(seconds(waited(3), 0.0), [6.0, 6.0, 8.0, 8.0]);
        assert_eq!(seconds(waited(10), 0.5), [20.0, 19.0, 19.0, 19.0], "the first is exact");
        assert_eq!(seconds(waited(300), 0.0), [60.0; 4]);
        let no_connection = Cause { is_connection: true, ..Cause::default() };
        assert_eq!(seconds(no_connection, 0.0), [1.0, 2.0, 2.0, 2.0]);
        let after =
            |minutes: u64| settings.cooldown(9, no_connection, Duration::from_secs(60 * minutes), 0.0).as_secs_f64();
        assert_eq!([1, 4, 10, 40, 600].map(after), [2.0, 4.8, 12.0, 48.0, 60.0]);
    }

    #[test]
    fn each_lapse_asks_for_more_evidence_up_to_a_bound() {
        let settings = Settings::default();
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|lapses| settings.evidence(lapses)), [1, 4, 16, 16, 16]);
        let settings = Settings { successes: NonZeroU32::MAX, ..settings };
        assert_eq!(settings.evidence(2), u32::MAX);
    }

    #[test]
    fn absurd_settings_do_not_panic() {
        for growth in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            for cooldown in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
                let growth = Some((growth, Duration::MAX));
                let settings = Settings { growth, cooldown, ..Settings::default() };
                for relapses in [0, 1, u32::MAX] {
                    settings.cooldown(
                        relapses,
                        Cause { waited: Duration::MAX, ..Cause::default() },
                        Duration::MAX,
                        0.5,
                    );
                }
            }
        }
    }

    #[test]
    fn rate_needs_its_minimum_of_calls() {
        let rule = Rule::new(0.5, Window::last(Duration::from_secs(1)));
        assert!(!rule.trips(9, 9));
        assert!(rule.trips(5, 10));
        assert!(!rule.trips(4, 10));
        let short = Rule::new(0.5, Window::last_calls(0));
        assert!(short.trips(1, 1));
    }
}
