//! The verdicts of a run.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    caller::Caller,
    probe::{Probe, Verdict},
    probes,
};

/// A probe's end for a caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Case {
    /// The probe.
    pub probe: &'static Probe,
    /// The caller.
    pub caller: Caller,
    /// The end.
    pub verdict: Verdict,
}

impl Case {
    /// Returns the probe's and the caller's name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.probe.name, self.caller)
    }
}

/// The ends of all probes, in their order.
#[derive(Clone, Debug)]
pub struct Report {
    cases: Vec<Case>,
    is_served: bool,
}

impl Report {
    /// Creates a report without cases. `is_served` is true if the subject answers any caller at all.
    pub(crate) fn new(is_served: bool) -> Self {
        Self { cases: Vec::new(), is_served }
    }

    /// Returns whether the subject answered a healthy request of any caller.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.is_served
    }

    pub(crate) fn push(&mut self, case: Case) {
        self.cases.push(case);
    }

    /// Returns the cases.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Returns the number of cases with a verdict of this [word](Verdict::word).
    #[must_use]
    pub fn count(&self, word: &str) -> usize {
        self.cases.iter().filter(|case| case.verdict.word() == word).count()
    }

    /// Returns the form of `conformance/` for a subject of this name: each case with its result and the observation.
    #[must_use]
    pub fn to_json(&self, subject: &str) -> Value {
        let case = |case: &Case| json!({"name": case.name(), "result": case.verdict.word(), "why": case.verdict.why()});
        json!({
            "judge": "steadfast conformance",
            "version": env!("CARGO_PKG_VERSION"),
            "subject": subject,
            "cases": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }
}

/// A table with a line for each probe and a column for each caller, and then the observations of the failed ones.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |caller: &Caller| self.cases.iter().any(|case| case.caller == *caller);
        let callers: Vec<Caller> = Caller::ALL.into_iter().filter(has).collect();
        write!(f, "{:<24}", "")?;
        callers.iter().try_for_each(|caller| write!(f, " {caller:<16}"))?;
        writeln!(f)?;
        let is_asked = |probe: &&Probe| self.cases.iter().any(|case| case.probe.name == probe.name);
        let probes: Vec<&'static Probe> = probes::all().filter(is_asked).collect();
        for probe in &probes {
            write!(f, "{:<24}", probe.name)?;
            for caller in &callers {
                let of = |case: &&Case| case.probe.name == probe.name && case.caller == *caller;
                let word = self.cases.iter().find(of).map_or("", |case| case.verdict.word());
                write!(f, " {word:<16}")?;
            }
            writeln!(f)?;
        }
        for probe in probes {
            let failed = |case: &&Case| case.probe.name == probe.name && case.verdict.word() == "fail";
            let failed: Vec<&Case> = self.cases.iter().filter(failed).collect();
            if !failed.is_empty() {
                writeln!(f, "\n{}: {}\n  ({})", probe.name, probe.title, probe.source)?;
                failed.iter().try_for_each(|case| writeln!(f, "  {}: {}", case.caller, case.verdict.why()))?;
            }
        }
        let words = ["pass", "told", "fail", "skip"].map(|word| format!("{} {word}", self.count(word)));
        writeln!(f, "\n{}", words.join(", "))
    }
}
