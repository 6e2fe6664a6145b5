//! The tokens that an answer is expected to have, by those of the last ones.

use std::{collections::HashMap, sync::Arc};

use crate::{
    internal::{
        histogram::COARSE,
        sync::{Mutex, lock},
    },
    layers::{recent::Recent, recent_values::RecentValues},
};

/// The lengths of the last whole answers under a cap: of each key, so that none lowers what another one reserves, and
/// of each model that has a price.
#[derive(Debug)]
pub(super) struct Expectation(Mutex<Recent<Option<Arc<str>>, Models>>);

/// By the index of the model's price.
type Models = Arc<Mutex<HashMap<u32, Lengths>>>;

#[derive(Debug, Default)]
struct Lengths {
    recent: Box<RecentValues<COARSE>>,
    expected: u64,
}

/// The share of answers that are no longer than expected.
const SHARE: f64 = 0.95;
/// The number of keys that are remembered.
const KEYS: usize = 1024;

impl Expectation {
    /// Returns the tokens of which nineteen answers in twenty of this model have no more. A model that never answered
    /// under its own name, as where another one serves its requests, has the longest of the others. `None` before the
    /// first answer.
    pub(super) fn output(&self, key: Option<&Arc<str>>, price: u32) -> Option<u64> {
        let models = lock(&self.0).get(&key.cloned())?;
        let models = lock(&models);
        let own = models.get(&price).map(|lengths| lengths.expected);
        own.or_else(|| models.values().map(|lengths| lengths.expected).max())
    }

    /// Learns from a whole answer. While few are known, more is expected: twice as much after the first.
    pub(super) fn learn(&self, key: Option<&Arc<str>>, price: u32, output: u64) {
        let key = key.cloned();
        let mut keys = lock(&self.0);
        let models = keys.get(&key).unwrap_or_else(|| {
            let models = Models::default();
            keys.insert(key, models.clone());
            models
        });
        drop(keys);
        let mut models = lock(&models);
        let lengths = models.entry(price).or_default();
        if let Some(length) = lengths.recent.record(output, SHARE, 1) {
            lengths.expected = length.saturating_add(length / lengths.recent.seen());
        }
    }
}

impl Default for Expectation {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(KEYS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_length_covers_nineteen_in_twenty_and_follows() {
        let (ada, bob) = (Arc::from("ada"), Arc::from("bob"));
        let (lengths, key) = (Expectation::default(), Some(&ada));
        assert_eq!(lengths.output(key, 7), None);
        lengths.learn(key, 7, 1000);
        let once = lengths.output(key, 7).unwrap();
        assert!((2000..=2600).contains(&once), "{once}");
        assert_eq!(lengths.output(key, 8), Some(once), "another model has answered in its place");
        assert_eq!((lengths.output(None, 7), lengths.output(Some(&bob), 7)), (None, None));
        // Of a hundred, four are long: so few are not expected. A tenth is.
        (0..1000u64).for_each(|number| lengths.learn(key, 7, if number % 25 == 0 { 50_000 } else { 1000 }));
        let few = lengths.output(key, 7).unwrap();
        assert!((1000..=1300).contains(&few), "{few}");
        (0..1024u64).for_each(|number| lengths.learn(key, 7, if number % 10 == 0 { 50_000 } else { 1000 }));
        let many = lengths.output(key, 7).unwrap();
        assert!((40_000..=60_000).contains(&many), "{many}");
    }
}
