//! Names of models that are nearly those of known ones.

use steadfast::prices::PriceTable;

use super::{Config, Provider, Tier, suggest::near_model};

impl Config {
    /// Returns a sentence for each tier whose model is not known, where the name of a known one is near. Only a
    /// provider's own server is judged: others have names of their own. A model newer than the tables is near to none.
    pub fn model_name_notes(&self) -> Vec<String> {
        let prices = PriceTable::builtin();
        let doors = self.model_doors().unwrap_or_default();
        let is_known = |provider: &str, model: &str| {
            self.prices.contains_key(model)
                || prices.price(Some(provider), model).is_some()
                || doors.model(model).is_some()
        };
        let endpoints = self.tiers.iter().flat_map(Tier::endpoints).filter(|tier| {
            matches!(tier.provider, Provider::Anthropic | Provider::OpenAi | Provider::Gemini)
                && tier.base_url.is_none()
                && tier.at.is_none()
        });
        let note = |tier: Tier| {
            let (model, provider) = (tier.model.as_deref()?, tier.provider.name());
            if is_known(provider, model) {
                return None;
            }
            let near = |name: &str| near_model(name, prices.models(provider)).map(str::to_owned);
            let near = near(model).or_else(|| near(undated(model)?))?;
            Some(format!("tier {}: no model `{model}` is known; did you mean `{near}`?", tier.name))
        };
        endpoints.filter_map(note).collect()
    }
}

/// Returns the name before a snapshot's date.
fn undated(model: &str) -> Option<&str> {
    let (name, date) = model.rsplit_once('-')?;
    (date.len() == 8 && date.bytes().all(|digit| digit.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    fn of(tier: &str) -> Vec<String> {
        let text = format!("tiers: [{{ name: main, {tier} }}]");
        Config::from_str(&text, Format::Yaml).expect("a good file").model_name_notes()
    }

    #[test]
    fn a_name_that_is_nearly_a_known_one_is_told_before_any_call() {
        let note = |written: &str, meant: &str| {
            vec![format!("tier main: no model `{written}` is known; did you mean `{meant}`?")]
        };
        let claude = "claude-sonnet-4-5";
        assert_eq!(of("provider: anthropic, model: claude-sonet-4-5"), note("claude-sonet-4-5", claude));
        assert_eq!(
            of("provider: anthropic, model: claude-sonnte-4-5-20250929"),
            note("claude-sonnte-4-5-20250929", claude)
        );
        assert_eq!(of("provider: openai, model: gpt-40"), note("gpt-40", "gpt-4o"));
    }

    #[test]
    fn a_known_name_a_new_one_and_another_servers_are_left_alone() {
        for tier in [
            "provider: anthropic, model: claude-sonnet-4-5",
            "provider: anthropic, model: claude-sonnet-4-5-20250929",
            "provider: anthropic, model: claude-sonnet-9",
            "provider: openai, model: \"ft:gpt-4o:acme::x\"",
            "provider: openai, base_url: \"http://127.0.0.1:9/v1\", model: gpt-40",
        ] {
            assert!(of(tier).is_empty(), "{tier}: {:?}", of(tier));
        }
    }
}
