//! The primaries that do not serve at the moment, according to the events of their switches.

#![cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "alerts need less of it than metrics"))]

use std::sync::Arc;

use tokio::time::Instant;

/// The primaries for which another tier serves, each with a value that a subscriber attaches.
///
/// A switch names the tier before and the tier now, not the chain. A tier that stands in for a primary belongs to that
/// primary's chain. Where two chains of one channel share tiers, this can be the wrong one.
#[derive(Debug)]
pub(super) struct Away<T> {
    chains: Vec<Chain<T>>,
}

#[derive(Debug)]
pub(super) struct Chain<T> {
    pub(super) primary: Arc<str>,
    /// The tier that serves instead.
    pub(super) serving: Arc<str>,
    /// The time at which the primary stopped serving.
    pub(super) since: Instant,
    pub(super) kept: T,
}

impl<T> Away<T> {
    pub(super) const fn new() -> Self {
        Self { chains: Vec::new() }
    }

    /// Returns the chain in which `from` serves in its primary's place.
    pub(super) fn served_by(&mut self, from: &str) -> Option<&mut Chain<T>> {
        self.chains.iter_mut().find(|chain| &*chain.serving == from)
    }

    /// Records that a primary stopped serving. Returns `None` if it did not serve before, or if too many primaries are
    /// away.
    pub(super) fn leave(
        &mut self,
        primary: &Arc<str>,
        to: &Arc<str>,
        since: Instant,
        kept: T,
    ) -> Option<&mut Chain<T>> {
        if self.chains.len() == MOST || self.chains.iter().any(|chain| chain.primary == *primary) {
            return None;
        }
        self.chains.push(Chain { primary: primary.clone(), serving: to.clone(), since, kept });
        self.chains.last_mut()
    }

    /// Records that the primary serves again and returns its chain.
    pub(super) fn back(&mut self, primary: &str) -> Option<Chain<T>> {
        let place = self.chains.iter().position(|chain| &*chain.primary == primary)?;
        Some(self.chains.swap_remove(place))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Chain<T>> {
        self.chains.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
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
        let (mut away, now) = (Away::new(), Instant::now());
        assert!(away.leave(&name("sonnet"), &name("gpt"), now, 1).is_some());
        assert!(away.leave(&name("sonnet"), &name("haiku"), now, 2).is_none(), "it is away already");
        away.served_by("gpt").unwrap().serving = name("canned");
        assert!(away.served_by("gpt").is_none());
        let chain = away.back("sonnet").unwrap();
        assert_eq!((&*chain.serving, chain.since, chain.kept), ("canned", now, 1));
        assert!(away.back("sonnet").is_none() && away.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn odd_names_take_no_memory_without_end() {
        let mut away = Away::new();
        for n in 0..1000 {
            away.leave(&format!("t{n}").into(), &"x".into(), Instant::now(), ());
        }
        assert_eq!(away.iter_mut().count(), MOST);
    }
}
