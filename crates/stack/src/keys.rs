//! The keys and servers that a configuration takes from the environment.

use std::fmt;

use http::Uri;
use steadfast::providers::servers::KnownServer;

use super::{Candidate, Config, Credential, Environment, Likeness, Provider, Similar, Tier};

/// A secret that a configuration refers to and the environment lacks.
///
/// Building a stack reports it as an error. So does `steadfast check`, unless `--offline` says that the keys are
/// elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingKey {
    /// The tier, or the mirror's candidate, that needs it; `None` if a webhook does.
    pub tier: Option<String>,
    /// The variables, any one of which is enough.
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
    /// Returns the keys that the tiers and webhooks need and this environment lacks. An empty variable counts as
    /// unset.
    pub fn missing_keys(&self, environment: &Environment) -> Vec<MissingKey> {
        let candidate = self.mirror.iter().filter_map(|mirror| match &mirror.to {
            Candidate::Tier(tier) => Some(&**tier),
            Candidate::Name(_) => None,
        });
        let endpoints: Vec<Tier> = self.all_tiers().chain(candidate).flat_map(Tier::endpoints).collect();
        let tiers = endpoints.iter().filter(|tier| tier.needs_key(environment));
        let tiers = tiers.map(|tier| (Some(tier.name.clone()), tier.key_variables()));
        let sources = endpoints.iter().filter_map(|tier| match tier.credential.as_ref()? {
            Credential::Source(source) => Some((tier, source)),
            Credential::Named(_) => None,
        });
        // Each of a source's variables is needed.
        let sources = sources.flat_map(|(tier, source)| source.variables().into_iter().map(move |name| (tier, name)));
        let sources = sources.map(|(tier, name)| (Some(tier.name.clone()), vec![name]));
        let webhooks = self.alerts.webhooks.iter().filter_map(|webhook| webhook.authorization.as_ref());
        let callbacks = self.handoff.iter().filter_map(|handoff| handoff.callbacks.as_ref());
        let webhooks = webhooks
            .chain(callbacks.flat_map(|callbacks| callbacks.secrets.values().chain([&callbacks.secret])))
            .map(|key| (None, vec![key.name()]));
        tiers
            .chain(sources)
            .chain(webhooks)
            .filter(|(_, variables)| {
                !variables.is_empty() && variables.iter().all(|name| environment.secret(name).is_none())
            })
            .map(|(tier, variables)| MissingKey { tier, variables: variables.into_iter().map(str::to_owned).collect() })
            .collect()
    }
}

/// A server that replaces a provider's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server<'a> {
    /// The base URL.
    pub url: &'a str,
    /// The environment variable that names it; `None` if the file does.
    pub variable: Option<&'static str>,
}

impl Tier {
    /// Returns the server that replaces the provider's own: the file's `base_url` or else, as in the provider's SDKs,
    /// the value of `ANTHROPIC_BASE_URL`, `OPENAI_BASE_URL`, `GEMINI_BASE_URL` or `GOOGLE_GEMINI_BASE_URL`. An empty
    /// variable counts as unset.
    ///
    /// ```
    /// use steadfast_stack::{Config, Environment, Format};
    ///
    /// let text = "tiers: [{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5 }]";
    /// let config = Config::from_str(text, Format::Yaml).unwrap();
    /// let environment: Environment = [("ANTHROPIC_BASE_URL", "https://proxy.example")].into_iter().collect();
    /// assert_eq!(config.tiers[0].server(&environment).unwrap().url, "https://proxy.example");
    /// assert_eq!(config.tiers[0].server(&Environment::default()), None);
    /// ```
    pub fn server<'a>(&'a self, environment: &'a Environment) -> Option<Server<'a>> {
        if self.provider.is_local() {
            return None;
        }
        let named = || {
            let variables = self.provider.base_url_variables().iter();
            variables
                .copied()
                .find_map(|name| Some(Server { url: environment.secret(name)?.trim(), variable: Some(name) }))
        };
        let named = || named().filter(|_| self.at.is_none());
        self.base_url.as_deref().map(|url| Server { url, variable: None }).or_else(named)
    }

    /// Returns whether the tier requires one of its [`key_variables`](Self::key_variables). A tier that the
    /// environment sends to another server uses the key if it is set, and does not require it.
    pub(super) fn needs_key(&self, environment: &Environment) -> bool {
        let elsewhere = |server: Server<'_>| server.variable.is_some() && !self.provider.owns(server.url);
        !self.key_variables().is_empty() && (self.api_key.is_some() || !self.server(environment).is_some_and(elsewhere))
    }

    /// Returns the environment variables that may hold the tier's key, in order of precedence.
    ///
    /// The list is empty if the tier needs no key: a simulated, cached or canned tier, people, a cloud (`at`) or
    /// another server than the provider's own (`base_url`) without an `api_key`. For a cached tier that compares by
    /// embeddings, these are the variables of the embeddings' key.
    pub fn key_variables(&self) -> Vec<&str> {
        match (&self.api_key, &self.base_url, self.provider) {
            (_, _, Provider::Cached) => self.similar.as_ref().map_or_else(Vec::new, Similar::key_variables),
            (_, _, Provider::Simulated | Provider::Canned | Provider::Handoff) => Vec::new(),
            (Some(key), ..) => vec![key.name()],
            // A cloud's credentials have sources of their own.
            _ if self.at.is_some() => Vec::new(),
            // A provider's key must not reach another server.
            (None, Some(url), provider) if !provider.owns(url) => Vec::new(),
            (None, _, Provider::Anthropic) => vec!["ANTHROPIC_API_KEY"],
            (None, _, Provider::OpenAi) => vec!["OPENAI_API_KEY"],
            (None, _, Provider::Gemini) => vec!["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        }
    }
}

impl Provider {
    /// Returns the host of the provider's own servers.
    pub fn host(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => KnownServer::named("anthropic").map(KnownServer::host),
            Self::OpenAi => KnownServer::named("openai").map(KnownServer::host),
            Self::Gemini => KnownServer::named("gemini").map(KnownServer::host),
            Self::Simulated | Self::Cached | Self::Canned | Self::Handoff => None,
        }
    }

    /// Returns whether a server belongs to the provider and is reached over TLS, so that the key stays secret: its
    /// host, or one below it (`eu.api.openai.com`).
    pub(super) fn owns(self, url: &str) -> bool {
        let Ok(url) = url.trim().parse::<Uri>() else { return false };
        let is_below = |host: &str, own: &str| host.strip_suffix(own).is_some_and(|below| below.ends_with('.'));
        let (host, own) = (url.host().map(str::to_ascii_lowercase), self.host());
        let is_own = host.zip(own).is_some_and(|(host, own)| host == own || is_below(&host, own));
        is_own && url.scheme_str() == Some("https")
    }

    /// Returns the variables with which the provider's SDKs select another server.
    fn base_url_variables(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => &["ANTHROPIC_BASE_URL"],
            Self::OpenAi => &["OPENAI_BASE_URL"],
            Self::Gemini => &["GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"],
            Self::Simulated | Self::Cached | Self::Canned | Self::Handoff => &[],
        }
    }
}

impl Similar {
    /// Returns the environment variables that may hold the key of the embeddings.
    fn key_variables(&self) -> Vec<&str> {
        match (self.method, &self.api_key, &self.base_url) {
            (Likeness::Words, ..) => Vec::new(),
            (Likeness::Embeddings, Some(key), _) => vec![key.name()],
            (Likeness::Embeddings, None, Some(url)) if !Provider::OpenAi.owns(url) => Vec::new(),
            (Likeness::Embeddings, None, _) => vec!["OPENAI_API_KEY"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    fn tier(provider: &str, base_url: &str) -> Tier {
        let base_url = if base_url.is_empty() { String::new() } else { format!(", base_url: '{base_url}'") };
        let text = format!("tiers: [{{ name: main, provider: {provider}, model: x{base_url} }}]");
        Config::from_str(&text, Format::Yaml).unwrap().tiers.remove(0)
    }

    #[test]
    fn a_providers_key_goes_to_its_own_host_and_to_no_other() {
        for (provider, url, is_sent) in [
            ("anthropic", "", true),
            ("anthropic", "https://api.anthropic.com", true),
            ("anthropic", "https://API.Anthropic.com/v1/", true),
            ("anthropic", "http://api.anthropic.com", false),
            ("anthropic", "https://api.anthropic.com.evil.test", false),
            ("anthropic", "https://evil-api.anthropic.com", false),
            ("anthropic", "https://api.openai.com", false),
            ("openai", "https://api.openai.com/v1", true),
            ("openai", "https://eu.api.openai.com/v1", true),
            ("openai", "https://notapi.openai.com/v1", false),
            ("openai", "http://127.0.0.1:9001/v1", false),
            ("gemini", "https://generativelanguage.googleapis.com", true),
            ("gemini", "https://aiplatform.googleapis.com", false),
        ] {
            assert_eq!(!tier(provider, url).key_variables().is_empty(), is_sent, "{provider} {url}");
        }
    }

    #[test]
    fn the_environment_names_a_server_where_the_file_does_not() {
        let environment: Environment = [
            ("ANTHROPIC_BASE_URL", " https://a.test "),
            ("OPENAI_BASE_URL", ""),
            ("GOOGLE_GEMINI_BASE_URL", "http://g.test"),
        ]
        .into_iter()
        .collect();
        let named = |provider: &str, base_url: &str| {
            let tier = tier(provider, base_url);
            tier.server(&environment).map(|server| (server.url.to_owned(), server.variable))
        };
        assert_eq!(named("anthropic", ""), Some(("https://a.test".to_owned(), Some("ANTHROPIC_BASE_URL"))));
        assert_eq!(named("anthropic", "https://f.test"), Some(("https://f.test".to_owned(), None)));
        assert_eq!(named("openai", ""), None, "an empty variable names nothing");
        assert_eq!(named("gemini", ""), Some(("http://g.test".to_owned(), Some("GOOGLE_GEMINI_BASE_URL"))));
        assert_eq!(named("simulated", ""), None);
    }

    #[test]
    fn a_key_goes_along_to_a_server_of_the_environment_and_need_not() {
        let elsewhere: Environment = [("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1")].into_iter().collect();
        let own: Environment = [("OPENAI_BASE_URL", "https://api.openai.com/v1")].into_iter().collect();
        let openai = tier("openai", "");
        assert_eq!(openai.key_variables(), ["OPENAI_API_KEY"]);
        assert!(!openai.needs_key(&elsewhere) && openai.needs_key(&own) && openai.needs_key(&Environment::default()));
        let said = Tier { api_key: Some(crate::KeyRef::env("MINE")), ..openai };
        assert!(said.needs_key(&elsewhere), "whoever names a key means it");
    }
}
