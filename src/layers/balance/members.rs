//! The list of deployments as the balancer draws from it.

use std::sync::Arc;

use super::{
    deployment::{Deployment, DeploymentFacts},
    homes::{Home, Homes},
    moved::Place,
    settings::Settings,
    state::DeploymentState,
};
#[cfg(feature = "load")]
use super::{state::Standing, time::Time};

/// The deployments at one time. A change makes another list; requests under way keep theirs.
#[derive(Debug)]
pub(super) struct Members<S> {
    pub(super) list: Box<[Member<S>]>,
    pub(super) all: Lots,
    /// Those of the balancer's zone, if it has some and not only those.
    pub(super) local: Option<Lots>,
    /// The homes of keys, empty without affinity.
    pub(super) homes: Homes,
    /// The homes in the balancer's zone, likewise.
    pub(super) local_homes: Option<Homes>,
    /// The number of this list.
    pub(super) version: u64,
}

/// A deployment of the list.
// In the order in which a choice needs it, which is in one line of the processor's cache.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Member<S> {
    pub(super) state: Arc<DeploymentState>,
    /// Its weight in units of the mean one.
    pub(super) share: f32,
    pub(super) is_local: bool,
    pub(super) facts: DeploymentFacts,
    /// Cloned for each call.
    pub(super) service: S,
}

#[cfg(feature = "load")]
impl<S> Member<S> {
    /// Returns true if the deployment may be asked now.
    pub(super) fn is_available(&self, now: Time) -> bool {
        !matches!(self.state.standing(&self.facts, || 1, now), Standing::Out(_))
    }
}

impl<S> Members<S> {
    pub(super) fn new(
        deployments: Vec<Deployment<S>>,
        settings: &Settings,
        version: u64,
        state_of: impl Fn(&DeploymentFacts) -> Arc<DeploymentState>,
    ) -> Self {
        let zone = settings.zone.as_ref();
        let weights: f32 = deployments.iter().map(|deployment| deployment.facts.weight).sum();
        let mean = weights / deployments.len().max(1) as f32;
        let member = |Deployment { service, facts }: Deployment<S>| {
            let is_local = zone.is_some() && facts.zone.as_ref() == zone;
            Member { state: state_of(&facts), share: facts.weight / mean, service, facts, is_local }
        };
        let list: Box<[_]> = deployments.into_iter().map(member).collect();
        let lots = |is_in: &dyn Fn(&Member<S>) -> bool| {
            let place = |(at, member): (usize, &Member<S>)| is_in(member).then_some((at as u32, member.share));
            Lots::new(list.iter().enumerate().filter_map(place).collect())
        };
        let (all, local) = (lots(&|_| true), lots(&|member| member.is_local));
        let local = (!local.lots.is_empty() && local.lots.len() < list.len()).then_some(local);
        let homes = |is_in: &dyn Fn(&Member<S>) -> bool| {
            let place = |(at, member): (usize, &Member<S>)| {
                is_in(member).then_some(Home { at: at as u32, hash: member.state.hash, weight: member.share })
            };
            Homes::new(&list.iter().enumerate().filter_map(place).collect::<Vec<_>>())
        };
        let has_homes = settings.affinity && list.len() > 1;
        let (all_homes, local_homes) =
            (homes(&|_| has_homes), local.as_ref().filter(|_| has_homes).map(|_| homes(&|member| member.is_local)));
        Self { list, all, local, homes: all_homes, local_homes, version }
    }

    /// Returns the position of a deployment, which the place has unless the list has changed.
    pub(super) fn position(&self, place: Place) -> Option<usize> {
        let is_it = |member: &Member<S>| member.state.id == place.id;
        let at = usize::from(place.at);
        if self.list.get(at).is_some_and(is_it) { Some(at) } else { self.list.iter().position(is_it) }
    }
}

/// A set of deployments to draw from by weight, in constant time: the alias method of Walker (1977), as Vose (1991)
/// builds it.
#[derive(Debug)]
pub(super) struct Lots {
    lots: Box<[Lot]>,
    /// True if each lot stands for the deployment of its own position, so that none has to be looked up.
    is_even: bool,
}

/// Equally likely as every other lot: it stands for one deployment, and above a threshold for another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lot {
    below: u32,
    above: u32,
    /// In units of a `u32`'s range.
    threshold: u32,
}

impl Lots {
    fn new(places: Vec<(u32, f32)>) -> Self {
        let mean = places.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>() / places.len().max(1) as f64;
        let mut left: Vec<f64> = places.iter().map(|(_, weight)| f64::from(*weight) / mean).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..places.len()).partition(|at| left[*at] < 1.0);
        let whole = |at: u32| Lot { below: at, above: at, threshold: u32::MAX };
        let mut lots: Vec<Lot> = places.iter().map(|(at, _)| whole(*at)).collect();
        while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
            lots[less] = Lot {
                below: places[less].0,
                above: places[more].0,
                threshold: (left[less] * f64::from(u32::MAX)) as u32,
            };
            left[more] -= 1.0 - left[less];
            if left[more] < 1.0 {
                small.extend(large.pop());
            }
        }
        let is_even = lots.iter().zip(0..).all(|(lot, at)| *lot == whole(at));
        Self { lots: lots.into(), is_even }
    }

    /// Returns the place that a random number stands for, if there is any.
    #[inline]
    pub(super) fn draw(&self, random: u64) -> Option<usize> {
        // The upper half of the number chooses a lot, the lower half a side of it.
        let at = (((random >> 32) * self.lots.len() as u64) >> 32) as usize;
        if self.is_even && at < self.lots.len() {
            return Some(at);
        }
        let lot = self.lots.get(at)?;
        Some(if random as u32 <= lot.threshold { lot.below } else { lot.above } as usize)
    }

    /// Returns all places of the set.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.lots.iter().map(|lot| lot.below as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_drawn_by_its_weight() {
        let weights = [1.0, 5.0, 0.1, 3.0, 0.9];
        let lots = Lots::new((0..5).map(|at| (at * 10, weights[at as usize])).collect());
        let mut random = fastrand::Rng::with_seed(7);
        let mut drawn = [0_u32; 5];
        for _ in 0..200_000 {
            drawn[lots.draw(random.u64(..)).unwrap() / 10] += 1;
        }
        for (drawn, weight) in drawn.iter().zip(weights) {
            let expected = 200_000.0 * weight / 10.0;
            assert!((f64::from(*drawn) - f64::from(expected)).abs() < 4.0 * f64::from(expected).sqrt() + 1.0);
        }
        assert_eq!(lots.places().collect::<Vec<_>>(), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn each_is_drawn_as_often_where_all_weigh_the_same() {
        // With and without the positions of the list.
        for step in [1, 3] {
            let lots = Lots::new((0..7).map(|at| (at * step, 0.3)).collect());
            let mut drawn = [0_u32; 7];
            let mut random = fastrand::Rng::with_seed(11);
            for _ in 0..70_000 {
                drawn[lots.draw(random.u64(..)).unwrap() / step as usize] += 1;
            }
            assert!(drawn.iter().all(|drawn| drawn.abs_diff(10_000) < 400), "{drawn:?}");
        }
    }

    #[test]
    fn of_one_it_is_that_one_and_of_none_none() {
        assert!((0..64).all(|bit| Lots::new(vec![(4, 0.5)]).draw(1 << bit) == Some(4)));
        assert_eq!(Lots::new(Vec::new()).draw(9), None);
    }
}
