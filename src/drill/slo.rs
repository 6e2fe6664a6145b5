//! Targets that a drill is judged against.

use serde::{Deserialize, Serialize};

/// A target that a scenario missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Missed {
    /// The scenario's name.
    pub scenario: String,
    /// The target, as it was given: `lost=0`.
    pub slo: String,
    /// What was found instead: `3`.
    pub found: String,
}
