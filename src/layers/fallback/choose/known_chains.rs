//! The chains that a fallback knows, to which its switches belong.
//!
//! A chain is a list of tiers: requests with the same list share one, whatever they are. Its id is its first tier's
//! name. Where several chains begin at one tier, the further ones have the name of their requests behind it.

use std::{collections::HashMap, sync::Arc};

use super::{
    chain::{Chain, both},
    config::Config,
    feature_policy::PolicyTerms,
};
use crate::request::WORST_LEVEL;

/// A chain of tiers, with the requests that take it. See [`FallbackLayer::chains`](crate::FallbackLayer::chains).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainInfo {
    /// The id in events, on answers and in errors: the first tier's name, with the requests behind it if another chain
    /// before this one begins there, such as `sonnet (feature code)`.
    pub id: Arc<str>,
    /// The first tier.
    pub first: Arc<str>,
    /// The requests: `default`, `model NAME`, `feature NAME`.
    pub names: Vec<String>,
}

/// A chain as the fallback knows it.
#[derive(Debug)]
pub(crate) struct KnownChain {
    pub(crate) id: Arc<str>,
    /// The requests by which it is known again after a reload.
    pub(crate) names: Vec<String>,
    /// The index of its first tier.
    pub(crate) first: usize,
    /// True if another chain before this one begins at its first tier: then the tier alone does not tell it.
    pub(crate) is_further: bool,
}

/// All chains of a fallback, those of the settings first.
#[derive(Debug)]
pub(crate) struct KnownChains {
    all: Vec<KnownChain>,
    /// The chains of the settings, by their tiers in order, without those that the requests' feature does not accept.
    by_tiers: HashMap<Box<[usize]>, usize>,
    /// The chain of each tier for the requests that begin there otherwise: by its name, in a session, or since the
    /// tiers before it cannot carry them.
    others: Box<[usize]>,
}

/// The sign of the requests that begin at a tier otherwise than the settings say.
const OTHERS: &str = "others";

impl KnownChains {
    pub(crate) fn new(config: &Config) -> Self {
        let mut known = Self { all: Vec::new(), by_tiers: HashMap::new(), others: Box::default() };
        let default = &config.policies.default;
        known.add(config, default.tiers.as_deref(), &default.terms, "default".to_owned());
        for model in config.models.iter() {
            let tiers = both(default.tiers.as_ref(), Some(&model.tiers));
            known.add(config, tiers.as_deref(), &default.terms, format!("model {}", model.pattern));
        }
        let mut features: Vec<_> = config.policies.features.iter().collect();
        features.sort_by_key(|(name, _)| *name);
        for (name, policy) in features {
            known.add(config, policy.tiers.as_deref(), &policy.terms, format!("feature {name}"));
        }
        known.others = (0..config.tiers()).map(|tier| known.push(config, tier, None)).collect();
        known
    }

    /// Adds the requests of this name, which take these tiers.
    fn add(&mut self, config: &Config, tiers: Option<&[usize]>, terms: &PolicyTerms, name: String) {
        let all: Vec<usize> = tiers.map_or_else(|| (0..config.tiers()).collect(), <[usize]>::to_vec);
        let level = |tier| config.settings(tier).level;
        let tiers = accepted(|| all.iter().copied(), terms.worst_level(), level);
        if let Some(chain) = self.by_tiers.get(&*tiers) {
            return self.all[*chain].names.push(name);
        }
        let chain = self.push(config, tiers[0], Some(name));
        self.by_tiers.insert(tiers.into(), chain);
    }

    /// Adds a chain and returns its index.
    fn push(&mut self, config: &Config, first: usize, name: Option<String>) -> usize {
        let tier = config.facts(first).name();
        let is_further = self.all.iter().any(|chain| chain.first == first);
        let id = match (is_further, &config.named_chain) {
            (true, _) => format!("{tier} ({})", name.as_deref().unwrap_or(OTHERS)).into(),
            (false, Some(named)) if self.all.is_empty() => named.clone(),
            (false, _) => tier.clone(),
        };
        self.all.push(KnownChain { id, names: name.into_iter().collect(), first, is_further });
        self.all.len() - 1
    }

    /// Returns the chain of a request that may go to these tiers by the settings.
    pub(crate) fn of(&self, chain: &Chain, terms: &PolicyTerms, config: &Config) -> usize {
        let worst = terms.accepts().unwrap_or(WORST_LEVEL);
        let tiers = accepted(|| chain.iter(config.tiers()), worst, |tier| config.settings(tier).level);
        match (self.by_tiers.get(&*tiers), tiers.first()) {
            (Some(chain), _) => *chain,
            (None, Some(first)) => self.others(*first),
            (None, None) => 0,
        }
    }

    /// Returns the chain of the requests that begin at a tier otherwise than the settings say.
    pub(crate) fn others(&self, tier: usize) -> usize {
        self.others[tier]
    }

    pub(crate) fn get(&self, chain: usize) -> &KnownChain {
        &self.all[chain]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &KnownChain> {
        self.all.iter()
    }

    /// Returns the chains of the settings.
    pub(crate) fn infos(&self, config: &Config) -> Vec<ChainInfo> {
        let named = self.all.iter().filter(|chain| !chain.names.is_empty());
        let info = |chain: &KnownChain| ChainInfo {
            id: chain.id.clone(),
            first: config.facts(chain.first).name().clone(),
            names: chain.names.clone(),
        };
        named.map(info).collect()
    }
}

/// Returns the tiers of this level or a better one; all of them if there is none.
fn accepted<I: Iterator<Item = usize>>(tiers: impl Fn() -> I, worst: u8, level: impl Fn(usize) -> u8) -> Vec<usize> {
    let accepted: Vec<usize> = tiers().filter(|tier| level(*tier) <= worst).collect();
    if accepted.is_empty() { tiers().collect() } else { accepted }
}
