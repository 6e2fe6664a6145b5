use serde::Deserialize;

use super::{
    Usd,
    off_peak::{OffPeak, thousandths},
};
use crate::{
    InvalidConfig,
    chat::{ServiceTier, Usage},
    internal::wall_clock,
};

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
    shares: Shares,
    off_peak: Option<OffPeak>,
}

/// The shares of the price in each service tier, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    batch: u64,
    flex: u64,
    fast: u64,
    /// True if a share below the whole holds for all but cached input that is read.
    is_cache_whole: bool,
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
/// A whole price, in thousandths.
const WHOLE: u64 = 1000;

impl Price {
    /// Creates a price from the rates for a million input tokens and for a million output tokens, reasoning included.
    /// Cached input, read or written, costs the same as other input until it is set.
    pub const fn new(input: Usd, output: Usd) -> Self {
        let (input, output) = (input.nanos(), output.nanos());
        Self {
            rates: Rates { input, output, cache_read: input, cache_write: input },
            long: None,
            shares: Shares::WHOLE,
            off_peak: None,
        }
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

    /// Sets the price in a service tier (`ServiceTier::Batch`, `Flex` or `Fast`), as a share of the usual one, up to
    /// 1,000: 0.5 for half. Default: the same in all. That of `Standard` is the price itself, and stays.
    ///
    /// # Errors
    ///
    /// The share is less than 0 or more than 1,000.
    pub fn in_service_tier(mut self, tier: ServiceTier, share: f64) -> Result<Self, InvalidConfig> {
        let share = thousandths(share).ok_or_else(|| {
            InvalidConfig::new(
                "share",
                format!("{share} is no share of a price: give 0.5 for half, or 2 for twice as much"),
            )
        })?;
        match tier {
            ServiceTier::Standard => {}
            ServiceTier::Batch => self.shares.batch = share,
            ServiceTier::Flex => self.shares.flex = share,
            ServiceTier::Fast => self.shares.fast = share,
        }
        Ok(self)
    }

    /// Leaves cached input at its usual price where a service tier is cheaper, as Google's are. Default: a tier's share
    /// holds for all tokens.
    #[must_use]
    pub const fn whole_cache_price(mut self) -> Self {
        self.shares.is_cache_whole = true;
        self
    }

    /// Sets the hours of a lower price, as DeepSeek has them: a share of the price, from 0 to 1, but in these spans of
    /// a day, such as `01:00-04:00` in UTC, of which there are at most four. One that ends before it begins goes over
    /// midnight. `weekend` tells whether the lower price holds on Saturday and Sunday all day. Default: the same price
    /// at all hours.
    ///
    /// # Errors
    ///
    /// The share is none, or a span is.
    ///
    /// ```
    /// use steadfast::prices::Price;
    ///
    /// let price = Price::dollars(1.32, 3.96)?.off_peak(0.5, ["01:00-04:00", "06:00-10:00"], true)?;
    /// # let _ = price;
    /// # Ok::<_, steadfast::InvalidConfig>(())
    /// ```
    pub fn off_peak<'a>(
        mut self,
        share: f64,
        peak: impl IntoIterator<Item = &'a str>,
        weekend: bool,
    ) -> Result<Self, InvalidConfig> {
        let hours = OffPeak::new(share)?.weekend(weekend);
        self.off_peak = Some(peak.into_iter().try_fold(hours, OffPeak::peak)?);
        Ok(self)
    }

    /// Returns the cost of a usage in its service tier, to the nearest billionth of a dollar, at the dearest hour.
    /// Exact integers; saturates at the largest amount.
    pub fn cost(&self, usage: &Usage) -> Usd {
        self.cost_in(usage, WHOLE)
    }

    /// Returns the cost of a usage at this hour.
    fn cost_now(&self, usage: &Usage) -> Usd {
        self.cost_in(usage, self.off_peak.map_or(WHOLE, |hours| hours.share_at(wall_clock::since_1970())))
    }

    /// Returns the cost of a usage at this share of the price.
    fn cost_in(&self, usage: &Usage, share: u64) -> Usd {
        let rates = match &self.long {
            Some((above, rates)) if usage.input > *above => rates,
            _ => &self.rates,
        };
        let of_tier = self.shares.of(usage.service_tier);
        let of_cache = if self.shares.is_cache_whole { of_tier.max(WHOLE) } else { of_tier };
        rates.cost(usage, [of_tier, of_cache], share)
    }

    /// Returns the cost of the summed usage of several answers, as if none of them were long.
    #[doc(hidden)]
    pub fn cost_of_sum(&self, usage: &Usage) -> Usd {
        self.rates.cost(usage, [WHOLE; 2], WHOLE)
    }
}

impl Shares {
    const WHOLE: Self = Self { batch: WHOLE, flex: WHOLE, fast: WHOLE, is_cache_whole: false };

    fn of(self, tier: ServiceTier) -> u64 {
        match tier {
            ServiceTier::Standard => WHOLE,
            ServiceTier::Batch => self.batch,
            ServiceTier::Flex => self.flex,
            ServiceTier::Fast => self.fast,
        }
    }
}

impl Rates {
    /// Returns the cost at the product of two shares in thousandths: that of the service tier, and for reads of the
    /// cache, and that of the hour.
    fn cost(&self, usage: &Usage, [of_tier, of_cache]: [u64; 2], of_hour: u64) -> Usd {
        // A provider may report nonsense: a part that is more than the whole.
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let plain = usage.input.saturating_sub(cached);
        let nanos = [
            (plain, self.input, of_tier),
            (usage.cache_read, self.cache_read, of_cache),
            (usage.cache_write, self.cache_write, of_tier),
            (usage.output, self.output, of_tier),
        ]
        .into_iter()
        .map(|(tokens, rate, share)| (u128::from(tokens) * u128::from(rate)).saturating_mul(share.into()))
        .fold(0u128, u128::saturating_add);
        let whole = MILLION * u128::from(WHOLE) * u128::from(WHOLE);
        let nanos = nanos.saturating_mul(of_hour.into());
        let nanos = nanos.saturating_add(whole / 2) / whole;
        Usd::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Usage {
    /// Returns the cost of an answer that ends now: the provider's [own figure](Self::cost), or else by this price of
    /// its model at this [hour](Price::off_peak).
    pub fn cost_at(&self, price: Option<&Price>) -> Option<Usd> {
        self.cost.or_else(|| Some(price?.cost_now(self)))
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
    batch: Option<f64>,
    flex: Option<f64>,
    fast: Option<f64>,
    #[serde(default)]
    whole_cache_price: bool,
    off_peak: Option<FileOffPeak>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOffPeak {
    share: f64,
    peak: Vec<Box<str>>,
    #[serde(default)]
    weekend: bool,
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
        let mut price = match &self.long_context {
            None => price,
            Some(long) => {
                price.long_context(long.above, read(long.input, long.output, long.cache_read, long.cache_write)?)
            }
        };
        let shares = [(ServiceTier::Batch, self.batch), (ServiceTier::Flex, self.flex), (ServiceTier::Fast, self.fast)];
        for (tier, share) in shares.into_iter().filter_map(|(tier, share)| Some((tier, share?))) {
            price = price.in_service_tier(tier, share)?;
        }
        if self.whole_cache_price {
            price = price.whole_cache_price();
        }
        let Some(FileOffPeak { share, peak, weekend }) = &self.off_peak else { return Ok(price) };
        price.off_peak(*share, peak.iter().map(|span| &**span), *weekend)
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
    fn a_service_tier_and_an_hour_have_their_shares_of_the_price() {
        let price = Price::dollars(2.0, 8.0).unwrap().long_context(100, Price::dollars(4.0, 8.0).unwrap());
        let price = price.in_service_tier(ServiceTier::Batch, 0.5).unwrap();
        let price = price.in_service_tier(ServiceTier::Fast, 2.5).unwrap();
        let cost = |price: &Price, tier| {
            let mut usage = Usage::new(1_000_000, 1_000_000);
            usage.service_tier = tier;
            (price.cost(&usage), usage.cost_at(Some(price)).unwrap())
        };
        let both = |dollars: f64| (usd(dollars), usd(dollars));
        assert_eq!(cost(&price, ServiceTier::Standard), both(12.0));
        assert_eq!(cost(&price, ServiceTier::Batch), both(6.0));
        assert_eq!(cost(&price, ServiceTier::Flex), both(12.0), "no price of its own");
        assert_eq!(cost(&price, ServiceTier::Fast), both(30.0));
        let mut cached = Usage::new(1_000_000, 0);
        (cached.cache_read, cached.service_tier) = (500_000, ServiceTier::Batch);
        assert_eq!(price.cost(&cached), usd(2.0));
        assert_eq!(price.whole_cache_price().cost(&cached), usd(3.0));
        cached.service_tier = ServiceTier::Fast;
        assert_eq!(price.whole_cache_price().cost(&cached), usd(10.0), "a dearer tier is dearer for all");
        // Never a peak: what an answer costs is less than what is reserved for it.
        let price = price.off_peak(0.5, [], true).unwrap();
        assert_eq!(cost(&price, ServiceTier::Batch), (usd(6.0), usd(3.0)));
        assert!(price.in_service_tier(ServiceTier::Flex, -1.0).is_err());
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
