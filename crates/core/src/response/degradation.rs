//! The level of an answer that is less than the caller asked for, and the reason.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    ErrorKind,
    request::{BEST_LEVEL, WORST_LEVEL},
};

/// An answer's level of service, below full, and the reason that it is no better.
///
/// As an item of a structured header ([RFC 9651](https://www.rfc-editor.org/rfc/rfc9651)) it is `5;reason=timeout`, and
/// in JSON `{"level": 5, "reason": "timeout"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Degradation {
    /// The level of service: 2 reduced, 3 basic, 4 cached answers only, 5 a fixed sentence.
    pub level: u8,
    /// The reason that the level is no better.
    pub reason: DegradedReason,
}

/// The reason that an answer is of no better level of service.
///
/// A failure takes precedence over other reasons: an order to step down to level 2 does not explain an answer of level
/// 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DegradedReason {
    /// An earlier tier failed or refused, for example by its open circuit; or it could not
    /// carry the request ([`UnsupportedFeature`](ErrorKind::UnsupportedFeature),
    /// [`ContextLength`](ErrorKind::ContextLength)). If there are several, the first.
    Failure(ErrorKind),
    /// The request was [stepped down](crate::Context::min_level), for example by a `Budget` whose
    /// amount is spent.
    SteppedDown,
    /// An operator pinned the level.
    Pinned,
    /// An operator drained the better tiers.
    Drained,
    /// The request [requires a person](crate::LlmRequest::with_human_required), who has not answered yet.
    RequiresHuman,
    /// A rule of a `Route` chose a cheaper chain.
    Route,
    /// No better tier was due: the order of the request's feature, model or session begins here, or the traffic still
    /// returns to the primary step by step.
    #[default]
    Order,
}

impl Degradation {
    /// Creates a level, from 2 to 5, with this reason.
    pub fn new(level: u8, reason: DegradedReason) -> Self {
        Self { level: level.clamp(BEST_LEVEL + 1, WORST_LEVEL), reason }
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};reason={}", self.level, self.reason.name())
    }
}

impl DegradedReason {
    /// The name in metrics, logs and headers; for a failure, the [kind's](ErrorKind::name).
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
    /// Serializes the [name](Self::name).
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
        assert_eq!(Degradation::new(5, timeout).to_string(), "5;reason=timeout");
        for (given, level) in [(0, 2), (1, 2), (4, 4), (9, 5)] {
            assert_eq!(Degradation::new(given, timeout).level, level);
        }
    }

    #[test]
    fn a_reason_is_not_mistaken_for_a_failure() {
        use DegradedReason::{Drained, Order, Pinned, RequiresHuman, Route, SteppedDown};
        let orders = [SteppedDown, Pinned, Drained, RequiresHuman, Route, Order].map(DegradedReason::name);
        assert!(ErrorKind::ALL.iter().all(|kind| !orders.contains(&kind.name())), "{orders:?}");
    }
}
