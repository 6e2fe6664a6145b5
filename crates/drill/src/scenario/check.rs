//! Checks a scenario whose values all have the right type.

use super::file::{Burst, FaultSpec, ScenarioFile, Window};
use steadfast_stack::{Findings, Span};

/// The longest scenario, in seconds.
const LONGEST: u64 = 31 * 24 * 3600;
/// The most requests of one scenario.
pub(crate) const REQUESTS: f64 = 500_000.0;
/// The most waves of a fault.
const WAVES: u128 = 10_000;

/// The places with a generic name rather than a tier's name.
pub(crate) const PLACES: [&str; 5] = ["primary", "deployment", "fallbacks", "all", "store"];
/// The most deployments of the primary.
const DEPLOYMENTS: u16 = 100;

pub(super) fn check(file: &ScenarioFile, findings: &mut Findings<'_, '_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if file.name.is_empty() || !file.name.chars().all(plain) {
        findings.wrong("name", "a scenario's name is of letters, digits and `-`, for the command line");
    }
    if file.lasts.0.is_zero() || file.lasts.0.as_secs() > LONGEST {
        findings.wrong("lasts", "a scenario must last longer than zero and at most 31 days");
        return;
    }
    if file.deployments.is_some_and(|number| !(1..=DEPLOYMENTS).contains(&number)) {
        findings.wrong("deployments", format!("the primary has 1 to {DEPLOYMENTS} deployments"));
    }
    requests(file, findings);
    findings.within("providers", |findings| {
        if file.providers.p50.0 > file.providers.p99.0 {
            findings.wrong("p99", "`p99` is less than `p50` (default: 600ms); give both");
        }
    });
    findings.within("faults", |findings| {
        for (at, window) in file.faults.iter().enumerate() {
            findings.within(at, |findings| fault(window, file.lasts, findings));
        }
    });
}

fn requests(file: &ScenarioFile, findings: &mut Findings<'_, '_>) {
    let requests = &file.requests;
    findings.within("requests", |findings| {
        let seconds = |from: Span, to: Span| to.0.saturating_sub(from.0).as_secs_f64();
        let bursts: f64 = requests.bursts.iter().map(|burst| burst.rate.0 * seconds(burst.from, burst.to)).sum();
        let all = requests.rate.0 * file.lasts.0.as_secs_f64() + bursts;
        if all < 1.0 {
            findings.wrong("rate", "at this rate no request arrives: raise it, or let the scenario last longer");
        } else if all > REQUESTS {
            let message =
                format!("these are about {all:.0} requests, and a drill has at most {REQUESTS:.0}: lower the `rate`");
            findings.wrong("rate", message);
        }
        findings.within("features", |findings| {
            for (name, weight) in &requests.features {
                if !(weight.is_finite() && *weight > 0.0) {
                    findings.wrong(name, "a weight must be above 0; leave out an unused feature");
                }
            }
        });
        findings.within("bursts", |findings| {
            for (at, burst) in requests.bursts.iter().enumerate() {
                let Burst { from, to, .. } = burst;
                findings.within(at, |findings| stretch("burst", *from, *to, file.lasts, findings));
            }
        });
    });
}

fn fault(window: &Window, lasts: Span, findings: &mut Findings<'_, '_>) {
    stretch("window", window.from, window.to, lasts, findings);
    match (window.every, window.wave) {
        (None, None) => {}
        (Some(every), Some(wave)) => {
            if wave.0.is_zero() || wave.0 > every.0 {
                findings.wrong("wave", "`wave` must be longer than zero and no longer than `every`");
            } else if window.to.0.saturating_sub(window.from.0).as_nanos() / every.0.as_nanos().max(1) > WAVES {
                findings.wrong("every", format!("more than {WAVES} waves; raise `every`"));
            }
        }
        (Some(_), None) => findings.wrong_here("`wave` is missing here; give the fault's duration within each `every`"),
        (None, Some(_)) => findings.wrong_here("`every` is missing here; give the interval of the waves"),
    }
    if window.fault.0.is_empty() {
        findings.wrong("fault", "the list is empty; name a fault");
    }
    let at_store = window.at.0.iter().any(|place| place == "store");
    if at_store && window.at.0.len() > 1 {
        findings.wrong("at", "a store's faults differ from a tier's; give it a window of its own");
    } else if at_store && window.fault.0.iter().any(|spec| !matches!(spec, FaultSpec::Refused | FaultSpec::Hang)) {
        findings.wrong("fault", "a store has only the faults `refused` (fails at once) and `hang` (no answer)");
    } else if at_store && window.fault.0.len() > 1 {
        findings.wrong("fault", "a store has one fault at a time; give each a window of its own");
    }
    if at_store {
        let of_calls = [
            ("share", window.share.0 < 1.0),
            ("ramp", window.ramp.is_some()),
            ("features", !window.features.is_empty()),
            ("callers", window.callers.0 < 1.0),
        ];
        for (key, _) in of_calls.into_iter().filter(|(_, given)| *given) {
            findings.wrong(key, format!("a store fails for all callers; remove `{key}`"));
        }
    }
    if window.fault.0.len() > 1 && window.fault.0.iter().any(|spec| matches!(spec, FaultSpec::Capacity(_))) {
        findings.wrong("fault", "a capacity counts all calls: give it a window of its own");
    }
    for (at, spec) in window.fault.0.iter().enumerate() {
        if let FaultSpec::Status(status) = spec
            && !(300..=599).contains(status)
        {
            findings.within("fault", |findings| {
                let message = format!("{status} is not a failure status; give one from 300 to 599");
                // The place depends on whether the value is a list.
                match window.fault.0.len() {
                    1 => findings.wrong("status", message),
                    _ => findings.wrong(at, message),
                }
            });
        }
    }
}

fn stretch(what: &str, from: Span, to: Span, lasts: Span, findings: &mut Findings<'_, '_>) {
    if to.0 <= from.0 {
        let message = format!(
            "the {what} ends ({}) before it begins ({}): both count from the scenario's beginning",
            format_span(to),
            format_span(from)
        );
        findings.wrong("to", message);
    } else if to.0 > lasts.0 {
        let message = format!(
            "the {what} ends ({}) after the scenario ({}): give it time to recover, `lasts` is longer than any `to`",
            format_span(to),
            format_span(lasts)
        );
        findings.wrong("to", message);
    }
}

/// Formats a span in the file's spelling.
pub(crate) fn format_span(span: Span) -> String {
    let (mut seconds, ms) = (span.0.as_secs(), span.0.subsec_millis());
    let mut text = String::new();
    for (unit, name) in [(3600, "h"), (60, "m")] {
        if seconds >= unit {
            text.push_str(&format!("{}{name}", seconds / unit));
            seconds %= unit;
        }
    }
    if seconds > 0 || text.is_empty() && ms == 0 {
        text.push_str(&format!("{seconds}s"));
    }
    if ms > 0 {
        text.push_str(&format!("{ms}ms"));
    }
    text
}
