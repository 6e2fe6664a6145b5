//! Keys that the environment does not have.

use super::{Config, Environment, Provider, Tier};

/// A secret that a configuration refers to and the environment lacks.
///
/// For `steadfast check` this is a warning, for the file may be checked where its keys are not; for building a stack it
/// is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingKey {
    /// The tier that needs it; `None` where a webhook does.
    pub tier: Option<String>,
    /// The variables any one of which would do.
    pub variables: Vec<String>,
}

impl Config {
    /// The keys that the tiers and webhooks need and this environment does not have. A variable that is there and empty
    /// does not count.
    pub fn missing_keys(&self, environment: &Environment) -> Vec<MissingKey> {
        let tiers = self.tiers.iter().map(|tier| (Some(tier.name.clone()), tier.key_variables()));
        let webhooks = self.alerts.webhooks.iter().filter_map(|webhook| webhook.authorization.as_ref());
        let webhooks = webhooks.map(|key| (None, vec![key.name()]));
        tiers
            .chain(webhooks)
            .filter(|(_, variables)| {
                let there = |name: &&str| environment.get(name).is_some_and(|value| !value.trim().is_empty());
                !variables.is_empty() && !variables.iter().any(there)
            })
            .map(|(tier, variables)| MissingKey { tier, variables: variables.into_iter().map(str::to_owned).collect() })
            .collect()
    }
}

impl Tier {
    /// The variables of the environment that may hold its key, the first that is there counts; none where it needs no
    /// key: a simulated or canned tier, and a server of one's own (`base_url`) without an `api_key`.
    pub fn key_variables(&self) -> Vec<&str> {
        match (&self.api_key, &self.base_url, self.provider) {
            (_, _, Provider::Simulated | Provider::Canned) => Vec::new(),
            (Some(key), ..) => vec![key.name()],
            (None, Some(_), _) => Vec::new(),
            (None, None, Provider::Anthropic) => vec!["ANTHROPIC_API_KEY"],
            (None, None, Provider::OpenAi) => vec!["OPENAI_API_KEY"],
            (None, None, Provider::Gemini) => vec!["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        }
    }
}
