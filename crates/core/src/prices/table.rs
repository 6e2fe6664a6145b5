use std::{fmt, sync::Arc};

use super::{Price, Usd, price::FilePrice};
use crate::{
    InvalidConfig,
    chat::Usage,
    dated_file::dated_file,
    internal::quick_hash::QuickMap,
    models::{ModelDoors, snapshot},
};

/// Prices by model. Clones share the table until one is changed.
///
/// # Look-up
///
/// 1. The price under exactly this name, first at the provider, then at any.
/// 2. Without a provider's prefix: `anthropic/claude-sonnet-4-5` is `claude-sonnet-4-5` at `anthropic`.
/// 3. Without the date or version of a snapshot: `claude-sonnet-4-5-20250929`, `gpt-4o-2024-08-06`,
///    `gemini-2.0-flash-001`, `claude-sonnet-4-5@20250929`, and `-latest`.
/// 4. Under the model's name, for an id of a cloud that [`ModelDoors`] lists:
///    `us.anthropic.claude-sonnet-4-5-20250929-v1:0`. A cloud's surcharge for a region is left out.
///
/// Nothing else is guessed: a model that is not in the table has no price, because a wrong one is worse than none.
///
/// A look-up allocates nothing.
#[derive(Clone, PartialEq)]
pub struct PriceTable(Arc<Inner>);

#[derive(Clone, PartialEq)]
struct Inner {
    as_of: Option<Box<str>>,
    /// Callers choose the keys of look-ups, but only the configuration puts keys in: a quick hash is safe.
    models: QuickMap<Box<str>, Vec<Entry>>,
    prices: Vec<Price>,
    /// The number of the first of these, which come from a list: nobody has set them one by one.
    listed: usize,
}

/// The names by which the price of an answer is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub struct PricedNames<'a> {
    pub provider: Option<&'a str>,
    /// The model that the provider was asked for.
    pub asked: Option<&'a str>,
    /// The model by the answer's own word.
    pub served: Option<&'a str>,
}

impl<'a> PricedNames<'a> {
    /// Returns the names, where an answer's record has them.
    pub fn of([provider, asked, served]: [&'a Option<Arc<str>>; 3]) -> Self {
        Self { provider: provider.as_deref(), asked: asked.as_deref(), served: served.as_deref() }
    }
}

/// A price of a model.
#[derive(Clone, PartialEq)]
struct Entry {
    /// The provider at which the price holds; `None` is any.
    provider: Option<Box<str>>,
    /// Its index among the prices.
    place: u32,
}

dated_file!(PriceTable from "prices.json", models: FilePrice);

impl PriceTable {
    /// Returns the prices that come with the crate, of Anthropic's, OpenAI's, Google's and some compatible models:
    /// `prices.json` in `steadfast-core`, with its date, its sources and its gaps. Read once.
    pub fn builtin() -> Self {
        Self::builtin_ref().clone()
    }

    /// Creates a table without prices.
    pub fn empty() -> Self {
        Self(Arc::new(Inner { as_of: None, models: QuickMap::default(), prices: Vec::new(), listed: 0 }))
    }

    /// Reads prices in the form of the crate's own file:
    /// `{"as_of": "2026-10-07", "models": {"gpt-4o": {"input": 2.5, "output": 10, "cache_read": 1.25}}}`, in US dollars
    /// for a million tokens. A model must have `input` and `output`. It may have `cache_read`, `cache_write`,
    /// `long_context` (prices `above` a number of tokens), the one `provider` at which the price holds, shares of the
    /// price in service tiers (`batch`, `flex`, `fast`; with `whole_cache_price` a lower one is none of cached
    /// input), and `off_peak` (its `share`, the spans of `peak` in UTC, and whether the `weekend` has none).
    ///
    /// # Errors
    ///
    /// The text is not JSON, has an unknown key, or a number that is no price.
    pub fn from_json(json: &str) -> Result<Self, InvalidConfig> {
        let file: File = serde_json::from_str(json).map_err(|error| InvalidConfig::new("prices", error.to_string()))?;
        let mut table = Self::empty();
        for (model, row) in file.models {
            let price = row.price().map_err(|error| {
                InvalidConfig::new(format!("prices.models.{model}.{}", error.field()), error.problem().to_owned())
            })?;
            table.put(model, row.provider, price);
        }
        let inner = Arc::make_mut(&mut table.0);
        (inner.as_of, inner.listed) = (file.as_of, inner.prices.len());
        Ok(table)
    }

    /// Sets a model's price at any provider, in place of the table's prices of that name.
    #[must_use]
    pub fn with(mut self, model: impl Into<Box<str>>, price: Price) -> Self {
        let model = model.into();
        Arc::make_mut(&mut self.0).models.remove(&model);
        self.put(model, None, price);
        self
    }

    /// Sets a model's price at one provider, named as the provider's leaf is. It takes precedence over a price that
    /// holds at any provider.
    #[must_use]
    pub fn with_at(mut self, provider: impl Into<Box<str>>, model: impl Into<Box<str>>, price: Price) -> Self {
        self.put(model.into(), Some(provider.into()), price);
        self
    }

    /// Returns the date of the prices.
    pub fn as_of(&self) -> Option<&str> {
        self.0.as_of.as_deref()
    }

    /// Returns the names of the models that have a price at this provider.
    pub fn models<'a>(&'a self, provider: &'a str) -> impl Iterator<Item = &'a str> {
        let holds = move |entry: &Entry| entry.provider.as_deref().is_none_or(|at| at == provider);
        self.0.models.iter().filter(move |(_, entries)| entries.iter().any(holds)).map(|(model, _)| &**model)
    }

    /// Returns a model's price; without a provider, only one that holds at any.
    pub fn price(&self, provider: Option<&str>, model: &str) -> Option<&Price> {
        self.place(provider, model).map(|place| self.at(place))
    }

    /// Returns the cost of a model's usage; `None` if its price is not known.
    pub fn cost(&self, provider: Option<&str>, model: &str, usage: &Usage) -> Option<Usd> {
        Some(self.price(provider, model)?.cost(usage))
    }

    /// Returns the cost of an answer: the provider's own figure, or else the price of the model that
    /// [served](Self::place_of).
    #[doc(hidden)]
    pub fn cost_of(&self, names: PricedNames<'_>, usage: &Usage) -> Option<Usd> {
        usage.cost_at(self.place_of(names).map(|place| self.at(place)))
    }

    /// Returns the index of an answer's price, valid while the table is unchanged. The price is that of the model that
    /// served, or else of the one that was asked for. A price that was set by hand for either name comes before a
    /// list's: who calls a model by another name knows its price.
    #[doc(hidden)]
    #[inline]
    pub fn place_of(&self, names: PricedNames<'_>) -> Option<u32> {
        let of = |name: Option<&str>| self.place(names.provider, name?);
        if names.served.is_none() {
            return of(names.asked);
        }
        let is_listed = |place: u32| (place as usize) < self.0.listed;
        match (of(names.served), of(names.asked)) {
            (Some(served), Some(asked)) if is_listed(served) && !is_listed(asked) => Some(asked),
            (served, asked) => served.or(asked),
        }
    }

    /// Returns true if the table is the crate's own, unchanged.
    pub(crate) fn is_builtin(&self) -> bool {
        BUILTIN.get().is_some_and(|builtin| Arc::ptr_eq(&self.0, &builtin.0))
    }

    /// Returns the index of a model's price, valid while the table is unchanged.
    #[doc(hidden)]
    pub fn place(&self, provider: Option<&str>, model: &str) -> Option<u32> {
        let unprefixed = || {
            let (prefix, name) = model.rsplit_once('/')?;
            // `openrouter/anthropic/claude-..`: the part nearest to the name is the model's maker.
            Some((prefix.rsplit('/').next(), name))
        };
        self.snapshot_or_base(provider, model)
            .or_else(|| {
                let (prefix, name) = unprefixed()?;
                self.snapshot_or_base(prefix, name)
            })
            .or_else(|| self.exact(provider, ModelDoors::builtin_ref().model(model)?))
    }

    /// Returns the price at such an index.
    #[doc(hidden)]
    pub fn at(&self, place: u32) -> &Price {
        &self.0.prices[place as usize]
    }

    fn snapshot_or_base(&self, provider: Option<&str>, model: &str) -> Option<u32> {
        self.exact(provider, model).or_else(|| self.exact(provider, snapshot::base(model)?))
    }

    fn exact(&self, provider: Option<&str>, model: &str) -> Option<u32> {
        let entries = self.0.models.get(model)?;
        let holds =
            |at: Option<&str>| entries.iter().find(|entry| entry.provider.as_deref() == at).map(|entry| entry.place);
        provider.and_then(|provider| holds(Some(provider))).or_else(|| holds(None))
    }

    fn put(&mut self, model: Box<str>, provider: Option<Box<str>>, price: Price) {
        let inner = Arc::make_mut(&mut self.0);
        let place = u32::try_from(inner.prices.len()).expect("fewer prices than that");
        inner.prices.push(price);
        let entries = inner.models.entry(model).or_default();
        entries.retain(|entry| entry.provider != provider);
        entries.push(Entry { provider, place });
    }
}

impl fmt::Debug for PriceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriceTable").field("as_of", &self.0.as_of).field("models", &self.0.models.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dollars(input: f64, output: f64) -> Price {
        Price::dollars(input, output).unwrap()
    }

    #[test]
    fn the_crates_own_file_is_right_dated_and_plausible() {
        let table = PriceTable::builtin();
        let date = table.as_of().unwrap();
        assert!(date.len() == 10 && date.starts_with("20"), "{date}");
        assert!(table.is_builtin() && PriceTable::default().is_builtin());
        for (model, entries) in &table.0.models {
            for entry in entries {
                let price = table.at(entry.place);
                let (input, output) = (price.cost(&Usage::new(1000, 0)), price.cost(&Usage::new(0, 1000)));
                // A call that is no conversation has a price for its unit alone, and moderation has none.
                let is_of_units = output == Usd::ZERO;
                assert!(is_of_units || Usd::ZERO < input && input < output, "{model}: output costs more than input");
                let mut cached = Usage::new(1000, 0);
                cached.cache_read = 1000;
                assert!(price.cost(&cached) <= input, "{model}: a cache is no dearer");
                let long = price.cost(&Usage::new(1_000_000, 0)).nanos();
                assert!(long >= 1000 * input.nanos(), "{model}: a long context is no cheaper");
            }
        }
        for model in ["claude-sonnet-4-5", "gpt-4o", "gemini-2.5-pro"] {
            assert!(table.price(None, model).is_some(), "{model} is in the guides");
        }
    }

    #[test]
    fn a_snapshot_costs_what_its_model_costs() {
        let table = PriceTable::builtin();
        let price = |name: &str| table.price(None, name);
        for (snapshot, model) in [
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
            ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
            ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5"),
            ("openrouter/anthropic/claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("openai/gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("gemini-2.5-flash-001", "gemini-2.5-flash"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("openai.gpt-5.5", "gpt-5.5"),
        ] {
            assert!(price(snapshot).is_some() && price(snapshot) == price(model), "{snapshot}");
        }
        assert_ne!(price("gpt-4o-2024-05-13"), price("gpt-4o"), "a snapshot with a price of its own");
    }

    #[test]
    fn what_is_not_known_has_no_price() {
        let table = PriceTable::builtin();
        for model in [
            "",
            "/",
            "-",
            "claude",
            "claude-sonnet-4-5-fast",
            "claude-sonnet-4-5-2025",
            "claude-sonnet-4-5-20250929-v1:0",
            "us.anthropic.claude-sonnet-4-5",
            "gpt-4o-audio-preview",
            "gpt-4o-2024-05",
            "gpt-4o:free",
            "GPT-4o",
            "gpt-4",
            "gpt-4o/",
            "my-gpt-4o",
        ] {
            assert_eq!(table.price(None, model), None, "{model}");
            assert_eq!(table.cost(Some("openai"), model, &Usage::new(1, 1)), None, "{model}");
        }
    }

    #[test]
    fn a_price_of_one_provider_holds_there_alone() {
        let table = PriceTable::builtin();
        assert!(table.price(Some("deepseek"), "deepseek-flash").is_some());
        assert!(table.price(None, "deepseek/deepseek-flash").is_some());
        for elsewhere in [None, Some("ollama")] {
            assert_eq!(table.price(elsewhere, "deepseek-flash"), None);
        }
        let table = table.with_at("bedrock", "claude-sonnet-4-5", dollars(3.3, 16.5));
        assert_eq!(table.price(Some("bedrock"), "claude-sonnet-4-5-20250929"), Some(&dollars(3.3, 16.5)));
        assert_ne!(table.price(Some("anthropic"), "claude-sonnet-4-5"), Some(&dollars(3.3, 16.5)));
    }

    #[test]
    fn what_is_set_by_hand_wins_everywhere() {
        let mine = dollars(0.1, 0.2);
        let table = PriceTable::builtin().with("deepseek-flash", mine).with("meta-llama/llama-3", mine);
        for provider in [None, Some("deepseek"), Some("ollama")] {
            assert_eq!(table.price(provider, "deepseek-flash"), Some(&mine));
        }
        assert_eq!(table.price(Some("groq"), "meta-llama/llama-3"), Some(&mine), "a slash in the name itself");
        assert!(!table.is_builtin());
        assert_ne!(PriceTable::builtin().price(Some("deepseek"), "deepseek-flash"), Some(&mine));
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        for (json, said) in [
            ("", "prices"),
            (r#"{"models": []}"#, "prices"),
            (r#"{"models": {"a": {"input": 1, "output": 2, "cached": 3}}}"#, "unknown field `cached`"),
            (r#"{"models": {"a": {"input": 1}}}"#, "missing field `output`"),
            (r#"{"models": {"a": {"input": -1, "output": 2}}}"#, "prices.models.a.input: -1 is no price"),
        ] {
            let error = PriceTable::from_json(json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
        let table = PriceTable::from_json(r#"{"models": {"a": {"input": 1, "output": 2}}}"#).unwrap();
        assert_eq!((table.as_of(), table.price(None, "a")), (None, Some(&dollars(1.0, 2.0))));
    }

    #[test]
    fn a_look_up_allocates_nothing() {
        let table = PriceTable::builtin();
        let usage = Usage::new(1000, 1000);
        // The first look-up of an unknown name reads the table of the clouds' ids.
        table.cost(None, "unknown/model-x", &usage);
        let measured = allocation_counter::measure(|| {
            for model in ["claude-sonnet-4-5", "openrouter/anthropic/claude-sonnet-4-5-20250929", "unknown/model-x"] {
                std::hint::black_box(table.cost(Some("anthropic"), model, &usage));
            }
        });
        assert_eq!(measured.count_total, 0);
    }
}
