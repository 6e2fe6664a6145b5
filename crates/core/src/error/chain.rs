//! The text of a failed chain: each tier with its failure, and the remedy.

use std::{collections::BTreeSet, fmt};

use super::{Attempt, ErrorKind, LlmError, Next, Stop, attempt::StepName};

/// The tiers and deployments that a request came to before it failed, each with its last step.
pub(super) struct Chain<'a> {
    failed: Vec<&'a Attempt>,
    left_out: Vec<&'a Attempt>,
    stop: Option<Stop>,
}

/// Further tiers are counted and not named: an error is one line of a log.
const MOST_NAMED: usize = 8;

impl<'a> Chain<'a> {
    /// Returns the chain of an error to which at least two tiers or deployments led. A request at fault is no failure
    /// of a chain, nor is an answer that broke.
    pub(super) fn of(error: &'a LlmError) -> Option<Self> {
        let steps = error.attempts();
        let stop = match steps.last()?.next {
            Next::Stopped(stop) => Some(stop),
            Next::Skipped => None,
            _ => return None,
        };
        let (mut failed, mut left_out) = (Vec::<&Attempt>::new(), Vec::new());
        let is_same = |a: &Attempt, b: &Attempt| (&a.tier, &a.deployment) == (&b.tier, &b.deployment);
        for step in steps.iter().filter(|step| step.tier.is_some() || step.deployment.is_some()) {
            match step.next {
                Next::Skipped => left_out.push(step),
                // Its provider never saw the request.
                _ if step.failure == Some(ErrorKind::UnsupportedFeature) && step.status.is_none() => {
                    left_out.push(step)
                }
                // A tier's last failure describes its present state. A refusal by its circuit after that says less than
                // the failure that opened it.
                _ if step.failure.is_some() => match failed.iter_mut().find(|known| is_same(known, step)) {
                    Some(known) if step.failure == Some(ErrorKind::CircuitOpen) && !known.is_local() => {}
                    Some(known) => *known = step,
                    None => failed.push(step),
                },
                _ => {}
            }
        }
        left_out.retain(|step| failed.iter().all(|other| !is_same(other, step)));
        left_out.dedup_by(|a, b| is_same(a, b));
        let is_chain = failed.len() > 1 && !error.kind().is_about_the_request();
        is_chain.then_some(Self { failed, left_out, stop })
    }

    /// Returns the kind of each place's last failure.
    pub(super) fn kinds(&self) -> impl Iterator<Item = ErrorKind> {
        self.failed.iter().filter_map(|step| step.failure)
    }

    /// Writes each tier with its failure.
    pub(super) fn write(&self, error: &LlmError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, known) = (self.failed.len(), self.failed.len() + self.left_out.len());
        let places = if self.failed.iter().any(|step| step.deployment.is_some()) { "deployments" } else { "tiers" };
        match self.stop {
            Some(Stop::Attempts | Stop::Deadline | Stop::Budget) => write!(f, "{failed} {places} failed: ")?,
            _ if known > failed => write!(f, "{failed} of {known} {places} failed: ")?,
            _ => write!(f, "all {failed} {places} failed: ")?,
        }
        for (place, step) in self.failed.iter().take(MOST_NAMED).enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{}", StepName(step))?;
            if let Some(status) = step.status {
                write!(f, " {}", status.as_u16())?;
            }
            write!(f, " {}", step.failure.unwrap_or(ErrorKind::Other).words())?;
        }
        if failed > MOST_NAMED {
            write!(f, " and {} more", failed - MOST_NAMED)?;
        }
        for (place, step) in self.left_out.iter().take(MOST_NAMED).enumerate() {
            let before = if place == 0 { "; not asked: " } else { ", " };
            write!(f, "{before}{} ({})", StepName(step), step.message)?;
        }
        match self.stop {
            Some(Stop::Attempts) => f.write_str("; no attempt is left")?,
            Some(Stop::Deadline) => f.write_str("; no time is left")?,
            Some(Stop::Budget) => f.write_str("; the retry budget is empty")?,
            _ => {}
        }
        if error.message().is_empty() || !error.may_quote() {
            return Ok(());
        }
        write!(f, "; the first said: {}", error.message())
    }

    /// Returns the owner's remedy, given all that was tried.
    pub(super) fn advice(&self) -> String {
        let kinds: BTreeSet<ErrorKind> = self.failed.iter().filter_map(|step| step.failure).collect();
        if let (1, Some(kind)) = (kinds.len(), kinds.first()) {
            return kind.advice_to_all().to_owned();
        }
        let mends = self.failed.iter().filter_map(|step| Some((StepName(step), step.failure?.mend()?)));
        let mends: Vec<String> = mends.take(MOST_NAMED).map(|(name, mend)| format!("{mend} of {name}")).collect();
        match (mends.is_empty(), self.stop) {
            (false, _) => mends.join(", "),
            (true, Some(Stop::Attempts)) => "raise the attempts".to_owned(),
            (true, Some(Stop::Deadline)) => "raise the deadline".to_owned(),
            (true, _) => "wait, and see the providers' status pages".to_owned(),
        }
    }
}
