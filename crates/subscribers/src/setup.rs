//! The setup of a tier, its key and its model's name, as its answers prove it.

use std::sync::Arc;

use tokio::time::Instant;

use steadfast::{Attempt, ErrorKind, events::RequestEnded};

/// The proof of a tier's setup since the start, or since a reload changed the tier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Setup {
    /// No call has proved anything.
    #[default]
    Untried,
    /// A call was answered.
    Works,
    /// None was answered, and the provider refuses the key or does not know the model.
    Refused { kind: ErrorKind, last: Instant },
}

impl Setup {
    /// Takes a failed call. Returns true for the first refusal.
    pub(crate) fn failed(&mut self, failure: &Attempt, at: Instant) -> bool {
        let Some(kind @ (ErrorKind::Auth | ErrorKind::NotFound)) = failure.failure else { return false };
        if *self == Self::Works || failure.is_local() {
            return false;
        }
        let is_first = *self == Self::Untried;
        *self = Self::Refused { kind, last: at };
        is_first
    }

    /// Takes an answer that the tier has made itself.
    pub(crate) fn answered(&mut self, ended: &RequestEnded) {
        if ended.cached.is_none() {
            *self = Self::Works;
        }
    }
}

/// The proofs of the setups of a few tiers, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setups(Vec<(Arc<str>, Setup)>);

impl Setups {
    /// Returns a tier's; `None` for a new one beyond as many as a file may have.
    pub(crate) fn of(&mut self, tier: &Arc<str>) -> Option<&mut Setup> {
        const MOST: usize = 1_000;
        let place = match self.0.iter().position(|(name, _)| name == tier) {
            Some(place) => place,
            None if self.0.len() < MOST => {
                self.0.push((tier.clone(), Setup::default()));
                self.0.len() - 1
            }
            None => return None,
        };
        Some(&mut self.0[place].1)
    }

    /// Forgets the refusals, after a reload that may have mended them.
    pub(crate) fn forget_refusals(&mut self) {
        self.0.retain(|(_, setup)| *setup == Setup::Works);
    }
}
