//! The homes of keys: a table with the deployment of each slot, made when the deployments change.
//!
//! It is Maglev's (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4): each
//! deployment has its own order of the slots, and they take the next free one by turns; here a heap gives the turns by
//! weight. A look costs the same for two deployments and a thousand. The same names have the same table in every
//! process. A deployment that comes or goes moves its own keys, and a few per cent of the others.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::internal::mix::spread;

/// The sizes of a table, all of them prime: a hundred slots for each deployment, as the paper has it, up to 512 kB.
/// Most keys move once when the number of deployments crosses into the next size.
const SIZES: [usize; 3] = [4093, 16_381, 131_071];

/// A deployment, as the table knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub(super) at: u32,
    /// The hash of its name.
    pub(super) hash: u64,
    pub(super) weight: f32,
}

/// The deployment of each slot. A key belongs to a slot.
#[derive(Debug)]
pub(super) struct Homes(Box<[u32]>);

impl Homes {
    pub(super) fn new(homes: &[Home]) -> Self {
        if homes.is_empty() {
            return Self(Box::default());
        }
        let wanted = homes.len().saturating_mul(100);
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let mut slots = vec![u32::MAX; size];
        let mut next: Vec<_> = homes.iter().map(|home| Order::new(home.hash, size)).collect();
        // By the time of its next turn; of equal ones by name, so that the order of the list changes nothing.
        let turn = |nth: u32, of: usize| {
            let time = (f64::from(nth) + 0.5) / f64::from(homes[of].weight);
            // Positive numbers have the order of their bits.
            Reverse((time.to_bits(), homes[of].hash, of, nth))
        };
        let mut turns: BinaryHeap<_> = (0..homes.len()).map(|of| turn(0, of)).collect();
        for _ in 0..size {
            let Some(Reverse((_, _, of, nth))) = turns.pop() else { break };
            let free = next[of].find(|slot| slots[*slot] == u32::MAX);
            if let Some(slot) = free {
                slots[slot] = homes[of].at;
            }
            turns.push(turn(nth + 1, of));
        }
        Self(slots.into())
    }

    /// Returns the home of a key, or the `nth` one to try where those before it do not serve.
    #[inline]
    pub(super) fn of(&self, key: u64, nth: u64) -> Option<usize> {
        let mixed = spread(key.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let slot = ((mixed >> 32) * self.0.len() as u64) >> 32;
        self.0.get(slot as usize).map(|at| *at as usize)
    }
}

/// The order in which a deployment takes the slots: from one on, in steps that meet each slot once.
struct Order {
    at: usize,
    step: usize,
    size: usize,
}

impl Order {
    fn new(hash: u64, size: usize) -> Self {
        let of = |number: u64, size: usize| (spread(number) % size as u64) as usize;
        Self { at: of(hash, size), step: of(!hash, size - 1) + 1, size }
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let slot = self.at;
        self.at = (self.at + self.step) % self.size;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes(names: impl IntoIterator<Item = u32>, weight: impl Fn(u32) -> f32) -> Vec<Home> {
        let home = |name: u32| Home { at: name, hash: spread(u64::from(name) + 77), weight: weight(name) };
        names.into_iter().map(home).collect()
    }

    fn moved(one: &Homes, other: &Homes, except: u32) -> f64 {
        let keys = (0..20_000).map(spread).filter(|key| one.of(*key, 0) != Some(except as usize));
        let moved: Vec<_> = keys.map(|key| one.of(key, 0) != other.of(key, 0)).collect();
        moved.iter().filter(|moved| **moved).count() as f64 / moved.len() as f64
    }

    #[test]
    fn keys_spread_by_weight() {
        let weights = [1.0, 2.0, 1.0, 4.0, 0.01];
        let homes = Homes::new(&homes(0..5, |name| weights[name as usize]));
        let mut counts = [0_u32; 5];
        for key in 0..80_100 {
            counts[homes.of(spread(key), 0).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            // The slots are equal to a part of a per cent; the keys fall into them at random.
            let expected = f64::from(weight) * 10_000.0;
            assert!((f64::from(*count) - expected).abs() < 0.01 * expected + 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn few_other_keys_move_when_one_comes_or_goes() {
        for many in [2, 8, 39, 150] {
            let all = Homes::new(&homes(0..many, |_| 1.0));
            let without = Homes::new(&homes(1..many, |_| 1.0));
            let share = moved(&all, &without, 0);
            assert!(share <= 0.06, "{many}: {share}");
            // Hashing by the rest of a division moves nearly all.
        }
    }

    #[test]
    fn the_order_of_the_list_changes_no_home() {
        let list = homes(0..30, |name| 1.0 + (name % 3) as f32);
        let turned: Vec<_> = list.iter().rev().copied().collect();
        assert_eq!(moved(&Homes::new(&list), &Homes::new(&turned), u32::MAX), 0.0);
    }

    #[test]
    fn the_keys_of_one_that_is_out_spread_over_the_others() {
        let homes = Homes::new(&homes(0..8, |_| 1.0));
        let mut seconds = [0_u32; 8];
        for key in (0..40_000).map(spread).filter(|key| homes.of(*key, 0) == Some(3)) {
            seconds[(1..).find_map(|nth| homes.of(key, nth).filter(|at| *at != 3)).unwrap()] += 1;
        }
        assert!((0..8).all(|at| at == 3 || (500..1000).contains(&seconds[at])), "{seconds:?}");
    }

    #[test]
    fn its_memory_is_bounded_and_none_has_no_homes() {
        let many = Homes::new(&homes(0..5000, |name| if name == 0 { 1e6 } else { 1e-6 }));
        assert_eq!(many.0.len(), SIZES[2]);
        assert!(many.0.iter().all(|at| *at < 5000));
        assert_eq!(Homes::new(&[]).of(7, 0), None);
        assert!((0..99).all(|key| Homes::new(&homes(4..5, |_| 0.3)).of(spread(key), 2) == Some(4)));
    }
}
