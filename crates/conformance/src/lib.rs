//! Probes of any gateway or provider of language models.
//!
//! A [`Conformance`] asks a [`Subject`] in four dialects, whole and streamed, and reads its answers as a careful client
//! does. It has readers of its own for that, written from the vendors' references, and judges by sources that it names.
//!
//! - Without [`Upstreams`] it asks what any provider must hold: ends, usage, errors.
//! - With them it is the gateway's providers too. It makes the first fail in the sixteen ways of failoverbench,
//!   compares the requests that reach them, and sees whether a caller who leaves takes its call along.
//!
//! The command `steadfast conformance URL` does the same over HTTP.
//!
//! # Example
//!
//! ```
//! use steadfast_conformance::{Caller, Conformance, Subject};
//! use steadfast_simulator::InProcess;
//! use steadfast::providers::Simulated;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let subject = Subject::new(InProcess::new(Simulated::new("model").tokens(60..=60))).model("gpt-4o");
//! let report = Conformance::new(subject).callers([Caller::of("chat").unwrap()]).only(["ends/"]).run(|_| {}).await;
//! assert_eq!((report.count("pass"), report.count("fail")), (4, 0), "{report}");
//! # }
//! ```

mod answer;
mod caller;
mod dialects;
mod probe;
mod probes;
mod prompt;
mod report;
mod subject;
mod upstreams;

use std::{fmt, time::Duration};

use steadfast_internal::wall_clock;
use tokio::time::{Instant, sleep};

use self::{
    answer::Answer,
    probe::{Needs, Scene},
    prompt::Prompt,
    upstreams::Visits,
};
pub use self::{
    caller::Caller,
    probe::{Probe, Verdict},
    report::{Case, Report},
    subject::{ResponseBody, Subject},
    upstreams::{Upstream, Upstreams},
};

/// A run of the probes.
#[derive(Clone, Debug)]
pub struct Conformance {
    subject: Subject,
    upstreams: Option<Upstreams>,
    callers: Vec<Caller>,
    only: Vec<String>,
    rest: Duration,
}

impl Conformance {
    /// Creates a run of every probe that needs no providers behind the subject, for every caller.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        let callers = Caller::ALL.to_vec();
        Self { subject, upstreams: None, callers, only: Vec::new(), rest: Duration::from_secs(120) }
    }

    /// Sets the subject's providers, and adds the probes that need them.
    #[must_use]
    pub fn upstreams(mut self, upstreams: Upstreams) -> Self {
        self.upstreams = Some(upstreams);
        self
    }

    /// Sets the callers. Default: all.
    #[must_use]
    pub fn callers(mut self, callers: impl IntoIterator<Item = Caller>) -> Self {
        self.callers = callers.into_iter().collect();
        self
    }

    /// Leaves out each probe whose name begins with none of these. Default: none is left out.
    #[must_use]
    pub fn only<N: Into<String>>(mut self, beginnings: impl IntoIterator<Item = N>) -> Self {
        self.only = beginnings.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the longest wait for the subject to go back to its first provider after a fault. Default: 120 s.
    #[must_use]
    pub fn rest(mut self, rest: Duration) -> Self {
        self.rest = rest;
        self
    }

    /// Returns the probes of this run.
    pub fn probes(&self) -> impl Iterator<Item = &'static Probe> {
        let is_of = |probe: &&Probe| {
            let has = self.only.is_empty() || self.only.iter().any(|name| probe.name.starts_with(name.as_str()));
            has && match probe.needs {
                Needs::Nothing => true,
                Needs::Key => self.subject.has_key(),
                Needs::Upstreams | Needs::Faults => self.upstreams.is_some(),
            }
        };
        probes::all().filter(is_of)
    }

    /// Asks every question, one after the other, and tells each end.
    pub async fn run(&self, mut tell: impl FnMut(&Case)) -> Report {
        let run = wall_clock::since_1970().as_nanos();
        // Of each caller, whether it can be asked further.
        let mut states = Vec::new();
        for &caller in &self.callers {
            states.push(self.begin(caller, run).await);
        }
        let mut report = Report::new(states.contains(&Verdict::Pass));
        for probe in self.probes() {
            for (&caller, state) in self.callers.iter().zip(&mut states).filter(|(caller, _)| (probe.is_for)(**caller))
            {
                let mut verdict = state.clone();
                if *state == Verdict::Pass {
                    verdict = self.ask(probe, caller, run).await;
                    if probe.needs == Needs::Faults {
                        *state = self.settle(caller, run).await;
                    }
                    // Whatever the caller got, the gateway did not come back from it.
                    if *state != Verdict::Pass && !matches!(verdict, Verdict::Fail(_)) {
                        verdict = state.clone();
                    }
                }
                // It fails once.
                if let Verdict::Fail(why) = state {
                    *state = Verdict::Skip(std::mem::take(why));
                }
                let case = Case { probe, caller, verdict };
                tell(&case);
                report.push(case);
            }
        }
        report
    }

    async fn ask(&self, probe: &'static Probe, caller: Caller, run: u128) -> Verdict {
        let upstreams = self.upstreams.as_ref();
        let visits = upstreams.map(|both| [Visits::of(&both.primary), Visits::of(&both.backup)]);
        let topic = format!("{} {caller} {run:x}", probe.name);
        (probe.act)(&Scene { subject: &self.subject, upstreams, visits, topic }, caller).await
    }

    /// Asks a healthy question: a pass if the subject serves this caller, and a skip if it does not offer it.
    async fn begin(&self, caller: Caller, run: u128) -> Verdict {
        let prompt = Prompt::new(format!("Sixty words, please, on {caller} {run:x}."));
        match self.subject.ask(caller, &prompt).await {
            Ok(Answer { status: 404 | 405 | 501, .. }) => {
                Verdict::Skip("the subject does not offer this dialect, or not the model".to_owned())
            }
            Ok(Answer { status: 200, .. }) => Verdict::Pass,
            Ok(answer) => Verdict::Fail(format!("a healthy request fails: {answer}")),
            Err(error) => Verdict::Fail(format!("a healthy request fails: {error}")),
        }
    }

    /// Makes both providers healthy, and waits until the subject asks the first again.
    async fn settle(&self, caller: Caller, run: u128) -> Verdict {
        let Some(Upstreams { primary, backup }) = &self.upstreams else { return Verdict::Pass };
        primary.restore();
        backup.restore();
        let begin = Instant::now();
        let visits = Visits::of(primary);
        loop {
            let prompt = Prompt::new(format!("Still there, {caller} {run:x} {:?}?", begin.elapsed()));
            let answer = self.subject.ask(caller, &prompt).await;
            if visits.answered() > 0 && answer.is_ok_and(|answer| answer.status == 200) {
                return Verdict::Pass;
            }
            if begin.elapsed() > self.rest {
                let why = format!("the subject did not go back to its first provider within {:?}", self.rest);
                return Verdict::Fail(why);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// The names, sentences and sources of all probes, as a list.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue;

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        probes::all()
            .try_for_each(|probe| writeln!(f, "{:<24} {}\n{:<24} ({})", probe.name, probe.title, "", probe.source))
    }
}

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
