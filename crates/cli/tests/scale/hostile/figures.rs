//! The figures of a soak.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Value, json};

use super::acts::Told;

/// The durations of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(super) fn extend(&mut self, more: &Self) {
        self.0.extend(&more.0);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the number of requests that took longer.
    pub(super) fn over(&self, limit: Duration) -> usize {
        self.0.iter().filter(|time| **time > limit).count()
    }

    /// The time within which this share of them was over.
    pub(super) fn within(&self, share: f64) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let at = (times.len() as f64 * share).ceil() as usize;
        times.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn json(&self) -> Value {
        let ms = |share| (self.within(share).as_secs_f64() * 1e4).round() / 10.0;
        json!({"count": self.count(), "p50_ms": ms(0.5), "p90_ms": ms(0.9), "p99_ms": ms(0.99), "p999_ms": ms(0.999), "worst_ms": ms(1.0)})
    }
}

/// The figures with or without the hostile callers.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) honest: Times,
    pub(super) healthz: Times,
    /// Honest requests without a whole answer.
    pub(super) lost: Vec<String>,
}

impl Side {
    pub(super) fn add(&mut self, more: &Self) {
        self.honest.extend(&more.honest);
        self.healthz.extend(&more.healthz);
        self.lost.extend(more.lost.iter().cloned());
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) seconds: u64,
    pub(super) without: Side,
    pub(super) with: Side,
    pub(super) acts: BTreeMap<&'static str, Told>,
    /// Circuits that opened: the labels, and how often.
    pub(super) opened: Vec<(String, f64)>,
    /// The provider's figures.
    pub(super) provider: Value,
    /// The gateway's highest memory, in kilobytes.
    pub(super) memory: usize,
    /// The time from SIGTERM until it refuses connections.
    pub(super) heard: Duration,
}

impl Figures {
    /// The 99th percentile of the honest callers, relative to the one without the hostile callers.
    pub(super) fn ratio(&self) -> f64 {
        self.with.honest.within(0.99).as_secs_f64() / self.without.honest.within(0.99).as_secs_f64()
    }

    pub(super) fn json(&self) -> Value {
        let side = |side: &Side| json!({"honest": side.honest.json(), "lost": side.lost.len(), "healthz": side.healthz.json()});
        let acts: BTreeMap<_, _> =
            self.acts.iter().map(|(name, told)| (*name, [told.requests, told.answered, told.limited])).collect();
        json!({
            "seconds": self.seconds, "without": side(&self.without), "with": side(&self.with), "p99_ratio": self.ratio(),
            "memory_kb": self.memory, "opened": self.opened, "provider": self.provider,
            "heard_ms": self.heard.as_millis(), "acts": acts,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | requests | lost | p50 | p90 | p99 | worst | healthz p99.9 | worst |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (name, Side { honest, healthz, lost }) in [("honest alone", &self.without), ("with hostile", &self.with)] {
            let [p50, p90, p99, worst] = [0.5, 0.9, 0.99, 1.0].map(|share| honest.within(share).as_millis());
            let [most, last] = [0.999, 1.0].map(|share| healthz.within(share).as_secs_f64() * 1000.0);
            let (count, lost) = (honest.count(), lost.len());
            writeln!(
                f,
                "| {name} | {count} | {lost} | {p50} ms | {p90} ms | {p99} ms | {worst} ms | {most:.1} ms | {last:.1} ms |"
            )?;
        }
        writeln!(f, "\n| hostile act | requests | answered | limited (429, 503) |\n|---|---|---|---|")?;
        for (name, Told { requests, answered, limited }) in &self.acts {
            writeln!(f, "| {name} | {requests} | {answered} | {limited} |")?;
        }
        writeln!(
            f,
            "\np99 {:.2} times that without; {} MB at most; SIGTERM heard in {:?}; circuits opened: {:?}; provider: {}",
            self.ratio(),
            self.memory / 1024,
            self.heard,
            self.opened,
            self.provider
        )
    }
}
