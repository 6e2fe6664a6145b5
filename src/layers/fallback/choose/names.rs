//! The chains of a fallback by the names of tiers, as its builder is told them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{FeaturePolicy, config::Config, feature_policy::Policy};
use crate::{ErrorKind, InvalidConfig};

/// What a builder is told of tiers by their names.
#[derive(Clone, Default)]
pub(crate) struct Names {
    pub(crate) default: FeaturePolicy,
    pub(crate) features: BTreeMap<Arc<str>, FeaturePolicy>,
    pub(crate) models: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    pub(crate) routes: BTreeMap<ErrorKind, Vec<Arc<str>>>,
}

impl Names {
    /// Puts the chains into the settings, which have all tiers.
    ///
    /// # Errors
    ///
    /// Fails if a chain is empty, or contains a name that no tier or more than one has, or a name twice. The settings
    /// are then as they were.
    pub(crate) fn resolve(&self, config: &mut Config) -> Result<(), InvalidConfig> {
        let (mut search, mut found) = (Search::new(config), config.clone());
        for (name, policy) in &self.features {
            let policy = search.policy(&format!("features.{name}.tiers"), policy);
            found.policies.features.insert(name.clone(), policy);
        }
        found.policies.default = search.policy("default_feature.tiers", &self.default);
        for (pattern, tiers) in &self.models {
            found.models.set(pattern.clone(), search.chain(&format!("models.{pattern}.tiers"), tiers));
        }
        for (kind, tiers) in &self.routes {
            found.routes.insert(*kind, search.chain(&format!("routes.{kind}"), tiers));
        }
        search.result()?;
        found.policies.complete();
        *config = found;
        Ok(())
    }
}

/// The search for tiers by their names.
struct Search {
    /// The names of all tiers in order; the first is the primary's.
    known: Vec<Arc<str>>,
    /// The names of no tier that were said already.
    unknown: BTreeSet<Arc<str>>,
    /// The fields with their problems.
    problems: Vec<(String, String)>,
}

impl Search {
    fn new(config: &Config) -> Self {
        let known = (0..config.tiers()).map(|tier| config.facts(tier).name().clone()).collect();
        Self { known, unknown: BTreeSet::new(), problems: Vec::new() }
    }

    fn policy(&mut self, field: &str, policy: &FeaturePolicy) -> Policy {
        let tiers = policy.tiers.as_ref().map(|names| self.chain(field, names));
        Policy { tiers, terms: policy.terms }
    }

    /// Returns the tiers of these names, in order.
    fn chain(&mut self, field: &str, names: &[Arc<str>]) -> Arc<[usize]> {
        let mut chain = Vec::new();
        for name in names {
            let mut places = (0..self.known.len()).filter(|tier| self.known[*tier] == *name);
            let problem = match (places.next(), places.next()) {
                (None, _) if !self.unknown.insert(name.clone()) => continue,
                (None, _) if self.unknown.len() > 1 => format!("no tier is named `{name}`"),
                (None, _) => format!("no tier is named `{name}`; there are {}", self.known.join(", ")),
                (_, Some(_)) => format!("two tiers are named `{name}`; give each a name of its own"),
                (Some(tier), None) if chain.contains(&tier) => {
                    format!("the chain names `{name}` twice; a tier is asked once")
                }
                (Some(tier), None) => {
                    chain.push(tier);
                    continue;
                }
            };
            self.problems.push((field.to_owned(), problem));
        }
        if names.is_empty() {
            self.problems.push((field.to_owned(), "the chain is empty; name at least one tier".to_owned()));
        }
        chain.into()
    }

    /// Returns all problems as one, at the field of the first.
    fn result(self) -> Result<(), InvalidConfig> {
        let mut problems = self.problems.into_iter();
        let Some((field, first)) = problems.next() else { return Ok(()) };
        let problem = problems.fold(first, |said, (field, problem)| format!("{said}; {field}: {problem}"));
        Err(InvalidConfig::new(field, problem))
    }
}
