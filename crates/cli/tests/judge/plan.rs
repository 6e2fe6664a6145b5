//! The plan of a client, and what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A call of a plan.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Call {
    /// Seconds since the plan began.
    pub(crate) at: f64,
    /// The prompt.
    pub(crate) prompt: String,
}

/// The outcome of a call, as its client has it after its own repeats.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Outcome {
    /// True if the client has the whole answer.
    pub(crate) served: bool,
    /// The wait of the caller.
    pub(crate) seconds: f64,
    /// The client's words, if it was not served.
    pub(crate) error: String,
}

/// The beginning of the error of a client whose first call fails, before anything happens.
pub(crate) const FIRST: &str = "all was well, and yet:";

/// The part of a plan that all clients are given.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) calls: Vec<Call>,
    /// True if answers are asked for as streams.
    pub(crate) stream: bool,
    /// Seconds that a caller waits for a call, with all of its client's repeats.
    pub(crate) patience: f64,
}

impl Plan {
    /// Returns these calls, of which none waits longer than this.
    pub(crate) fn new(calls: Vec<Call>, patience: u64) -> Self {
        Self { calls, stream: false, patience: patience as f64 }
    }

    /// Asks for streams.
    pub(crate) fn streamed(self) -> Self {
        Self { stream: true, ..self }
    }

    /// Returns the seconds that it takes at most.
    pub(crate) fn lasts(&self) -> f64 {
        self.calls.iter().map(|call| call.at).fold(0.0, f64::max) + self.patience
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience)
    }
}

/// Returns calls at regular times, both ends included.
pub(crate) fn every(step: f64, from: f64, to: f64) -> Vec<Call> {
    let count = ((to - from) / step).round() as usize;
    (0..=count).map(|number| Call { at: from + step * number as f64, prompt: "hello".to_owned() }).collect()
}

/// Returns so many calls at one time.
pub(crate) fn at_once(count: usize, at: f64, prompt: &str) -> Vec<Call> {
    vec![Call { at, prompt: prompt.to_owned() }; count]
}
