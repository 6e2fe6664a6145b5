//! The chains that a fallback knows, to which its switches belong.
//!
//! A chain is a list of tiers: requests with the same list share one, whatever they are. Its id is its first tier's
//! name. Where several chains begin at one tier, the further ones have the name of their requests behind it.

use std::sync::Arc;

use super::{chain::Chain, feature_policy::PolicyTerms, layer::Config, shared::Shared};
use crate::request::WORST_LEVEL;

/// A chain of tiers, with the requests that take it. See [`FallbackLayer::chains`](super::FallbackLayer::chains).
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
pub(super) struct KnownChain {
    pub(super) id: Arc<str>,
    /// The requests by which it is known again after a reload.
    pub(super) names: Vec<String>,
    /// The index of its first tier.
    pub(super) first: usize,
    /// The tiers in order, without those that the requests' feature does not accept. Empty for the requests that
    /// begin at the tier otherwise: by its name, in a session, or since the tiers before it cannot carry them.
    tiers: Box<[usize]>,
    /// True if another chain before this one begins at its first tier: then the tier alone does not tell it.
    pub(super) is_further: bool,
}

/// All chains of a fallback, those of the settings first.
#[derive(Debug)]
pub(super) struct KnownChains {
    all: Vec<KnownChain>,
    /// The chain of each tier for the requests that begin there otherwise.
    others: Box<[usize]>,
}

/// The sign of the requests that begin at a tier otherwise than the settings say.
const OTHERS: &str = "others";

impl KnownChains {
    pub(super) fn new(config: &Config) -> Self {
        let mut known = Self { all: Vec::new(), others: Box::default() };
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
        known.others = (0..config.tiers.len() + 1).map(|tier| known.push(config, tier, Box::default(), None)).collect();
        known
    }

    /// Adds the requests of this name, which take these tiers.
    fn add(&mut self, config: &Config, tiers: Option<&[usize]>, terms: &PolicyTerms, name: String) {
        let all: Vec<usize> = tiers.map_or_else(|| (0..=config.tiers.len()).collect(), <[usize]>::to_vec);
        let accepted = |tier: &usize| config.facts(*tier).settings.level <= terms.worst_level();
        let mut tiers: Vec<usize> = all.iter().copied().filter(accepted).collect();
        if tiers.is_empty() {
            tiers = all;
        }
        match self.all.iter_mut().find(|chain| *chain.tiers == *tiers) {
            Some(chain) => chain.names.push(name),
            None => drop(self.push(config, tiers[0], tiers.into(), Some(name))),
        }
    }

    /// Adds a chain and returns its index.
    fn push(&mut self, config: &Config, first: usize, tiers: Box<[usize]>, name: Option<String>) -> usize {
        let tier = config.facts(first).name();
        let is_further = self.all.iter().any(|chain| chain.first == first);
        let id = match (is_further, &config.named_chain) {
            (true, _) => format!("{tier} ({})", name.as_deref().unwrap_or(OTHERS)).into(),
            (false, Some(named)) if self.all.is_empty() => named.clone(),
            (false, _) => tier.clone(),
        };
        self.all.push(KnownChain { id, names: name.into_iter().collect(), first, tiers, is_further });
        self.all.len() - 1
    }

    /// Returns the chain of a request that may go to these tiers by the settings.
    pub(super) fn of(&self, chain: &Chain, terms: &PolicyTerms, shared: &Shared) -> usize {
        let worst = terms.accepts().unwrap_or(WORST_LEVEL);
        let accepted = || chain.iter(shared).filter(|tier| shared.settings(*tier).level <= worst);
        let mut first = accepted().next();
        let is_cut = first.is_some();
        first = first.or_else(|| chain.iter(shared).next());
        let Some(first) = first else { return 0 };
        let is_same = |known: &KnownChain| {
            let tiers = known.tiers.iter().copied();
            if is_cut { tiers.eq(accepted()) } else { tiers.eq(chain.iter(shared)) }
        };
        let known = self.all.iter().position(|known| known.first == first && is_same(known));
        known.unwrap_or_else(|| self.others(first))
    }

    /// Returns the chain of the requests that begin at a tier otherwise than the settings say.
    pub(super) fn others(&self, tier: usize) -> usize {
        self.others[tier]
    }

    pub(super) fn get(&self, chain: usize) -> &KnownChain {
        &self.all[chain]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KnownChain> {
        self.all.iter()
    }

    /// Returns the chains of the settings.
    pub(super) fn infos(&self, config: &Config) -> Vec<ChainInfo> {
        let named = self.all.iter().filter(|chain| !chain.names.is_empty());
        let info = |chain: &KnownChain| ChainInfo {
            id: chain.id.clone(),
            first: config.facts(chain.first).name().clone(),
            names: chain.names.clone(),
        };
        named.map(info).collect()
    }
}

/// Returns the tiers that requests of a policy and of a model take, in the model's order.
pub(super) fn both(may: Option<&Arc<[usize]>>, wanted: Option<&Arc<[usize]>>) -> Option<Arc<[usize]>> {
    match (may, wanted) {
        (Some(may), Some(wanted)) => {
            let both: Arc<[usize]> = wanted.iter().copied().filter(|tier| may.contains(tier)).collect();
            Some(if both.is_empty() { may.clone() } else { both })
        }
        (one, other) => one.or(other).cloned(),
    }
}
