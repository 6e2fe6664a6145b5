//! Keys that the environment does not have.

use std::fmt;

use super::{Candidate, Config, Environment, Likeness, Provider, Similar, Tier};

/// A secret that a configuration refers to and the environment lacks.
///
/// For `steadfast check` this is a warning, for the file may be checked where its keys are not; for building a stack it
/// is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingKey {
    /// The tier, or the mirror's candidate, that needs it; `None` where a webhook does.
    pub tier: Option<String>,
    /// The variables any one of which would do.
    pub variables: Vec<String>,
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tier {
            Some(tier) => write!(f, "the tier `{tier}` needs a key")?,
            None => f.write_str("a webhook needs its secret")?,
        }
        write!(f, ": the environment has no {}", self.variables.join(" or "))
    }
}

impl Config {
    /// The keys that the tiers and webhooks need and this environment does not have. A variable that is there and empty
    /// does not count.
    pub fn missing_keys(&self, environment: &Environment) -> Vec<MissingKey> {
        let candidate = self.mirror.iter().filter_map(|mirror| match &mirror.to {
            Candidate::Tier(tier) => Some(&**tier),
            Candidate::Name(_) => None,
        });
        let tiers = self.tiers.iter().chain(candidate).map(|tier| (Some(tier.name.clone()), tier.key_variables()));
        let webhooks = self.alerts.webhooks.iter().filter_map(|webhook| webhook.authorization.as_ref());
        let callbacks = self.handoff.iter().filter_map(|handoff| handoff.callbacks.as_ref());
        let webhooks = webhooks.chain(callbacks.map(|callbacks| &callbacks.secret)).map(|key| (None, vec![key.name()]));
        tiers
            .chain(webhooks)
            .filter(|(_, variables)| {
                !variables.is_empty() && variables.iter().all(|name| environment.secret(name).is_none())
            })
            .map(|(tier, variables)| MissingKey { tier, variables: variables.into_iter().map(str::to_owned).collect() })
            .collect()
    }
}

impl Tier {
    /// The variables of the environment that may hold its key, the first that is there counts; none where it needs no
    /// key: a simulated, cached or canned tier, people, and a server of one's own (`base_url`) without an `api_key`. Of a cached tier
    /// that compares by embeddings, those of their key.
    pub fn key_variables(&self) -> Vec<&str> {
        match (&self.api_key, &self.base_url, self.provider) {
            (_, _, Provider::Cached) => self.similar.as_ref().map_or_else(Vec::new, Similar::key_variables),
            (_, _, Provider::Simulated | Provider::Canned | Provider::Handoff) => Vec::new(),
            (Some(key), ..) => vec![key.name()],
            (None, Some(_), _) => Vec::new(),
            (None, None, Provider::Anthropic) => vec!["ANTHROPIC_API_KEY"],
            (None, None, Provider::OpenAi) => vec!["OPENAI_API_KEY"],
            (None, None, Provider::Gemini) => vec!["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        }
    }
}

impl Similar {
    /// The variables of the environment that may hold the key of its embeddings.
    fn key_variables(&self) -> Vec<&str> {
        match (self.method, &self.api_key, &self.base_url) {
            (Likeness::Words, ..) => Vec::new(),
            (Likeness::Embeddings, Some(key), _) => vec![key.name()],
            (Likeness::Embeddings, None, Some(_)) => Vec::new(),
            (Likeness::Embeddings, None, None) => vec!["OPENAI_API_KEY"],
        }
    }
}
