//! The library's own lines for the log, through [`tracing`]: of a stack whose events no log follows.

use super::{CircuitReason, CircuitState, Event, Events, Failure};
use crate::{ErrorKind, LlmError};

/// The target of these lines.
const TARGET: &str = "steadfast";

/// Writes a line for a switch, or for a circuit that opens or closes, unless a log follows the events.
#[doc(hidden)]
pub fn report(event: &Event, events: Option<&Events>) {
    if events.is_some_and(Events::is_logged) {
        return;
    }
    match event {
        Event::ModelSwitched { chain, first, from, to, reason, failure, .. } => {
            let Cause { kind, status, error, request_id } = Cause::of(failure.as_ref());
            let (event, reason) = ("model_switched", reason.name());
            let (chain, first, from, to) = (&**chain, &**first, &**from, &**to);
            tracing::warn!(target: TARGET, event, chain, first, from, to, reason, kind, status, error, request_id);
        }
        Event::ModelRecovered { chain, from, to, after, .. } => {
            let (event, chain, from, to) = ("model_recovered", &**chain, &**from, &**to);
            let after_seconds = after.as_secs_f64();
            tracing::info!(target: TARGET, event, chain, from, to, after_seconds);
        }
        // A probe's result is no news while the circuit stays away from closed.
        Event::CircuitChanged { to: CircuitState::HalfOpen, .. }
        | Event::CircuitChanged { from: CircuitState::HalfOpen, reason: CircuitReason::ProbeFailed, .. } => {}
        Event::CircuitChanged { circuit, to, reason, failure, .. } => {
            let Cause { kind, status, error, request_id } = Cause::of(failure.as_ref());
            let (event, circuit, state, reason) = ("circuit_changed", &**circuit, to.name(), reason.name());
            if *to == CircuitState::Open {
                tracing::warn!(target: TARGET, event, circuit, to = state, reason, kind, status, error, request_id);
            } else {
                tracing::info!(target: TARGET, event, circuit, to = state, reason);
            }
        }
        _ => {}
    }
}

/// Writes the line of a tier that has never answered, whose key or model the provider refuses.
#[cold]
#[doc(hidden)]
pub fn report_setup(circuit: &str, failure: &LlmError, events: &Events) {
    if events.is_logged() {
        return;
    }
    let advice = match failure.kind() {
        ErrorKind::NotFound => "it has never answered: check the model's name and the base URL",
        _ => "it has never answered: check the API key",
    };
    let (event, kind, status) = ("setup_refused", failure.kind().name(), failure.status().map(|it| it.as_u16()));
    let words = failure.public_message();
    let error = Some(words.as_str()).filter(|words| !words.is_empty());
    tracing::error!(target: TARGET, event, circuit, kind, status, error, advice);
}

/// The fields of a failure.
#[derive(Default)]
struct Cause<'a> {
    kind: Option<&'static str>,
    status: Option<u16>,
    error: Option<&'a str>,
    request_id: Option<&'a str>,
}

impl<'a> Cause<'a> {
    fn of(failure: Option<&'a Failure>) -> Self {
        let Some(failure) = failure else { return Self::default() };
        Self {
            kind: Some(failure.kind.name()),
            status: failure.status,
            error: failure.message.as_deref(),
            request_id: failure.request_id.as_deref(),
        }
    }
}
