//! The person or redrive that works on a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A person or redrive that works on a task or has answered it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claimant {
    /// Its kind.
    pub kind: ClaimantKind,
    /// The person's name, or the name of the single redrive.
    pub name: String,
}

/// The kind of a claimant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClaimantKind {
    /// A person.
    Person,
    /// A redrive, which calls a model again.
    Redrive,
}

impl ClaimantKind {
    /// Returns its name: `person`, `redrive`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Redrive => "redrive",
        }
    }
}

impl Claimant {
    /// Creates a claimant for a person of this name.
    pub fn person(name: impl Into<String>) -> Self {
        Self { kind: ClaimantKind::Person, name: name.into() }
    }

    /// Creates a claimant for a redrive, which has a unique name.
    pub fn redrive(name: impl Into<String>) -> Self {
        Self { kind: ClaimantKind::Redrive, name: name.into() }
    }
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ClaimantKind::Person => f.write_str(&self.name),
            ClaimantKind::Redrive => f.write_str("a redrive"),
        }
    }
}
