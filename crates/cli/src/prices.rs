//! `steadfast prices`: prices of models from LiteLLM's public table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Map, Value};
use steadfast::providers::servers::KnownServer;
use steadfast_stack::{Cloud, Config, Tier};

use crate::Failure;

/// Print the `prices` of a configuration's models, from LiteLLM's public table
///
/// The table is `model_prices_and_context_window.json` in LiteLLM's repository. What is printed goes into the
/// configuration, where it comes before the prices that this program has. Prices for batches and for other service
/// tiers are printed as shares of the usual one. Where two tiers pay differently for a model the dearer price stands,
/// since a cap errs on the safe side.
#[derive(Args)]
pub(crate) struct Import {
    /// LiteLLM's table
    #[arg(value_name = "FILE")]
    table: PathBuf,

    /// The configuration, of whose tiers the models are
    #[arg(short, long, value_name = "FILE", env = "STEADFAST_CONFIG")]
    config: Option<PathBuf>,

    /// A model more, as `gpt-4o` or `azure/gpt-4o`; may stand several times
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
}

/// A model, and the names under which the table may have it, the surest first.
type Names = BTreeMap<String, BTreeSet<Vec<String>>>;

impl Import {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut names = Names::new();
        if let Some(path) = &self.config {
            let config = Config::from_path(path)?;
            let models = config.all_tiers().filter(|tier| tier.provider.is_model());
            for (tier, model) in models.filter_map(|tier| Some((tier, tier.model.as_deref()?))) {
                names.entry(model.to_owned()).or_default().insert(in_table(tier, model));
            }
        }
        for model in &self.models {
            names.entry(model.clone()).or_default().insert(vec![model.clone()]);
        }
        if names.is_empty() {
            return Err(Failure::Config(
                "name models: by --config FILE, whose tiers have them, or by --model".to_owned(),
            ));
        }
        let table = read(&self.table)?;
        let (mut printed, mut missing) = (String::from("prices:\n"), Vec::new());
        for (model, names) in &names {
            let prices: Vec<Price> = names.iter().filter_map(|names| Price::find(&table, names)).collect();
            match prices.into_iter().reduce(Price::dearer) {
                Some(price) => printed += &format!("  {}: {}\n", quoted(model), price.in_yaml()),
                None => missing.push(model.as_str()),
            }
        }
        if missing.len() < names.len() {
            std::io::stdout().lock().write_all(printed.as_bytes())?;
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::Config(format!("the table has no price for tokens of {}", missing.join(", ")))),
        }
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let wrong = |problem: String| Failure::Config(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: Map<String, Value> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let is_table = table.values().any(|row| row.get("litellm_provider").is_some());
    if is_table {
        Ok(table)
    } else {
        Err(wrong("it is not LiteLLM's table: no row has a `litellm_provider`".to_owned()))
    }
}

/// Returns the names under which the table may have a tier's model.
fn in_table(tier: &Tier, model: &str) -> Vec<String> {
    let server = tier.base_url.as_deref().and_then(KnownServer::at);
    let own = [tier.provider.name()];
    let prefixes = match (tier.at, server) {
        (Some(Cloud::Aws), _) => &["bedrock"],
        (Some(Cloud::Azure), _) => &["azure", "azure_ai"][..],
        (Some(Cloud::Vertex), _) => &["vertex_ai"],
        (None, Some(server)) => &server.names,
        (None, None) => &own,
    };
    prefixes.iter().map(|prefix| format!("{prefix}/{model}")).chain([model.to_owned()]).collect()
}

/// The prices of a model, in dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Price {
    rates: Rates,
    /// The prices of longer inputs than so many tokens.
    long: Option<(u64, Rates)>,
    /// The shares of the price in service tiers.
    shares: [Option<f64>; SERVICE_TIERS.len()],
    /// True if a cheaper tier is none for cached input.
    has_whole_cache: bool,
}

/// The names of service tiers, and the ends of their prices' names in the table.
const SERVICE_TIERS: [(&str, &str); 3] = [("batch", "_batches"), ("flex", "_flex"), ("fast", "_priority")];

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl Price {
    fn find(table: &Map<String, Value>, names: &[String]) -> Option<Self> {
        names.iter().find_map(|name| Self::of(table.get(name)?))
    }

    fn of(row: &Value) -> Option<Self> {
        let rates = Rates::of(row, "")?;
        // Of several limits the lowest stands for all above it.
        let above = row.as_object()?.keys().filter_map(|key| {
            let thousands = key.strip_prefix("input_cost_per_token_above_")?.strip_suffix("k_tokens")?;
            thousands.parse::<u64>().ok()
        });
        let long = above
            .min()
            .and_then(|thousands| Some((thousands * 1000, Rates::of(row, &format!("_above_{thousands}k_tokens"))?)));
        let shares = SERVICE_TIERS.map(|(_, end)| {
            let of_tier = Rates::of(row, end)?;
            // Of two shares the larger errs on the safe side.
            let shares = [(of_tier.input, rates.input), (of_tier.output, rates.output)];
            let shares = shares.into_iter().filter(|(_, usual)| *usual > 0.0).map(|(cost, usual)| cost / usual);
            shares.reduce(f64::max).map(|share| (share * 1000.0).ceil() / 1000.0)
        });
        let has_whole_cache = SERVICE_TIERS.iter().filter_map(|(_, end)| Rates::of(row, end)).any(|of_tier| {
            let cached = of_tier.cache_read.zip(rates.cache_read);
            of_tier.input < rates.input && cached.is_some_and(|(of_tier, usual)| of_tier >= usual)
        });
        Some(Self { rates, long, shares, has_whole_cache })
    }

    /// Returns the dearer of two, by input and output together.
    fn dearer(self, other: Self) -> Self {
        let sum = |price: &Self| price.rates.input + price.rates.output;
        if sum(&other) > sum(&self) { other } else { self }
    }

    fn in_yaml(&self) -> String {
        let long = self.long.map(|(above, rates)| format!(", long_context: {{ above: {above}, {} }}", rates.in_yaml()));
        let shares = SERVICE_TIERS.iter().zip(self.shares);
        let shares: String = shares.filter_map(|((name, _), share)| Some(format!(", {name}: {}", share?))).collect();
        let cache = if self.has_whole_cache { ", whole_cache_price: true" } else { "" };
        format!("{{ {}{}{shares}{cache} }}", self.rates.in_yaml(), long.unwrap_or_default())
    }
}

impl Rates {
    /// Reads the prices whose names end so.
    fn of(row: &Value, end: &str) -> Option<Self> {
        let dollars = |name: &str| {
            let for_one = row.get(format!("{name}{end}"))?.as_f64().filter(|cost| cost.is_finite() && *cost >= 0.0)?;
            // Millionths of a dollar are what providers write.
            Some((for_one * 1e12).round() / 1e6)
        };
        Some(Self {
            input: dollars("input_cost_per_token")?,
            output: dollars("output_cost_per_token")?,
            cache_read: dollars("cache_read_input_token_cost"),
            cache_write: dollars("cache_creation_input_token_cost"),
        })
    }

    fn in_yaml(&self) -> String {
        let all = [
            ("input", Some(self.input)),
            ("output", Some(self.output)),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
        ];
        let fields = all.into_iter().filter_map(|(name, dollars)| Some(format!("{name}: {}", dollars?)));
        fields.collect::<Vec<_>>().join(", ")
    }
}

/// Returns a model's name as a key of YAML.
fn quoted(model: &str) -> String {
    let is_plain = model.starts_with(|first: char| first.is_ascii_alphanumeric())
        && model.chars().all(|one| one.is_ascii_alphanumeric() || "-._/@".contains(one));
    if is_plain { model.to_owned() } else { format!("'{}'", model.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_read_by_what_it_has() {
        let cases = [
            (json!({"input_cost_per_token": 3e-6, "output_cost_per_token": 1.5e-5}), Some("{ input: 3, output: 15 }")),
            (
                json!({"input_cost_per_token": 1.25e-6, "output_cost_per_token": 1e-5, "cache_read_input_token_cost": 1.25e-7,
                    "input_cost_per_token_above_200k_tokens": 2.5e-6, "output_cost_per_token_above_200k_tokens": 1.5e-5,
                    "input_cost_per_token_above_200k_tokens_batches": 1e-9, "input_cost_per_token_batches": 1e-9}),
                Some(
                    "{ input: 1.25, output: 10, cache_read: 0.125, long_context: { above: 200000, input: 2.5, output: 15 } }",
                ),
            ),
            // Half a price is none, and so is one that is no number.
            (json!({"input_cost_per_token": 3e-6}), None),
            (json!({"input_cost_per_token": -1, "output_cost_per_token": 1}), None),
            (json!({"input_cost_per_token": "3e-6", "output_cost_per_token": 1}), None),
            (json!({"output_cost_per_image": 0.04}), None),
        ];
        for (row, expected) in cases {
            assert_eq!(Price::of(&row).map(|price| price.in_yaml()).as_deref(), expected, "{row}");
        }
    }

    #[test]
    fn of_two_prices_the_dearer_stands_and_odd_names_are_quoted() {
        let price = |input| Price::of(&json!({"input_cost_per_token": input, "output_cost_per_token": 1e-6})).unwrap();
        assert_eq!(price(1e-6).dearer(price(2e-6)), price(2e-6));
        assert_eq!(price(2e-6).dearer(price(1e-6)), price(2e-6));
        assert_eq!([quoted("gpt-4o"), quoted("a:b"), quoted("it's")], ["gpt-4o", "'a:b'", "'it''s'"]);
    }
}
