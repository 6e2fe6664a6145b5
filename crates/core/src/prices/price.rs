use serde::Deserialize;

use super::Usd;
use crate::{InvalidConfig, chat::Usage};

/// The price of a model's tokens, in US dollars for a million of them.
///
/// ```
/// use steadfast::{chat::Usage, prices::{Price, Usd}};
///
/// let sonnet = Price::dollars(3.0, 15.0).unwrap().cache_read(Usd::from_nanos(300_000_000));
/// assert_eq!(sonnet.cost(&Usage::new(1_000_000, 0)), Usd::from_dollars(3.0).unwrap());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    /// The rates of the whole request if its input is longer than this number of tokens.
    long: Option<(u64, Rates)>,
}

/// Billionths of a dollar for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

const MILLION: u128 = 1_000_000;

impl Price {
    /// Creates a price from the rates for a million input tokens and for a million output tokens, reasoning included.
    /// Cached input, read or written, costs the same as other input until it is set.
    pub const fn new(input: Usd, output: Usd) -> Self {
        let (input, output) = (input.nanos(), output.nanos());
        Self { rates: Rates { input, output, cache_read: input, cache_write: input }, long: None }
    }

    /// Creates a price from numbers, such as those on a provider's page.
    ///
    /// # Errors
    ///
    /// A number is no amount of money: negative, infinite, NaN.
    pub fn dollars(input: f64, output: f64) -> Result<Self, InvalidConfig> {
        Ok(Self::new(amount("input", input)?, amount("output", output)?))
    }

    /// Creates a price of nothing, for a model of one's own.
    pub const fn free() -> Self {
        Self::new(Usd::ZERO, Usd::ZERO)
    }

    /// Sets the price of input tokens read from the provider's cache. Default: that of other input.
    #[must_use]
    pub const fn cache_read(mut self, price: Usd) -> Self {
        self.rates.cache_read = price.nanos();
        self
    }

    /// Sets the price of input tokens written to the provider's cache. Default: that of other input.
    #[must_use]
    pub const fn cache_write(mut self, price: Usd) -> Self {
        self.rates.cache_write = price.nanos();
        self
    }

    /// Sets the price of whole requests whose input is longer than `above` tokens. Default: the same for all. A long
    /// context of `price` itself is ignored.
    #[must_use]
    pub const fn long_context(mut self, above: u64, price: Self) -> Self {
        self.long = Some((above, price.rates));
        self
    }

    /// Returns the cost of a usage, to the nearest billionth of a dollar. Exact integers; saturates at the largest
    /// amount.
    pub fn cost(&self, usage: &Usage) -> Usd {
        let rates = match &self.long {
            Some((above, rates)) if usage.input > *above => rates,
            _ => &self.rates,
        };
        rates.cost(usage)
    }

    /// Returns the cost of the summed usage of several answers, as if none of them were long.
    #[doc(hidden)]
    pub fn cost_of_sum(&self, usage: &Usage) -> Usd {
        self.rates.cost(usage)
    }
}

impl Rates {
    fn cost(&self, usage: &Usage) -> Usd {
        // A provider may report nonsense: a part that is more than the whole.
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let plain = usage.input.saturating_sub(cached);
        let nanos = [
            (plain, self.input),
            (usage.cache_read, self.cache_read),
            (usage.cache_write, self.cache_write),
            (usage.output, self.output),
        ]
        .into_iter()
        .fold(0u128, |sum, (tokens, rate)| sum.saturating_add(u128::from(tokens) * u128::from(rate)));
        let nanos = nanos.saturating_add(MILLION / 2) / MILLION;
        Usd::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Usage {
    /// Returns the cost of the answer: the provider's [own figure](Self::cost), or else by this price of its model.
    pub fn cost_at(&self, price: Option<&Price>) -> Option<Usd> {
        self.cost.or_else(|| Some(price?.cost(self)))
    }
}

fn amount(field: &'static str, dollars: f64) -> Result<Usd, InvalidConfig> {
    Usd::from_dollars(dollars).ok_or_else(|| {
        InvalidConfig::new(field, format!("{dollars} is no price: give US dollars for a million tokens"))
    })
}

/// A price in the form of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilePrice {
    /// The provider at which the price holds; without one, any.
    pub(super) provider: Option<Box<str>>,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    long_context: Option<FileLongContext>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLongContext {
    above: u64,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl FilePrice {
    pub(super) fn price(&self) -> Result<Price, InvalidConfig> {
        let price = read(self.input, self.output, self.cache_read, self.cache_write)?;
        Ok(match &self.long_context {
            None => price,
            Some(long) => {
                price.long_context(long.above, read(long.input, long.output, long.cache_read, long.cache_write)?)
            }
        })
    }
}

fn read(input: f64, output: f64, cache_read: Option<f64>, cache_write: Option<f64>) -> Result<Price, InvalidConfig> {
    let mut price = Price::dollars(input, output)?;
    if let Some(dollars) = cache_read {
        price = price.cache_read(amount("cache_read", dollars)?);
    }
    if let Some(dollars) = cache_write {
        price = price.cache_write(amount("cache_write", dollars)?);
    }
    Ok(price)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(dollars: f64) -> Usd {
        Usd::from_dollars(dollars).unwrap()
    }

    #[test]
    fn each_kind_of_token_has_its_price_and_counts_once() {
        let price = Price::dollars(3.0, 15.0).unwrap().cache_read(usd(0.3)).cache_write(usd(3.75));
        let mut usage = Usage::new(1_000_000, 100_000);
        usage.reasoning = 90_000;
        assert_eq!(price.cost(&usage), usd(3.0 + 1.5), "reasoning is output already");
        (usage.cache_read, usage.cache_write) = (500_000, 100_000);
        assert_eq!(price.cost(&usage), usd(0.4 * 3.0 + 0.5 * 0.3 + 0.1 * 3.75 + 1.5));
        assert_eq!(price.cost(&Usage::default()), Usd::ZERO);
        assert_eq!(Price::free().cost(&usage), Usd::ZERO);
    }

    #[test]
    fn a_cache_costs_as_other_input_until_it_has_a_price() {
        let mut usage = Usage::new(1000, 0);
        (usage.cache_read, usage.cache_write) = (400, 600);
        assert_eq!(Price::dollars(2.0, 8.0).unwrap().cost(&usage), usd(0.002));
    }

    #[test]
    fn a_long_context_changes_the_price_of_the_whole_request() {
        let price = Price::dollars(1.25, 10.0).unwrap().long_context(200_000, Price::dollars(2.5, 15.0).unwrap());
        assert_eq!(price.cost(&Usage::new(200_000, 1000)), usd(0.25 + 0.01));
        assert_eq!(price.cost(&Usage::new(200_001, 1000)), usd(0.500_002_5 + 0.015));
    }

    #[test]
    fn amounts_are_rounded_once_and_stop_at_the_end() {
        // 0.4 of a billionth, twice.
        let price = Price::new(Usd::from_nanos(400_000), Usd::from_nanos(400_000));
        assert_eq!(price.cost(&Usage::new(1, 1)), Usd::from_nanos(1));
        assert_eq!(price.cost(&Usage::new(1, 0)), Usd::ZERO);
        let most = Usd::from_nanos(u64::MAX);
        assert_eq!(Price::new(most, most).cost(&Usage::new(u64::MAX, u64::MAX)), most);
    }

    #[test]
    fn parts_that_are_more_than_the_whole_do_not_wrap() {
        let mut usage = Usage::new(10, 0);
        (usage.cache_read, usage.cache_write) = (u64::MAX, 5);
        assert!(Price::dollars(1.0, 1.0).unwrap().cost(&usage) > Usd::ZERO);
    }

    #[test]
    fn nonsense_is_no_price_and_the_field_is_named() {
        for (input, output, field) in [(-1.0, 1.0, "input"), (1.0, f64::NAN, "output")] {
            assert_eq!(Price::dollars(input, output).unwrap_err().field(), field);
        }
    }
}
