//! The faults of a scenario along its time.

use std::{fmt, time::Duration};

use super::{
    Scenario,
    check::{PLACES, format_span},
    file::{FaultSpec, Window},
};
use steadfast::providers::simulated::{FaultMix, Latency, Outage, RateLimit};
use steadfast_stack::Span;

/// A moment at which a fault of a scenario begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScenarioEvent {
    /// The time from the scenario's beginning.
    pub at: Duration,
    /// The provider that it is about, as in [`Scenario::providers`].
    pub provider: String,
    /// A short description.
    pub what: String,
    /// The rate limit of the provider from then on, or none, if the event changes it.
    pub limit: Option<Option<RateLimit>>,
}

impl Scenario {
    /// Returns the names of the providers that it has faults for: `primary`, `fallback`, and tiers' names.
    pub fn providers(&self) -> Vec<String> {
        let mut names = vec!["primary".to_owned()];
        for window in &self.file.faults {
            for name in &window.at.0 {
                let name = match name.as_str() {
                    "fallbacks" | "all" => "fallback",
                    name if PLACES.contains(&name) => continue,
                    name => name,
                };
                if names.iter().all(|known| known != name) {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    /// Returns the outages of a provider, with `speed` seconds of the scenario in one.
    ///
    /// A provider alone knows neither features nor callers: a fault for some of them is one of all calls, or of that
    /// share of them. A capacity or limit is among the [events](Self::events).
    pub fn outages(&self, provider: &str, speed: f64) -> Vec<Outage> {
        let outages = |window: &Window| {
            let each = window.share.0 * window.callers.0 / window.fault.0.len().max(1) as f64;
            let mix = window.fault.0.iter().fold(FaultMix::new(), |mix, spec| mix.with(each, spec.fault()));
            let ramp = scaled(window.ramp.map_or(Duration::ZERO, |ramp| ramp.0), speed);
            let times = stretches(window).map(move |(from, to)| (scaled(from, speed), scaled(to, speed)));
            times.map(move |(from, to)| Outage::new(from, to, mix.clone()).ramp_in(ramp)).collect::<Vec<_>>()
        };
        let own = self.file.faults.iter().filter(|window| is_at(window, provider) && rate(window).is_none());
        own.flat_map(outages).collect()
    }

    /// Returns the begins and ends of its faults, in order, with `speed` seconds of the scenario in one.
    pub fn events(&self, speed: f64) -> Vec<ScenarioEvent> {
        let mut events = Vec::new();
        for provider in self.providers() {
            for window in self.file.faults.iter().filter(|window| is_at(window, &provider)) {
                let faults: Vec<String> = window.fault.0.iter().map(ToString::to_string).collect();
                for (from, to) in stretches(window) {
                    let mut event = |at, word: &str, limit| {
                        let (what, provider) = (format!("{word}: {}", faults.join(" or ")), provider.clone());
                        events.push(ScenarioEvent { at: scaled(at, speed), provider, what, limit });
                    };
                    event(from, "fault begins", rate(window).map(Some));
                    event(to, "fault ends", rate(window).map(|_| None));
                }
            }
        }
        events.sort_by_key(|event| event.at);
        events
    }

    /// Returns the time to a provider's first token on a good day, and between two tokens.
    pub fn latency(&self) -> (Latency, Duration) {
        let usual = self.file.providers;
        (Latency::percentiles(usual.p50.0, usual.p99.0), usual.pace.0)
    }
}

/// Returns whether a fault is at the provider of this name.
fn is_at(window: &Window, provider: &str) -> bool {
    let is = |name: &String| match name.as_str() {
        "primary" | "deployment" => provider == "primary",
        "fallbacks" => provider != "primary",
        "all" => true,
        name => name == provider,
    };
    if window.at.0.is_empty() { provider == "primary" } else { window.at.0.iter().any(is) }
}

/// Returns the rate limit that a fault is, if it is a capacity or a limit.
fn rate(window: &Window) -> Option<RateLimit> {
    window.fault.0.iter().find_map(|spec| match spec {
        FaultSpec::Capacity(rate) | FaultSpec::Limit(rate) => {
            Some(RateLimit::requests_per_minute((rate.0 * 60.0).max(1.0) as u64))
        }
        _ => None,
    })
}

fn scaled(time: Duration, speed: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() / speed).unwrap_or(Duration::MAX)
}

/// Returns the times during which a fault is present: the whole window, or its waves.
pub(crate) fn stretches(window: &Window) -> impl Iterator<Item = (Duration, Duration)> + use<> {
    let (from, to) = (window.from.0, window.to.0);
    let (every, wave) = match (window.every, window.wave) {
        (Some(Span(every)), Some(Span(wave))) if !every.is_zero() => (every, wave),
        _ => (to.saturating_sub(from).max(Duration::from_nanos(1)), to.saturating_sub(from)),
    };
    let begins = std::iter::successors(Some(from), move |begin| begin.checked_add(every));
    begins.take_while(move |begin| *begin < to).map(move |begin| (begin, (begin + wave).min(to)))
}

/// Describes a fault in a few words.
pub(crate) fn named(window: &Window) -> String {
    let faults: Vec<String> = window.fault.0.iter().map(ToString::to_string).collect();
    let at = if window.at.0.is_empty() { "primary".to_owned() } else { window.at.0.join(", ") };
    let mut text = format!("{} at {at}", faults.join(" or "));
    let mut add = |what: fmt::Arguments<'_>| text.push_str(&what.to_string());
    if window.share.0 < 1.0 {
        add(format_args!(", {} % of calls", (window.share.0 * 1000.0).round() / 10.0));
    }
    if window.callers.0 < 1.0 {
        add(format_args!(", {} % of callers", (window.callers.0 * 1000.0).round() / 10.0));
    }
    if !window.features.is_empty() {
        add(format_args!(", of {}", window.features.join(", ")));
    }
    if let (Some(every), Some(wave)) = (window.every, window.wave) {
        add(format_args!(", {} of every {}", format_span(wave), format_span(every)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_come_and_go() {
        let scenario = Scenario::from_yaml(
            "name: x\nlasts: 1h\nfaults: [{ from: 10m, to: 31m, fault: hang, every: 10m, wave: 4m }]",
        );
        let minutes = |(from, to): (Duration, Duration)| (from.as_secs() / 60, to.as_secs() / 60);
        let waves: Vec<_> = stretches(&scenario.unwrap().file().faults[0]).map(minutes).collect();
        assert_eq!(waves, [(10, 14), (20, 24), (30, 31)]);
    }

    #[test]
    fn a_timeline_is_faster_by_its_speed_and_by_provider() {
        let scenario = Scenario::from_yaml(
            "name: x\nlasts: 1h\nfaults: [{ from: 10m, to: 20m, fault: overloaded }, { from: 30m, to: 40m, at: all, fault: hang }, { from: 50m, to: 55m, at: other, fault: { limit: 30/min } }]",
        )
        .unwrap();
        assert_eq!(scenario.providers(), ["primary", "fallback", "other"]);
        let at = |event: &ScenarioEvent| (event.at.as_secs(), event.what.clone(), event.limit);
        let of = |name: &str| -> Vec<_> {
            scenario.events(60.0).iter().filter(|event| event.provider == name).map(at).collect()
        };
        let event = |at, what: &str, limit| (at, what.to_owned(), limit);
        assert_eq!(of("fallback"), [event(30, "fault begins: hang", None), event(40, "fault ends: hang", None)]);
        assert_eq!(of("primary").len(), 4);
        assert_eq!(
            of("other")[2..],
            [
                event(50, "fault begins: limit 30/min", Some(Some(RateLimit::requests_per_minute(30)))),
                event(55, "fault ends: limit 30/min", Some(None)),
            ]
        );
        let outages = |name| scenario.outages(name, 60.0);
        assert_eq!((outages("primary").len(), outages("fallback").len(), outages("other").len()), (2, 1, 1));
        let first = &outages("primary")[0];
        let second = Duration::from_secs(1);
        assert!(first.pick(10 * second, 0.5).is_some() && first.pick(20 * second, 0.5).is_none());
    }
}
