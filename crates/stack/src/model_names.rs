//! Names of models that are nearly those of known ones.

use steadfast::prices::PriceTable;

use super::{
    Config, Provider, Tier,
    suggest::{near_model, nearest},
};

impl Config {
    /// Returns a sentence for each model that is not known, where the name of a known one is near: of the tiers, and of
    /// the names under `models`. Only a provider's own server is judged: others have names of their own. A model newer
    /// than the tables is near to none.
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
        let of_callers = self.models.keys().filter(|name| !self.has_model(name)).filter_map(|name| {
            let near = near_known(name, &prices)?;
            Some(format!("models: no model `{name}` is known; did you mean `{near}`?"))
        });
        endpoints.filter_map(note).chain(of_callers).collect()
    }

    /// Returns what is wrong with a name, or a pattern that ends in `*`, for the models that a caller may ask for: no
    /// request for such a model can be served. Without `models` any model that is known may be asked for.
    pub fn model_name_problem(&self, pattern: &str) -> Option<String> {
        let listed = || self.models.keys().map(String::as_str);
        let prices = PriceTable::builtin();
        let is_served = match self.models.is_empty() {
            true => self.has_model(pattern) || is_known(pattern, &prices),
            false => listed().any(|name| overlap(name, pattern)) || pattern == "*",
        };
        if is_served || self.lane_names().any(|name| overlap(name, pattern)) {
            return None;
        }
        let of_file = if self.models.is_empty() { self.names().collect() } else { listed().collect::<Vec<_>>() };
        let near = nearest(pattern, of_file).map(str::to_owned).or_else(|| near_known(pattern, &prices));
        let remedy = near
            .map_or_else(|| "; it can be listed under `models`".to_owned(), |near| format!("; did you mean `{near}`?"));
        Some(format!("the configuration serves no model `{pattern}`{remedy}"))
    }

    /// Returns whether requests may have this feature: the file lists it, has a budget for it, or lists none.
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.is_empty()
            || self.features.contains_key(name)
            || self.budgets.iter().any(|budget| budget.feature.as_deref() == Some(name))
    }

    /// Returns what is wrong with a feature's name, where the file lists features and not this one.
    pub fn feature_name_problem(&self, name: &str) -> Option<String> {
        if self.has_feature(name) {
            return None;
        }
        let names = || self.features.keys().map(String::as_str);
        Some(match nearest(name, names()) {
            Some(near) => format!("the configuration has no feature `{name}`; did you mean `{near}`?"),
            None => {
                let listed = names().collect::<Vec<_>>().join(", ");
                format!("the configuration has no feature `{name}`; there are {listed}")
            }
        })
    }

    /// Returns whether a tier of the conversations has this name or model, or one that the pattern matches.
    fn has_model(&self, pattern: &str) -> bool {
        self.names().any(|name| overlap(name, pattern))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tiers.iter().flat_map(|tier| [Some(tier.name.as_str()), tier.model.as_deref()].into_iter().flatten())
    }

    fn lane_names(&self) -> impl Iterator<Item = &str> {
        let tiers = self.lane.iter().flat_map(|lane| &lane.tiers);
        tiers.flat_map(|tier| [Some(tier.name.as_str()), tier.model.as_deref()].into_iter().flatten())
    }
}

/// The providers whose models have names that callers use.
const MAKERS: [Provider; 3] = [Provider::Anthropic, Provider::OpenAi, Provider::Gemini];

/// Returns whether one name can be both of these, either of which may be a pattern.
fn overlap(one: &str, other: &str) -> bool {
    let (one_start, other_start) = (one.strip_suffix('*'), other.strip_suffix('*'));
    match (one_start, other_start) {
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (Some(start), None) => other.starts_with(start),
        (None, Some(start)) => one.starts_with(start),
        (None, None) => one == other,
    }
}

/// Returns whether a maker has a model of this name or pattern.
fn is_known(pattern: &str, prices: &PriceTable) -> bool {
    let models = MAKERS.into_iter().flat_map(|maker| prices.models(maker.name()));
    let plain = undated(pattern).unwrap_or(pattern);
    models.into_iter().any(|model| overlap(model, pattern) || model == plain)
}

/// Returns the known name or pattern that was probably meant by one that is not known.
fn near_known(pattern: &str, prices: &PriceTable) -> Option<String> {
    if is_known(pattern, prices) {
        return None;
    }
    let models = || MAKERS.into_iter().flat_map(|maker| prices.models(maker.name()));
    match pattern.strip_suffix('*') {
        None => near_model(pattern, models()).map(str::to_owned),
        // The beginning of a known name, up to a dash.
        Some(start) => {
            let starts = models().flat_map(|model| model.match_indices('-').map(|(at, _)| &model[..=at]));
            near_model(start, starts).map(|start| format!("{start}*"))
        }
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

    #[test]
    fn a_callers_name_or_pattern_that_is_nearly_a_known_one_is_told_too() {
        let notes = |name: &str| {
            let text = format!(
                "tiers: [{{ name: main, provider: anthropic, model: claude-sonnet-4-5 }}]\nmodels: {{ \"{name}\": {{ tiers: [main] }} }}"
            );
            Config::from_str(&text, Format::Yaml).expect("a good file").model_name_notes()
        };
        for (written, meant) in
            [("claude-sonet-*", "claude-sonnet-*"), ("gpt4o", "gpt-4o"), ("claude-opus-4.5", "claude-opus-4-5")]
        {
            let note = format!("models: no model `{written}` is known; did you mean `{meant}`?");
            assert_eq!(notes(written), [note], "{written}");
        }
        for right in ["*", "claude-*", "claude-haiku-*", "gpt-4o", "main", "fast", "my-own-*", "claude-sonnet-9"] {
            assert!(notes(right).is_empty(), "{right}: {:?}", notes(right));
        }
    }

    #[test]
    fn a_name_that_no_caller_can_be_served_by_has_its_problem() {
        let tiers = "tiers:\n  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5 }\n";
        let config = |more: &str| Config::from_str(&format!("{tiers}{more}"), Format::Yaml).expect("a good file");
        let open = config("features: { chat: {} }");
        for right in ["sonnet", "claude-sonnet-4-5", "claude-*", "*", "gpt-4o", "claude-sonnet-4-5-20250929"] {
            assert_eq!(open.model_name_problem(right), None, "{right}");
        }
        for (wrong, said) in
            [("sonet", "did you mean `sonnet`?"), ("claude-sonet-4-5", "`claude-sonnet-4-5`?"), ("nosuch", "`models`")]
        {
            let problem = open.model_name_problem(wrong).unwrap_or_default();
            assert!(problem.contains(&format!("no model `{wrong}`")) && problem.ends_with(said), "{problem}");
        }
        // With names of its own the file serves no other.
        let listed = config("models: { fast: { tiers: [sonnet] }, \"claude-*\": { tiers: [sonnet] } }");
        assert_eq!(listed.model_name_problem("claude-opus-4-5"), None);
        assert_eq!(listed.model_name_problem("fast"), None);
        assert!(listed.model_name_problem("gpt-4o").is_some() && listed.model_name_problem("fst").is_some());
        assert_eq!(open.feature_name_problem("chat"), None);
        assert!(open.feature_name_problem("chatt").unwrap_or_default().ends_with("did you mean `chat`?"));
        assert!(open.feature_name_problem("search").unwrap_or_default().ends_with("there are chat"));
        assert_eq!(listed.feature_name_problem("search"), None, "a file without features has limits for any");
        let capped = "budgets: [{ name: night, feature: batch, usd: 5, period: day }]";
        let capped = config(&format!("features: {{ chat: {{ concurrency: 2 }} }}\n{capped}"));
        assert_eq!(capped.feature_name_problem("batch"), None, "a feature may have a budget and nothing else");
        assert!(capped.feature_name_problem("search").is_some());
    }
}
