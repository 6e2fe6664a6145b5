//! The tiers that a request may go to, in order; 0 is the primary.

use std::sync::Arc;

/// The tiers that the request may go to, in order.
pub(crate) enum Chain {
    All,
    /// All tiers, with this one first.
    AllFrom(usize),
    /// A feature's policy.
    Listed(Arc<[usize]>),
    /// A pinned session's tier.
    Pinned(usize),
}

impl Chain {
    /// Returns the same tiers, with this one first if it is among them.
    pub(crate) fn from(self, first: usize) -> Self {
        match self {
            Self::Listed(tiers) if tiers.contains(&first) => {
                let others = tiers.iter().copied().filter(|tier| *tier != first);
                Self::Listed(std::iter::once(first).chain(others).collect())
            }
            Self::All => Self::AllFrom(first),
            other => other,
        }
    }

    /// Returns the same tiers, beginning at the one in this position: the models after it follow, then those before
    /// it. Tiers without a model come last, since they would keep the others from being asked.
    pub(crate) fn beginning_at(&self, place: usize, tiers: usize, is_model: impl Fn(usize) -> bool) -> Self {
        let first = self.tier(place);
        let places = (place + 1..self.len(tiers)).chain(0..place);
        let turned = places.map(|place| self.tier(place)).filter(|tier| is_model(*tier));
        let others = self.iter(tiers).filter(|tier| *tier != first && !is_model(*tier));
        Self::Listed(std::iter::once(first).chain(turned).chain(others).collect())
    }

    /// Returns its length, of so many tiers in all; likewise below.
    pub(crate) fn len(&self, tiers: usize) -> usize {
        match self {
            Self::All | Self::AllFrom(_) => tiers,
            Self::Listed(listed) => listed.len(),
            Self::Pinned(_) => 1,
        }
    }

    pub(crate) fn iter(&self, tiers: usize) -> impl Iterator<Item = usize> {
        (0..self.len(tiers)).map(|place| self.tier(place))
    }

    /// Returns the tier at this position of the order.
    pub(crate) fn tier(&self, place: usize) -> usize {
        match self {
            Self::AllFrom(first) if place == 0 => *first,
            Self::AllFrom(first) if place <= *first => place - 1,
            Self::All | Self::AllFrom(_) => place,
            Self::Listed(tiers) => tiers[place],
            Self::Pinned(tier) => *tier,
        }
    }
}

/// Returns the tiers that requests of a policy and of a model take, in the model's order.
pub(crate) fn both(may: Option<&Arc<[usize]>>, wanted: Option<&Arc<[usize]>>) -> Option<Arc<[usize]>> {
    match (may, wanted) {
        (Some(may), Some(wanted)) => {
            let both: Arc<[usize]> = wanted.iter().copied().filter(|tier| may.contains(tier)).collect();
            Some(if both.is_empty() { may.clone() } else { both })
        }
        (one, other) => one.or(other).cloned(),
    }
}

/// A set of tiers.
///
/// The first 64 tiers, more than any configuration has, are bits: a list would be an allocation for each request
/// that a further tier serves.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tiers {
    first: u64,
    others: Vec<usize>,
}

impl Tiers {
    pub(crate) fn insert(&mut self, tier: usize) {
        match bit(tier) {
            Some(bit) => self.first |= bit,
            None if self.others.contains(&tier) => {}
            None => self.others.push(tier),
        }
    }

    pub(crate) fn remove(&mut self, tier: usize) {
        match bit(tier) {
            Some(bit) => self.first &= !bit,
            None => self.others.retain(|other| *other != tier),
        }
    }

    pub(crate) fn contains(&self, tier: usize) -> bool {
        bit(tier).map_or_else(|| self.others.contains(&tier), |bit| self.first & bit != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.first.count_ones() as usize + self.others.len()
    }
}

fn bit(tier: usize) -> Option<u64> {
    1_u64.checked_shl(u32::try_from(tier).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_in_a_set_once_wherever_it_stands() {
        let mut set = Tiers::default();
        for tier in [0, 63, 64, 1 << 40, 63, 64] {
            set.insert(tier);
        }
        assert_eq!([0, 63, 64, 1 << 40, 1, 65].map(|tier| set.contains(tier)), [true, true, true, true, false, false]);
        assert_eq!(set.len(), 4);
        set.remove(63);
        set.remove(64);
        assert_eq!((set.contains(63), set.contains(64), set.len()), (false, false, 2));
    }

    #[test]
    fn an_order_has_each_tier_once() {
        let order = |chain: Chain, tiers: usize| (0..tiers).map(|place| chain.tier(place)).collect::<Vec<_>>();
        assert_eq!(order(Chain::All, 3), [0, 1, 2]);
        assert_eq!(order(Chain::AllFrom(0), 3), [0, 1, 2]);
        assert_eq!(order(Chain::AllFrom(1), 3), [1, 0, 2]);
        assert_eq!(order(Chain::AllFrom(2), 3), [2, 0, 1]);
        assert_eq!(order(Chain::Listed([2, 0].into()), 2), [2, 0]);
        assert_eq!(order(Chain::Pinned(2), 1), [2]);
    }
}
