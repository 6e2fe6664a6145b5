//! Grants: the amounts that replicas may spend under a cap without a word to each other.

use std::{fmt, sync::Arc, time::Duration};

use super::spend::{Spend, SpendQuery};
use steadfast::prices::Usd;

/// An amount that one replica may spend under a cap, beyond the sum in the store, as long as the grant lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The cap's name. A grant of no cap only tells that its replica runs.
    pub cap: Arc<str>,
    /// The key, under a cap for each key.
    pub key: Option<Arc<str>>,
    /// The beginning of the cap's period, since 1970.
    pub since: Duration,
    /// The amount.
    pub amount: Usd,
    /// The part of it that was in use: reserved for requests in flight, or spent and not in the store.
    pub held: Usd,
}

/// The view that a replica has of a store as it takes new grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantView {
    /// The grants of other replicas that last.
    pub others: Vec<Grant>,
    /// The number of replicas that have grants, this one included.
    pub replicas: usize,
    /// The answers to the questions, in their order.
    pub spends: Vec<Vec<Spend>>,
}

/// A replica's choice of its new grants, from what it sees.
pub type GrantChoice = Arc<dyn Fn(&GrantView) -> Vec<Grant> + Send + Sync>;

/// The replacement of a replica's grants. A [`LedgerStore`](crate::LedgerStore) carries it out.
#[derive(Clone)]
pub struct GrantTurn {
    /// The replica's name.
    pub replica: Arc<str>,
    /// The time for which the new grants last.
    pub lasts: Duration,
    /// The questions that the choice needs an answer to.
    pub queries: Vec<SpendQuery>,
    /// The choice. It gives up what it does not name.
    pub choice: GrantChoice,
}

impl fmt::Debug for GrantTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantTurn").field("replica", &self.replica).field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

/// The state of a cap, for a share of what is left.
#[derive(Clone, Copy, Debug)]
pub struct GrantRequest<'a> {
    /// The cap's limit.
    pub limit: Usd,
    /// The amount that all replicas have spent.
    pub spent: Usd,
    /// The amount in use at this replica, beyond it.
    pub held: Usd,
    /// The grants of the other replicas under this cap.
    pub others: &'a [&'a Grant],
    /// The number of replicas among which a first grant is divided; `None` if this replica has had one.
    pub first_among: Option<usize>,
}

impl GrantRequest<'_> {
    /// Returns the amount to take: what is in use, and an even part of what nobody uses.
    ///
    /// The grants of replicas that have had one before never come to more than what is left of the limit, as long as
    /// what they use does not. A first grant is a part of what is left, whatever the others have: they learn of it in
    /// their next turn.
    pub fn amount(&self) -> Usd {
        let sum = |amounts: &mut dyn Iterator<Item = u64>| amounts.fold(0, u64::saturating_add);
        let left = self.limit.nanos().saturating_sub(self.spent.nanos()).saturating_sub(self.held.nanos());
        let others_held = sum(&mut self.others.iter().map(|other| other.held.nanos()));
        let others_granted = sum(&mut self.others.iter().map(|other| other.amount.nanos()));
        let replicas = self.first_among.unwrap_or(1).max(1 + self.others.len()) as u64;
        let even = left.saturating_sub(others_held) / replicas;
        let more = match self.first_among {
            Some(_) => even,
            None => even.min(left.saturating_sub(others_granted)),
        };
        Usd::from_nanos(self.held.nanos().saturating_add(more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(limit: u64, spent: u64, held: u64, others: &[(u64, u64)], first_among: Option<usize>) -> u64 {
        let others: Vec<Grant> = others
            .iter()
            .map(|(amount, held)| Grant {
                amount: Usd::from_nanos(*amount),
                held: Usd::from_nanos(*held),
                ..Grant::default()
            })
            .collect();
        let request = GrantRequest {
            limit: Usd::from_nanos(limit),
            spent: Usd::from_nanos(spent),
            held: Usd::from_nanos(held),
            others: &others.iter().collect::<Vec<_>>(),
            first_among,
        };
        request.amount().nanos()
    }

    #[test]
    fn a_replica_takes_an_even_part_of_what_nobody_uses() {
        assert_eq!(granted(100, 40, 0, &[], None), 60, "one that is alone takes all");
        assert_eq!(granted(100, 40, 10, &[], None), 60);
        assert_eq!(granted(100, 40, 0, &[], Some(3)), 20, "its first is a part, for others may take theirs");
        assert_eq!(granted(100, 40, 0, &[(60, 0)], Some(2)), 30, "whatever the other has not given up yet");
        assert_eq!(granted(100, 40, 30, &[(30, 30)], None), 30, "the next is none of what the other has");
        assert_eq!(granted(100, 40, 10, &[(20, 0)], None), 35, "it leaves the other as much");
        assert_eq!(granted(100, 100, 7, &[], None), 7, "what is in use is beyond the cap, and stays");
        assert_eq!(granted(100, 200, 0, &[(u64::MAX, u64::MAX), (9, 9)], Some(5)), 0);
    }

    /// Replicas that have had grants, in any order and with any use of them.
    #[test]
    fn grants_never_come_to_more_than_what_is_left() {
        let mut random = fastrand::Rng::with_seed(58);
        for _ in 0..500 {
            let limit = random.u64(1..1000);
            let (mut spent, mut grants) = (0, [(0, 0); 4]);
            for _ in 0..40 {
                let at = random.usize(..4);
                // It spends some of what it has, stores some of that, and takes its turn.
                let (amount, held): (u64, u64) = grants[at];
                let held = random.u64(held..=amount);
                let stored = random.u64(..=held);
                spent += stored;
                let others: Vec<_> = (0..4).filter(|other| *other != at).map(|other| grants[other]).collect();
                let held = held - stored;
                grants[at] = (granted(limit, spent, held, &others, None), held);
                let sum: u64 = spent + grants.iter().map(|(amount, _)| amount).sum::<u64>();
                assert!(sum <= limit, "{spent} of {limit}, {grants:?}");
            }
            // In turns without further use nothing is left over but what cannot be divided.
            for at in (0..4).cycle().take(400) {
                let others: Vec<_> = (0..4).filter(|other| *other != at).map(|other| grants[other]).collect();
                grants[at].0 = granted(limit, spent, grants[at].1, &others, None);
            }
            let sum: u64 = spent + grants.iter().map(|(amount, _)| amount).sum::<u64>();
            assert!((limit.saturating_sub(4)..=limit).contains(&sum), "{spent} of {limit}, {grants:?}");
        }
    }
}
