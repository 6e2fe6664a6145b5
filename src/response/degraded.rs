//! How much less than what was asked for an answer is, and what led there.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    ErrorKind,
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// That an answer is less than what was asked for: of which level of service it is, and why it is of no better one.
///
/// It reads as an item of a structured header ([RFC 9651](https://www.rfc-editor.org/rfc/rfc9651)), `5;reason=timeout`, and
/// in JSON as `{"level": 5, "reason": "timeout"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Degraded {
    /// The level of service: 2 reduced, 3 basic, 4 cached answers only, 5 a fixed sentence.
    pub level: u8,
    /// Why it is of no better one.
    pub reason: DegradedReason,
}

/// Why an answer is of no better level of service.
///
/// Where several things came together, a failure leads: an order to step down to level 2 is not why level 5 answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DegradedReason {
    /// A tier before it failed, or refused, such as by its open [circuit](crate::CircuitBreaker); or it could not carry the
    /// request ([`UnsupportedFeature`](ErrorKind::UnsupportedFeature), [`ContextLength`](ErrorKind::ContextLength)). Of
    /// several, the first.
    Failure(ErrorKind),
    /// The request was [stepped down](crate::Context::min_level), as a [`Budget`](crate::Budget) does whose amount is
    /// spent.
    SteppedDown,
    /// An operator has [pinned](crate::FallbackHandle::pin_level) the level.
    Pinned,
    /// An operator has [drained](crate::FallbackHandle::drain) what is better.
    Drained,
    /// The request [requires a person](crate::LlmRequest::requires_human), who has not answered yet.
    RequiresHuman,
    /// A rule of a [`Route`](crate::Route) chose a cheaper chain.
    Route,
    /// Nothing better was to be asked: the order of its feature, of the model that was named or of its session begins
    /// there, or the traffic still returns to the primary step by step.
    #[default]
    Order,
}

impl Degraded {
    /// An answer of this level, from 2 to 5, for this reason.
    pub fn new(level: u8, reason: DegradedReason) -> Self {
        Self { level: level.clamp(BEST_LEVEL + 1, WORST_LEVEL), reason }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};reason={}", self.level, self.reason.name())
    }
}

impl DegradedReason {
    /// Its name in metrics, logs and headers: of a failure the [kind's](ErrorKind::name).
    pub fn name(self) -> &'static str {
        match self {
            Self::Failure(kind) => kind.name(),
            Self::SteppedDown => "stepped_down",
            Self::Pinned => "pinned",
            Self::Drained => "drained",
            Self::RequiresHuman => "requires_human",
            Self::Route => "route",
            Self::Order => "order",
        }
    }
}

impl Serialize for DegradedReason {
    /// Its [name](Self::name).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for DegradedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_an_item_of_a_structured_header() {
        let timeout = DegradedReason::Failure(ErrorKind::Timeout);
        assert_eq!(Degraded::new(5, timeout).to_string(), "5;reason=timeout");
        for (given, level) in [(0, 2), (1, 2), (4, 4), (9, 5)] {
            assert_eq!(Degraded::new(given, timeout).level, level);
        }
    }

    #[test]
    fn a_reason_is_not_mistaken_for_a_failure() {
        use DegradedReason::{Drained, Order, Pinned, RequiresHuman, Route, SteppedDown};
        let orders = [SteppedDown, Pinned, Drained, RequiresHuman, Route, Order].map(DegradedReason::name);
        assert!(ErrorKind::ALL.iter().all(|kind| !orders.contains(&kind.name())), "{orders:?}");
    }
}
