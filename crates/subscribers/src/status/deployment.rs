//! A deployment of a tier on the status board.

use serde::Serialize;
use steadfast::{CircuitBreakerHandle, events::CircuitState, layers::balance};
use steadfast_internal::wall_clock;
use tokio::time::Instant;

use super::TierHealth;

/// A deployment of a tier. It has no conversation's content and no address.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// The deployment's name.
    pub name: String,
    /// Its zone, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its weight; its share is relative to the others' weights.
    pub weight: f64,
    /// Its health: `down` while its circuit is not closed.
    pub health: TierHealth,
    /// Its availability to new requests: `serving`, `returning`, `awaiting probe`, `circuit open`, `closed off`,
    /// `full`, `no headroom` or `drained`.
    pub availability: &'static str,
    /// Its circuit's state: `closed`, `open` or `half-open`.
    pub circuit: &'static str,
    /// The time at which an open circuit lets a probe through, or its provider accepts calls again, if known.
    pub until: Option<String>,
    /// The state that an operator has forced on its circuit.
    pub forced: Option<&'static str>,
    /// True if an operator has drained it.
    pub drained: bool,
    /// The requests that it serves; a stream counts until its end.
    pub in_flight: usize,
    /// The whole answers so far.
    pub answered: u64,
    /// The calls so far that were sent and failed, broken streams included.
    pub failed: u64,
    /// The expected time to the first token of a stream, in milliseconds; `None` before the first stream.
    pub first_token_ms: Option<f64>,
    /// The share of its rate limits that is left, from 0 to 1; 1 if none is known.
    pub headroom: f64,
}

impl DeploymentStatus {
    /// Creates the status of a deployment of a balancer, with its circuit.
    pub fn new(known: &balance::DeploymentStatus, circuit: &CircuitBreakerHandle) -> Self {
        use balance::Availability;
        let (now, since_1970) = (Instant::now(), wall_clock::since_1970());
        let date = |at: Instant| wall_clock::rfc3339(since_1970 + at.saturating_duration_since(now));
        let closed_off = match known.availability {
            Availability::ClosedOff(until) => Some(until),
            _ => None,
        };
        let state = circuit.state();
        let probe = circuit.earliest_probe().filter(|_| state == CircuitState::Open);
        Self {
            name: known.name.as_ref().into(),
            zone: known.zone.as_deref().map(Into::into),
            weight: known.weight,
            health: if state == CircuitState::Closed { TierHealth::Ok } else { TierHealth::Down },
            availability: match known.availability {
                Availability::Serving => "serving",
                Availability::Returning => "returning",
                Availability::AwaitingProbe => "awaiting probe",
                Availability::CircuitOpen => "circuit open",
                Availability::ClosedOff(_) => "closed off",
                Availability::Full => "full",
                Availability::NoHeadroom => "no headroom",
                Availability::Drained => "drained",
                _ => "unknown",
            },
            circuit: state.name(),
            until: probe.or(closed_off).map(date),
            forced: circuit.forced().map(CircuitState::name),
            drained: known.availability == Availability::Drained,
            in_flight: known.in_flight,
            answered: known.answered,
            failed: known.failed,
            first_token_ms: known.first_token.map(|time| (time.as_secs_f64() * 1e4).round() / 10.0),
            headroom: known.headroom,
        }
    }

    /// Returns whether it takes new requests, at least one that shows that it is well.
    pub fn serves(&self) -> bool {
        matches!(self.availability, "serving" | "returning" | "awaiting probe")
    }
}
