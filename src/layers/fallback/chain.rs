//! Which tiers a request may go to, in order; 0 is the primary.

use std::sync::Arc;

use super::shared::Shared;

/// Which tiers the request may go to, in order.
pub(super) enum Chain {
    All,
    /// All, but this one first.
    AllFrom(usize),
    /// A feature's policy.
    Listed(Arc<[usize]>),
    /// A pinned session's.
    Pinned(usize),
}

impl Chain {
    /// The same tiers, this one first if it is among them.
    pub(super) fn from(self, first: usize) -> Self {
        match self {
            Self::Listed(tiers) if tiers.contains(&first) => {
                let others = tiers.iter().copied().filter(|tier| *tier != first);
                Self::Listed(std::iter::once(first).chain(others).collect())
            }
            Self::All => Self::AllFrom(first),
            other => other,
        }
    }

    pub(super) fn len(&self, shared: &Shared) -> usize {
        match self {
            Self::All | Self::AllFrom(_) => shared.tiers(),
            Self::Listed(tiers) => tiers.len(),
            Self::Pinned(_) => 1,
        }
    }

    pub(super) fn iter(&self, shared: &Shared) -> impl Iterator<Item = usize> {
        let all = match self {
            Self::All | Self::AllFrom(_) => 0..shared.tiers(),
            Self::Listed(_) | Self::Pinned(_) => 0..0,
        };
        let first = match self {
            Self::AllFrom(tier) | Self::Pinned(tier) => Some(*tier),
            _ => None,
        };
        let listed: &[usize] = match self {
            Self::Listed(tiers) => tiers,
            _ => &[],
        };
        first.into_iter().chain(all.filter(move |tier| Some(*tier) != first)).chain(listed.iter().copied())
    }
}
