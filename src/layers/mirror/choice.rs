//! The choice of the requests that are mirrored.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    LlmRequest,
    internal::{
        fnv::{OFFSET_BASIS, fnv1a},
        sync::{Mutex, lock},
    },
};

pub(super) const SHARE: f64 = 0.01;

#[derive(Clone)]
pub(super) struct Choice {
    share: f64,
    by_session: bool,
    /// The seed of sessions, and of requests if the choice is to be the same in each run.
    seed: u64,
    chance: Option<Arc<Mutex<fastrand::Rng>>>,
    only: Option<Arc<Only>>,
}

type Only = dyn Fn(&LlmRequest) -> bool + Send + Sync;

impl Choice {
    pub(super) fn set_share(&mut self, share: f64) {
        self.share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    }

    pub(super) fn by_session(&mut self) {
        self.by_session = true;
    }

    pub(super) fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        self.chance = Some(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))));
    }

    pub(super) fn only(&mut self, only: Arc<Only>) {
        self.only = Some(only);
    }

    /// Returns whether this request is mirrored, without an allocation.
    #[inline]
    pub(super) fn takes(&self, request: &LlmRequest) -> bool {
        // A shadow is not mirrored again, people answer each request once, and compactions cannot be compared.
        let is_compared = !request.is_compaction() && request.opaque().is_none();
        if self.share == 0.0 || request.is_shadow() || request.is_human_required() || !is_compared {
            return false;
        }
        self.draw(request) < self.share && self.allows(request)
    }

    /// Returns a number from 0 to less than 1.
    fn draw(&self, request: &LlmRequest) -> f64 {
        match (request.session().filter(|_| self.by_session), &self.chance) {
            (Some(session), _) => of_session(self.seed, session),
            (None, Some(chance)) => lock(chance).f64(),
            // Each thread has its own generator.
            (None, None) => fastrand::f64(),
        }
    }

    fn allows(&self, request: &LlmRequest) -> bool {
        let Some(only) = &self.only else { return true };
        // The caller's answer must not depend on it.
        catch_unwind(AssertUnwindSafe(|| only(request))).unwrap_or(false)
    }
}

/// Returns the same number in every process: a hash, spread by a seeded generator.
fn of_session(seed: u64, session: &str) -> f64 {
    fastrand::Rng::with_seed(fnv1a(OFFSET_BASIS ^ seed, session)).f64()
}

impl Default for Choice {
    fn default() -> Self {
        Self { share: SHARE, by_session: false, seed: 0, chance: None, only: None }
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice")
            .field("share", &self.share)
            .field("by_session", &self.by_session)
            .field("only", &self.only.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(choice: &Choice, requests: impl IntoIterator<Item = LlmRequest>) -> Vec<bool> {
        requests.into_iter().map(|request| choice.takes(&request)).collect()
    }

    fn of(share: f64) -> Choice {
        let mut choice = Choice::default();
        choice.set_share(share);
        choice
    }

    fn count(taken: &[bool]) -> usize {
        taken.iter().filter(|taken| **taken).count()
    }

    #[test]
    fn about_the_share_is_chosen_and_the_same_by_the_same_seed() {
        for share in [0.01, 0.25, 0.9] {
            let run = || {
                let mut choice = of(share);
                choice.reseed(7);
                taken(&choice, (0..10_000).map(|_| LlmRequest::prompt("hello")))
            };
            let (one, two) = (run(), run());
            assert_eq!(one, two);
            let expected = share * 10_000.0;
            assert!((count(&one) as f64 - expected).abs() < 4.0 * expected.sqrt(), "{share}: {}", count(&one));
        }
    }

    #[test]
    fn none_all_and_what_is_no_share() {
        let request = || LlmRequest::prompt("hello");
        for (share, all) in [(0.0, false), (-1.0, false), (f64::NAN, false), (1.0, true), (7.0, true)] {
            assert_eq!(taken(&of(share), (0..100).map(|_| request())), vec![all; 100], "{share}");
        }
    }

    #[test]
    fn a_session_is_mirrored_as_a_whole_and_a_share_of_them_is() {
        let mut choice = of(0.3);
        choice.by_session();
        let session = |name: usize| LlmRequest::prompt("hello").with_session(format!("session {name}"));
        let first = taken(&choice, (0..1000).map(session));
        assert_eq!(first, taken(&choice, (0..1000).map(session)));
        assert!((230..370).contains(&count(&first)), "{}", count(&first));
        let mut other = choice.clone();
        other.reseed(1);
        assert_ne!(first, taken(&other, (0..1000).map(session)));
        let without = taken(&choice, (0..1000).map(|_| LlmRequest::prompt("hello")));
        assert!((230..370).contains(&count(&without)), "{}", count(&without));
    }

    #[test]
    fn people_and_shadows_are_left_alone_and_so_is_what_a_filter_leaves_out_or_panics_at() {
        let mut choice = of(1.0);
        assert!(!choice.takes(&LlmRequest::prompt("hello").with_human_required(true)));
        assert!(!choice.takes(&LlmRequest::prompt("hello").shadow(crate::Context::default())));
        assert!(!choice.takes(&crate::Wire::compaction(r#"{"model":"m","input":"x"}"#).unwrap().into()));
        choice.only(Arc::new(|request| match request.feature() {
            Some("chat") => true,
            Some(_) => false,
            None => panic!("a filter's own bug"),
        }));
        let features = [Some("chat"), Some("summary"), None];
        let requests = features.map(|feature| match feature {
            Some(feature) => LlmRequest::prompt("hello").with_feature(feature),
            None => LlmRequest::prompt("hello"),
        });
        assert_eq!(taken(&choice, requests), [true, false, false]);
    }
}
