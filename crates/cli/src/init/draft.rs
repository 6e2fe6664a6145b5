//! A first configuration: the models of the providers whose keys are there.

use std::fmt::Write as _;

use steadfast::providers::servers::KnownServer;
use steadfast_stack::{Config, ConfigError, Environment, Format};

/// A model, by the provider whose key opens it.
pub(crate) struct Offer {
    provider: &'static str,
    /// The tier's name.
    tier: &'static str,
    pub(crate) model: &'static str,
    /// The beginning of the names of the provider's models.
    names: &'static str,
    /// The model for a client's background work.
    small: Option<SmallModel>,
}

struct SmallModel {
    tier: &'static str,
    model: &'static str,
    names: &'static str,
}

/// The models, in the usual order.
const OFFERS: [Offer; 3] = [
    Offer {
        provider: "anthropic",
        tier: "claude",
        model: "claude-sonnet-4-5",
        names: "claude-*",
        small: Some(SmallModel { tier: "haiku", model: "claude-haiku-4-5", names: "claude-haiku-*" }),
    },
    Offer { provider: "openai", tier: "gpt", model: "gpt-5.2", names: "gpt-*", small: None },
    Offer { provider: "gemini", tier: "gemini", model: "gemini-2.5-pro", names: "gemini-*", small: None },
];

impl Offer {
    /// Returns the variables that may hold the key, in order of precedence.
    fn variables(&self) -> &'static [&'static str] {
        KnownServer::named(self.provider).map_or(&[], |server| &server.key_variables)
    }
}

/// An offer whose key the environment has.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) offer: &'static Offer,
    /// The variable of the key.
    pub(crate) variable: &'static str,
}

/// A configuration to be written.
pub(crate) struct Draft {
    /// In order of preference.
    pub(crate) models: Vec<Found>,
    /// The most that a day may cost.
    pub(crate) usd_per_day: Option<f64>,
}

impl Draft {
    /// Returns the draft of all models whose keys are in this environment, in the usual order and without a budget;
    /// `None` if there is no key.
    pub(crate) fn of(environment: &Environment) -> Option<Self> {
        let is_set = |name: &&&str| environment.get(name).is_some_and(|value| !value.trim().is_empty());
        let found = OFFERS.iter().filter_map(|offer| {
            let variable = offer.variables().iter().find(is_set)?;
            Some(Found { offer, variable })
        });
        let models: Vec<Found> = found.collect();
        (!models.is_empty()).then_some(Self { models, usd_per_day: None })
    }

    /// Returns the names of all variables that may hold a key.
    pub(crate) fn variables() -> String {
        OFFERS.iter().flat_map(Offer::variables).copied().collect::<Vec<_>>().join(", ")
    }

    /// Returns the names of the tiers, in order.
    pub(crate) fn tiers(&self) -> Vec<&'static str> {
        self.models.iter().map(|found| found.offer.tier).chain(self.small().map(|(_, small)| small.tier)).collect()
    }

    fn small(&self) -> impl Iterator<Item = (&Found, &'static SmallModel)> {
        self.models.iter().filter_map(|found| Some((found, found.offer.small.as_ref()?)))
    }

    /// Returns the configuration.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        Config::from_str(&self.text(None), Format::Yaml)
    }

    /// Returns the configuration's text. What a day has cost is counted in the SQLite file `store`, and without one by
    /// each process for itself.
    pub(crate) fn text(&self, store: Option<&str>) -> String {
        let mut text = BEGINNING.to_owned();
        let mut tier = |name: &str, found: &Found, model: &str, level: &str| {
            let Found { offer, variable } = found;
            let key = format!("api_key: '${{{variable}}}'");
            let _ =
                writeln!(text, "  - {{ name: {name}, provider: {}, model: {model}, {key}{level} }}", offer.provider);
        };
        for found in &self.models {
            tier(found.offer.tier, found, found.offer.model, "");
        }
        for (found, small) in self.small() {
            tier(small.tier, found, small.model, ", level: 2");
        }
        text += &self.names();
        if let Some(usd) = self.usd_per_day {
            let _ = writeln!(text, "budgets: [{{ name: day, usd: {usd}, period: day }}]   # then calls are refused");
            if let Some(store) = store {
                let store = store.replace('\'', "''");
                let _ = writeln!(text, "stores: {{ durable: 'sqlite:{store}' }}   # counts a day over restarts");
                text += "ledger: {}\n";
            }
        }
        text
    }

    /// Returns the names of models by which clients call the tiers, if they do not all begin at the first.
    fn names(&self) -> String {
        let tiers = self.tiers();
        let mut rows = String::new();
        let mut row = |names: &str, first: &str| {
            let others = tiers.iter().copied().filter(|tier| *tier != first);
            let chain: Vec<&str> = [first].into_iter().chain(others).collect();
            let _ = writeln!(rows, "  {names}: {{ tiers: [{}] }}", chain.join(", "));
        };
        for (_, small) in self.small() {
            row(small.names, small.tier);
        }
        if self.models.len() > 1 {
            self.models.iter().for_each(|found| row(found.offer.names, found.offer.tier));
        }
        if rows.is_empty() {
            return rows;
        }
        format!("{NAMES}{rows}  '*': {{ tiers: [{}] }}\n", tiers.join(", "))
    }
}

const BEGINNING: &str = "\
# Calls go to the first model that can answer. Keys stay in the environment; `steadfast check` explains this file.
tiers:                          # in order of preference
";

const NAMES: &str = "\
models:                         # a client's own choice comes first; without this block, the order above
";

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Environment {
        names.iter().map(|name| (*name, "sk-of-the-provider")).collect()
    }

    #[test]
    fn every_subset_of_keys_is_a_configuration_of_their_models_and_has_no_key_in_it() {
        let all: Vec<&str> = OFFERS.iter().map(|offer| offer.variables()[0]).collect();
        for subset in 1_u32..1 << all.len() {
            let names: Vec<&str> = (0..all.len()).filter(|at| subset >> at & 1 == 1).map(|at| all[at]).collect();
            let environment = environment(&names);
            let mut draft = Draft::of(&environment).unwrap();
            let text = draft.text(None);
            assert!(!text.contains("sk-of-the-provider"), "{text}");
            let config = draft.config().unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(config.tiers.iter().map(|tier| tier.name.as_str()).collect::<Vec<_>>(), draft.tiers());
            assert_eq!(config.missing_keys(&environment), []);
            assert_eq!(config.missing_keys(&Environment::default()).len(), config.tiers.len(), "each has its own");
            assert_eq!(config.model_name_notes(), [] as [String; 0], "{text}");
            draft.usd_per_day = Some(12.5);
            let text = draft.text(Some("/var/lib/o'hara/steadfast.db"));
            let config = Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(config.budgets[0].usd, 12.5);
            assert!(text.lines().count() <= 9 + names.len() * 2, "{text}");
        }
    }

    #[test]
    fn a_clients_own_choice_of_a_model_is_first_and_the_order_holds_behind_it() {
        let mut draft = Draft::of(&environment(&["ANTHROPIC_API_KEY", "OPENAI_API_KEY"])).unwrap();
        draft.models.reverse();
        let config = draft.config().unwrap();
        for (name, tiers) in [
            ("claude-haiku-*", ["haiku", "gpt", "claude"]),
            ("claude-*", ["claude", "gpt", "haiku"]),
            ("gpt-*", ["gpt", "claude", "haiku"]),
            ("*", ["gpt", "claude", "haiku"]),
        ] {
            assert_eq!(config.models[name].tiers, tiers, "{name}");
        }
    }

    #[test]
    fn an_empty_variable_is_no_key_and_google_has_two() {
        let empty: Environment = [("OPENAI_API_KEY", " "), ("GOOGLE_API_KEY", "k")].into_iter().collect();
        let draft = Draft::of(&empty).unwrap();
        assert!(
            draft.tiers() == ["gemini"] && draft.text(None).contains("'${GOOGLE_API_KEY}'"),
            "{}",
            draft.text(None)
        );
        assert!(Draft::of(&Environment::default()).is_none());
    }
}
