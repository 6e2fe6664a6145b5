//! The search for the highest rate that a contestant sustains.

use serde::{Deserialize, Serialize};

/// The result at one rate of arrivals.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Trial {
    /// Arrivals a second.
    pub rate: f64,
    /// Milliseconds since the arrival.
    pub p50: f64,
    pub p99: f64,
    /// Every request had its whole answer before the trial's end.
    pub kept_up: bool,
}

impl Trial {
    fn is_within(&self, limit: f64) -> bool {
        self.kept_up && self.p99 <= limit
    }
}

/// Returns for each limit of the p99, in milliseconds, the highest rate that stayed within it, and all trials.
///
/// Each limit takes at most [`STEPS`] trials, and those for the others count for it too. A rate under a fiftieth of
/// `capacity`, what callers who wait for their answers get in a second, is not looked for.
pub async fn highest(
    capacity: f64,
    limits: &[f64],
    mut trial: impl AsyncFnMut(f64) -> Trial,
) -> (Vec<Option<f64>>, Vec<Trial>) {
    let mut trials: Vec<Trial> = Vec::new();
    let mut found = Vec::new();
    for &limit in limits {
        for _ in 0..STEPS {
            let (low, high) = around(&trials, limit, capacity);
            if high - low <= high * CLOSE || high < capacity / 50.0 {
                break;
            }
            trials.push(trial(f64::midpoint(low, high)).await);
        }
        let (low, _) = around(&trials, limit, capacity);
        found.push(Some(low).filter(|low| *low > 0.0));
    }
    (found, trials)
}

/// The highest rate within the limit, and the lowest above it that is not.
fn around(trials: &[Trial], limit: f64, capacity: f64) -> (f64, f64) {
    let within = trials.iter().filter(|trial| trial.is_within(limit));
    let low = within.map(|trial| trial.rate).fold(0.0, f64::max);
    let beyond = trials.iter().filter(|trial| !trial.is_within(limit) && trial.rate > low);
    (low, beyond.map(|trial| trial.rate).fold(capacity * CEILING, f64::min))
}

const STEPS: usize = 7;
/// The two ends of the search are as good as one within this share.
const CLOSE: f64 = 0.05;
/// The highest rate that is tried, by what callers who wait get.
const CEILING: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with one server and random arrivals and services (M/M/1): the time in it is exponential with the rate
    /// that is left over.
    fn line(serves: f64, rate: f64) -> Trial {
        let left = serves - rate;
        let p99 = if left > 0.0 { 100.0_f64.ln() / left * 1e3 } else { f64::INFINITY };
        Trial { rate, p50: 0.0, p99, kept_up: left > 0.0 }
    }

    #[tokio::test]
    async fn the_rate_of_a_line_is_found_for_each_limit_in_few_steps() {
        for serves in [200.0, 5_000.0, 60_000.0] {
            let limits = [10.0, 5.0, 1.0];
            let (found, trials) = highest(serves * 0.9, &limits, async |rate| line(serves, rate)).await;
            for (found, limit) in found.into_iter().zip(limits) {
                let exact = serves - 100.0_f64.ln() / limit * 1e3;
                match found {
                    Some(found) => {
                        assert!(found <= exact && found > exact * 0.93, "{serves} at {limit}: {found} of {exact}");
                    }
                    None => assert!(exact < serves / 40.0, "{serves} at {limit}: none of {exact}"),
                }
            }
            assert!(trials.len() <= 18, "{}", trials.len());
        }
    }

    #[tokio::test]
    async fn one_pause_of_the_machine_at_a_low_rate_does_not_hide_a_higher_one() {
        let mut first = true;
        let (found, _) = highest(10_000.0, &[10.0, 5.0], async |rate| {
            let paused = std::mem::take(&mut first);
            Trial { p99: if paused { 50.0 } else { 0.2 }, kept_up: rate < 12_000.0, rate, p50: 0.1 }
        })
        .await;
        // The pause is at the first rate, 7,500: the search goes on below it.
        assert!(found[0].unwrap() > 7_000.0, "{found:?}");
    }

    #[tokio::test]
    async fn who_never_keeps_up_sustains_nothing() {
        let trial = async |rate| Trial { rate, p50: 0.1, p99: 0.1, kept_up: false };
        let (found, trials) = highest(1_000.0, &[10.0, 1.0], trial).await;
        assert_eq!(found, [None, None]);
        assert!(trials.len() <= 7);
    }
}
