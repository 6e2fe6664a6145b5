//! The targets of a drill.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::report::ScenarioReport;
pub use super::report::SloMiss;
use steadfast::InvalidConfig;
use steadfast_stack::Span;

/// A target: a measure and its bound.
///
/// | target | what is meant |
/// |---|---|
/// | `answered=99.9%` | at least so many of the requests have a whole answer of full service |
/// | `served=100%` | at least so many are answered, degraded or handed off |
/// | `lost=0`, `lost=0.1%` | at most so many are lost; likewise `cut`, `degraded`, `handed_off`, `refused` |
/// | `lost_while_well=0` | the same of those that are lost although a model was well: what a configuration can promise |
/// | `p99=30s`, `p50=2s` | the time to the first token, at most |
/// | `amplification=1.1` | attempts for each request on the sick provider, at most |
/// | `switches=6` | the switches to another tier, excluding the primary's returns, at most |
/// | `recovery=60s` | from the end of the last fault at the primary to full traffic on it, at most |
/// | `cost=2.50` | US dollars, at most |
///
/// Shares exclude refused requests, except the share of `refused` itself.
///
/// ```
/// use steadfast_drill::Slo;
///
/// let slo: Slo = "p99=30s".parse().unwrap();
/// assert_eq!(slo.to_string(), "p99=30s");
/// let error = "p95=30s".parse::<Slo>().unwrap_err().to_string();
/// assert!(error.contains("p95") && error.contains("answered, served, lost"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    text: String,
    measure: Measure,
    bound: Bound,
}

/// A measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Answered,
    Served,
    Lost,
    LostWhileWell,
    Cut,
    Degraded,
    HandedOff,
    Refused,
    P50,
    P99,
    Amplification,
    Switches,
    Recovery,
    Cost,
}

const MEASURES: [(&str, Measure); 14] = [
    ("answered", Measure::Answered),
    ("served", Measure::Served),
    ("lost", Measure::Lost),
    ("lost_while_well", Measure::LostWhileWell),
    ("cut", Measure::Cut),
    ("degraded", Measure::Degraded),
    ("handed_off", Measure::HandedOff),
    ("refused", Measure::Refused),
    ("p50", Measure::P50),
    ("p99", Measure::P99),
    ("amplification", Measure::Amplification),
    ("switches", Measure::Switches),
    ("recovery", Measure::Recovery),
    ("cost", Measure::Cost),
];

/// The bound of a measure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// A share of the requests, from 0 to 1.
    Share(f64),
    Number(f64),
    Time(Duration),
}

impl Slo {
    /// Judges a report; returns the miss, if there is one.
    pub fn judge(&self, report: &ScenarioReport) -> Option<SloMiss> {
        let counted = report.requests.saturating_sub(report.refused).max(1) as f64;
        let served = report.answered + report.degraded + report.handed_off;
        let seconds = |time: Option<f64>| time.map_or_else(|| "not recovered".to_owned(), |time| format!("{time} s"));
        let (met, found) = match (self.measure, self.bound) {
            (Measure::Answered, bound) => at_least(report.answered, counted, bound),
            (Measure::Served, bound) => at_least(served, counted, bound),
            (Measure::Lost, bound) => at_most(report.lost, counted, bound),
            (Measure::LostWhileWell, bound) => at_most(report.lost_while_well, counted, bound),
            (Measure::Cut, bound) => at_most(report.cut, counted, bound),
            (Measure::Degraded, bound) => at_most(report.degraded, counted, bound),
            (Measure::HandedOff, bound) => at_most(report.handed_off, counted, bound),
            (Measure::Refused, bound) => at_most(report.refused, report.requests.max(1) as f64, bound),
            (Measure::P50, Bound::Time(most)) => (report.p50_ms <= ms(most), format!("{} ms", report.p50_ms)),
            (Measure::P99, Bound::Time(most)) => (report.p99_ms <= ms(most), format!("{} ms", report.p99_ms)),
            (Measure::Recovery, Bound::Time(most)) => {
                (report.recovery_s.is_some_and(|time| time <= most.as_secs_f64()), seconds(report.recovery_s))
            }
            (Measure::Amplification, Bound::Number(most)) => {
                (report.amplification <= most, report.amplification.to_string())
            }
            (Measure::Switches, Bound::Number(most)) => (report.switches as f64 <= most, report.switches.to_string()),
            (Measure::Cost, Bound::Number(most)) => (report.cost <= most, format!("${}", report.cost)),
            // `from_str` does not create these.
            _ => return None,
        };
        let missed = SloMiss { scenario: report.name.clone(), slo: self.text.clone(), found };
        (!met).then_some(missed)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn at_least(found: u64, of: f64, bound: Bound) -> (bool, String) {
    match bound {
        Bound::Share(least) => (found as f64 / of >= least, percent(found, of)),
        Bound::Number(least) => (found as f64 >= least, found.to_string()),
        Bound::Time(_) => (true, String::new()),
    }
}

fn at_most(found: u64, of: f64, bound: Bound) -> (bool, String) {
    match bound {
        Bound::Share(most) => (found as f64 / of <= most, percent(found, of)),
        Bound::Number(most) => (found as f64 <= most, found.to_string()),
        Bound::Time(_) => (true, String::new()),
    }
}

/// Formats a share without rounding a missed one to a met one.
fn percent(found: u64, of: f64) -> String {
    let percent = format!("{:.4}", found as f64 / of * 100.0);
    format!("{}% ({found})", percent.trim_end_matches('0').trim_end_matches('.'))
}

impl FromStr for Slo {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let wrong = |problem: String| InvalidConfig::new("slo", problem);
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| wrong(format!("`{text}` is not a target; write a measure and its bound, such as lost=0")))?;
        let (name, value) = (name.trim(), value.trim());
        let Some((_, measure)) = MEASURES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = MEASURES.iter().map(|(known, _)| *known).collect();
            return Err(wrong(format!("`{name}` in `{text}` is not measured; there are {}", known.join(", "))));
        };
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let (bound, example) = match measure {
            Measure::P50 | Measure::P99 | Measure::Recovery => {
                (value.parse::<Span>().ok().map(|span| Bound::Time(span.0)), "a time with its unit, such as 30s")
            }
            Measure::Switches => {
                (value.parse::<u32>().ok().map(|count| Bound::Number(count.into())), "a number, such as 6")
            }
            Measure::Amplification | Measure::Cost => {
                (number(value.trim_start_matches('$')).map(Bound::Number), "a number, such as 1.1")
            }
            _ => {
                let share = value.strip_suffix('%').map(|share| number(share.trim()).filter(|share| *share <= 100.0));
                let bound = match share {
                    Some(share) => share.map(|share| Bound::Share(share / 100.0)),
                    None => value.parse::<u32>().ok().map(|count| Bound::Number(count.into())),
                };
                (bound, "a number of requests, or a share of them such as 99.9%")
            }
        };
        let bound = bound.ok_or_else(|| wrong(format!("`{value}` in `{text}` is not {example}")))?;
        Ok(Self { text: format!("{name}={value}"), measure: *measure, bound })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Slo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Targets;

        impl Visitor<'_> for Targets {
            type Value = Slo;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a target such as lost=0")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Slo, E> {
                text.parse().map_err(|error: InvalidConfig| E::custom(error.problem()))
            }
        }

        deserializer.deserialize_any(Targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ScenarioReport {
        ScenarioReport {
            name: "s".to_owned(),
            requests: 1000,
            answered: 990,
            degraded: 5,
            handed_off: 3,
            refused: 0,
            lost: 2,
            lost_while_well: 1,
            amplification: 1.05,
            switches: 4,
            recovery_s: Some(61.5),
            p50_ms: 700.0,
            p99_ms: 2500.0,
            cost: 0.5,
            ..ScenarioReport::default()
        }
    }

    #[test]
    fn a_target_is_met_or_missed() {
        for (slo, found) in [
            ("answered=99%", None),
            ("answered=99.1%", Some("99% (990)")),
            ("answered=990", None),
            ("served=99.9%", Some("99.8% (998)")),
            ("lost=2", None),
            ("lost_while_well=1", None),
            ("lost_while_well=0", Some("1")),
            ("lost=0", Some("2")),
            ("lost=0.2%", None),
            ("lost=0.1%", Some("0.2% (2)")),
            ("handed_off=3", None),
            ("p50=700ms", None),
            ("p99=2s", Some("2500 ms")),
            ("amplification=1.1", None),
            ("amplification=1.0", Some("1.05")),
            ("switches=4", None),
            ("switches=3", Some("4")),
            ("recovery=1m2s", None),
            ("recovery=60s", Some("61.5 s")),
            ("cost=$0.50", None),
            ("cost=0.4", Some("$0.5")),
        ] {
            let missed = slo.parse::<Slo>().unwrap().judge(&report());
            assert_eq!(missed.map(|missed| missed.found).as_deref(), found, "{slo}");
        }
    }

    #[test]
    fn what_did_not_recover_misses_every_recovery() {
        let report = ScenarioReport { recovery_s: None, ..report() };
        let missed = "recovery=1000h".parse::<Slo>().unwrap().judge(&report).unwrap();
        assert_eq!((&*missed.slo, &*missed.found), ("recovery=1000h", "not recovered"));
    }

    #[test]
    fn a_target_that_is_none_says_what_would_be_one() {
        for (text, said) in [
            ("lost", "such as lost=0"),
            ("lots=0", "answered, served, lost"),
            ("lost=few", "`few` in `lost=few`"),
            ("lost=-1", "a number of requests"),
            ("answered=101%", "99.9%"),
            ("p99=30", "with its unit"),
            ("amplification=x", "1.1"),
            ("switches=1.5", "such as 6"),
            ("=", "is not measured"),
        ] {
            let error = text.parse::<Slo>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
