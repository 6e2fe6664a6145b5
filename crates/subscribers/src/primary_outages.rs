//! The primaries that do not serve at the moment, according to the events of their switches.

#![cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "alerts use less than metrics"))]

use std::sync::Arc;

use tokio::time::Instant;

/// The primaries for which another tier serves, each with a value that a subscriber attaches.
///
/// A switch names the tier before and the tier now, not the chain. A tier that stands in for a primary belongs to that
/// primary's chain. Where two chains of one channel share tiers, this can be the wrong one.
#[derive(Debug)]
pub(super) struct PrimaryOutages<T> {
    outages: Vec<Outage<T>>,
}

#[derive(Debug)]
pub(super) struct Outage<T> {
    pub(super) primary: Arc<str>,
    /// The tier that serves instead.
    pub(super) serving: Arc<str>,
    /// The time at which the primary stopped serving.
    pub(super) since: Instant,
    pub(super) data: T,
}

impl<T> PrimaryOutages<T> {
    pub(super) const fn new() -> Self {
        Self { outages: Vec::new() }
    }

    /// Returns the chain in which `from` serves in its primary's place.
    pub(super) fn find_by_serving(&mut self, from: &str) -> Option<&mut Outage<T>> {
        self.outages.iter_mut().find(|outage| &*outage.serving == from)
    }

    /// Records that a primary stopped serving. Returns `None` if it did not serve before, or if too many primaries are
    /// away.
    pub(super) fn begin(
        &mut self,
        primary: &Arc<str>,
        to: &Arc<str>,
        since: Instant,
        data: T,
    ) -> Option<&mut Outage<T>> {
        if self.outages.len() == MOST || self.outages.iter().any(|outage| outage.primary == *primary) {
            return None;
        }
        self.outages.push(Outage { primary: primary.clone(), serving: to.clone(), since, data });
        self.outages.last_mut()
    }

    /// Records that the primary serves again and returns its chain.
    pub(super) fn end(&mut self, primary: &str) -> Option<Outage<T>> {
        let place = self.outages.iter().position(|outage| &*outage.primary == primary)?;
        Some(self.outages.swap_remove(place))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Outage<T>> {
        self.outages.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outages.is_empty()
    }
}

/// More chains than any configuration has, so that a stream of odd names takes no memory.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_chain_is_followed_from_tier_to_tier_and_home() {
        let name = |text: &str| Arc::<str>::from(text);
        let (mut outages, now) = (PrimaryOutages::new(), Instant::now());
        assert!(outages.begin(&name("sonnet"), &name("gpt"), now, 1).is_some());
        assert!(outages.begin(&name("sonnet"), &name("haiku"), now, 2).is_none(), "it is away already");
        outages.find_by_serving("gpt").unwrap().serving = name("canned");
        assert!(outages.find_by_serving("gpt").is_none());
        let outage = outages.end("sonnet").unwrap();
        assert_eq!((&*outage.serving, outage.since, outage.data), ("canned", now, 1));
        assert!(outages.end("sonnet").is_none() && outages.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn odd_names_take_no_memory_without_end() {
        let mut outages = PrimaryOutages::new();
        for n in 0..1000 {
            outages.begin(&format!("t{n}").into(), &"x".into(), Instant::now(), ());
        }
        assert_eq!(outages.iter_mut().count(), MOST);
    }
}
