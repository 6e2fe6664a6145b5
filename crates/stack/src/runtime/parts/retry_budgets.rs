//! The retry budgets of a configuration.

use std::collections::{HashMap, hash_map::Entry};

use super::settings;
use crate::{Config, Share, Tier};
use steadfast::{InvalidConfig, RetryBudget};

/// The retry budgets: the shared one, and those of tiers with a share of their own, by name.
#[derive(Default)]
pub(crate) struct RetryBudgets(HashMap<Option<String>, (Option<Share>, RetryBudget)>);

impl RetryBudgets {
    /// Creates the retry budgets of all tiers.
    ///
    /// # Errors
    ///
    /// A share is invalid.
    pub(crate) fn new(config: &Config) -> Result<Self, InvalidConfig> {
        let mut budgets = HashMap::new();
        for tier in config.all_tiers() {
            if let Entry::Vacant(new) = budgets.entry(key(tier)) {
                let (share, field) = retry_share(tier, &format!("tiers.{}", tier.name), config);
                new.insert((share, settings::retry_budget(&field, share)?));
            }
        }
        Ok(Self(budgets))
    }

    /// Returns a tier's retry budget.
    pub(crate) fn of(&self, tier: &Tier) -> RetryBudget {
        self.0[&key(tier)].1.clone()
    }

    /// Puts earlier retry budgets in the place of new ones with the same share.
    pub(crate) fn continue_from(&mut self, before: &Self) {
        for (key, (share, budget)) in &mut self.0 {
            if let Some((_, known)) = before.0.get(key).filter(|(known, _)| known == share) {
                *budget = known.clone();
            }
        }
    }

    /// Returns each retry budget with its tier's name; `None` for the shared one.
    #[cfg(feature = "redis")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Option<&str>, &RetryBudget)> {
        self.0.iter().map(|(tier, (_, budget))| (tier.as_deref(), budget))
    }
}

/// Returns the share of a tier's calls that may be retries, and the field that sets it.
pub(crate) fn retry_share(tier: &Tier, place: &str, config: &Config) -> (Option<Share>, String) {
    match tier.retry.and_then(|retry| retry.budget) {
        Some(share) => (Some(share), format!("{place}.retry.budget")),
        None => (config.retry.budget, "retry.budget".to_owned()),
    }
}

/// Returns the name under which a tier's retry budget is known: `None` for the file's shared one, which serves all
/// tiers without a share of their own.
fn key(tier: &Tier) -> Option<String> {
    tier.retry.is_some_and(|retry| retry.budget.is_some()).then(|| tier.name.clone())
}
