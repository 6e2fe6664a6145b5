//! Prices and spending caps.

use std::collections::HashSet;

use crate::{self as config, AtCap, Config, LongContextPrice, ModelPrice, Tier};
use steadfast::{
    BudgetHandle, BudgetLayer, Events, InvalidConfig,
    chat::Usage,
    layers::budget::{self, Cap, Period},
    prices::{Price, PriceTable, Usd},
};

/// Returns the crate's prices with the file's over them.
pub(crate) fn prices(config: &Config) -> Result<PriceTable, InvalidConfig> {
    let table = config.prices.iter().try_fold(PriceTable::builtin(), |table, (model, own)| {
        let ModelPrice { input, output, cache_read, cache_write, long_context, .. } = *own;
        let place = format!("prices.{model}");
        let mut price = written_price(&place, [input, output], cache_read, cache_write)?;
        if let Some(LongContextPrice { above, input, output, cache_read, cache_write }) = long_context {
            let long = written_price(&format!("{place}.long_context"), [input, output], cache_read, cache_write)?;
            price = price.long_context(above, long);
        }
        for (_, tier, share) in own.service_tiers() {
            price = price.in_service_tier(tier, share)?;
        }
        if own.whole_cache_price {
            price = price.whole_cache_price();
        }
        if let Some(off_peak) = &own.off_peak {
            price = off_peak.of(price)?;
        }
        Ok(table.with(model.as_str(), price))
    })?;
    // The ids of the file's own models cost what the model costs.
    let ids = config.same_model.iter().flat_map(|(model, ids)| ids.all().map(move |id| (model, id)));
    Ok(ids.fold(table, |table, (model, id)| match table.price(None, model).copied() {
        Some(price) if table.price(None, &id).is_none() => table.with(id, price),
        _ => table,
    }))
}

fn written_price(
    place: &str,
    [input, output]: [f64; 2],
    cache_read: Option<f64>,
    cache_write: Option<f64>,
) -> Result<Price, InvalidConfig> {
    let wrong =
        |error: &InvalidConfig| InvalidConfig::new(format!("{place}.{}", error.field()), error.problem().to_owned());
    let mut price = Price::dollars(input, output).map_err(|error| wrong(&error))?;
    if let Some(dollars) = cache_read {
        price = price.cache_read(dollars_of(&format!("{place}.cache_read"), dollars)?);
    }
    if let Some(dollars) = cache_write {
        price = price.cache_write(dollars_of(&format!("{place}.cache_write"), dollars)?);
    }
    Ok(price)
}

fn dollars_of(field: &str, dollars: f64) -> Result<Usd, InvalidConfig> {
    Usd::from_dollars(dollars)
        .ok_or_else(|| InvalidConfig::new(field.to_owned(), format!("{dollars} is not a valid amount of money")))
}

/// The caps of a configuration.
pub(crate) struct Caps {
    /// The caps of each tier, in the tiers' order: those of the lane come last.
    pub(crate) tiers: Vec<Option<BudgetLayer>>,
    /// The caps around the whole stack.
    pub(crate) all: Option<BudgetLayer>,
}

impl Caps {
    /// Checks all caps, including those beside the configuration.
    ///
    /// # Errors
    ///
    /// An amount is invalid, a name refers to no tier, two caps share a name, or a capped model has no price.
    pub(crate) fn new(
        config: &Config,
        beside: &[config::Budget],
        prices: &PriceTable,
        events: &Events,
    ) -> Result<Self, InvalidConfig> {
        let own = config.all_tiers().map(|tier| tier_budget(config, tier, prices, events));
        Ok(Self { tiers: own.collect::<Result<_, _>>()?, all: budget(config, beside, prices, events)? })
    }

    /// Continues with the amounts of earlier caps, by the tier's name.
    pub(crate) fn continue_from<'a>(
        &mut self,
        config: &Config,
        spend: impl Fn(Option<&str>) -> Option<&'a BudgetHandle>,
    ) {
        for (tier, caps) in names(config).zip(self.tiers.iter_mut().chain([&mut self.all])) {
            if let Some(known) = spend(tier) {
                *caps = caps.take().map(|caps| caps.state(known));
            }
        }
    }

    /// Returns the handles of all caps by the tier's name; `None` for those around the whole stack.
    pub(crate) fn handles(&self, config: &Config) -> Vec<(Option<String>, BudgetHandle)> {
        let caps = names(config).zip(self.tiers.iter().chain([&self.all]));
        caps.filter_map(|(tier, caps)| Some((tier.map(str::to_owned), caps.as_ref()?.handle()))).collect()
    }
}

/// Returns the tiers' names, and then `None` for the whole stack.
fn names(config: &Config) -> impl Iterator<Item = Option<&str>> {
    config.all_tiers().map(|tier| Some(tier.name.as_str())).chain([None])
}

/// Returns the layer of caps around the whole stack, including those beside the configuration. It also puts prices on
/// answers. `None` if there are only the crate's own prices.
fn budget(
    config: &Config,
    beside: &[config::Budget],
    prices: &PriceTable,
    events: &Events,
) -> Result<Option<BudgetLayer>, InvalidConfig> {
    let mut caps = caps(config, None)?;
    let mut names: HashSet<&str> = config.budgets.iter().map(|budget| &*budget.name).collect();
    let worst = config.tiers.iter().map(Tier::service_level).max();
    for budget in beside {
        if !names.insert(&budget.name) {
            return Err(InvalidConfig::new("budgets", format!("two budgets are named `{}`", budget.name)));
        }
        if let AtCap::StepDown(level) = budget.at_cap
            && worst.is_none_or(|worst| worst < level)
        {
            let problem = format!("no tier has level {level} or a lower service");
            return Err(InvalidConfig::new(format!("budgets.{}.at_cap.step_down", budget.name), problem));
        }
        caps.push(cap(budget)?);
    }
    if caps.is_empty() && config.prices.is_empty() {
        return Ok(None);
    }
    let mut layer = caps.into_iter().fold(BudgetLayer::new(prices.clone()), BudgetLayer::cap).events(events.clone());
    // The serving tier is unknown at this point, so the layer reserves the cost at the most expensive one.
    let priced = config.tiers.iter().filter_map(|tier| Some((tier, price_of(prices, tier)?)));
    if let Some((tier, _)) = priced.max_by_key(|(_, price)| price.cost(&Usage::new(1000, 1000))) {
        layer = layer.model(Some(tier.provider.name()), tier.model.as_deref().unwrap_or_default());
    }
    layer.checked().map(Some)
}

/// Returns the caps around one tier.
fn tier_budget(
    config: &Config,
    tier: &Tier,
    prices: &PriceTable,
    events: &Events,
) -> Result<Option<BudgetLayer>, InvalidConfig> {
    let caps = caps(config, Some(&tier.name))?;
    if caps.is_empty() { Ok(None) } else { capped(caps, tier, prices, events).map(Some) }
}

/// Returns the cap of a candidate.
pub(crate) fn candidate_budget(
    usd_per_day: Option<f64>,
    tier: &Tier,
    prices: &PriceTable,
    events: &Events,
) -> Result<Option<BudgetLayer>, InvalidConfig> {
    let Some(usd) = usd_per_day else { return Ok(None) };
    let cap = Cap::new("mirror", dollars_of("mirror.usd_per_day", usd)?, Period::Day);
    capped(vec![cap], tier, prices, events).map(Some)
}

/// Puts caps around one tier.
fn capped(caps: Vec<Cap>, tier: &Tier, prices: &PriceTable, events: &Events) -> Result<BudgetLayer, InvalidConfig> {
    let layer = caps.into_iter().fold(BudgetLayer::new(prices.clone()), BudgetLayer::cap).events(events.clone());
    match &tier.model {
        Some(model) if is_billed(tier) || price_of(prices, tier).is_some() => {
            layer.model(Some(tier.provider.name()), model).checked()
        }
        _ => Ok(layer),
    }
}

/// Returns whether calls to a tier cost money.
fn is_billed(tier: &Tier) -> bool {
    !tier.provider.is_local()
}

pub(crate) fn price_of<'a>(prices: &'a PriceTable, tier: &Tier) -> Option<&'a Price> {
    prices.price(Some(tier.provider.name()), tier.model.as_deref()?)
}

/// Returns the caps of a tier, or those of no tier.
fn caps(config: &Config, tier: Option<&str>) -> Result<Vec<Cap>, InvalidConfig> {
    for budget in &config.budgets {
        if let Some(name) = &budget.tier
            && config.all_tiers().all(|tier| tier.name != *name)
        {
            let problem = format!("no tier is named `{name}`");
            return Err(InvalidConfig::new(format!("budgets.{}.tier", budget.name), problem));
        }
    }
    config.budgets.iter().filter(|budget| budget.tier.as_deref() == tier).map(cap).collect()
}

fn cap(budget: &config::Budget) -> Result<Cap, InvalidConfig> {
    let period = match budget.period {
        config::Period::Hour => Period::Hour,
        config::Period::Day => Period::Day,
        config::Period::Week => Period::Week,
        config::Period::Month => Period::Month,
    };
    let usd = dollars_of(&format!("budgets.{}.usd", budget.name), budget.usd)?;
    let mut cap = Cap::new(budget.name.as_str(), usd, period).at_cap(match budget.at_cap {
        AtCap::Warn => budget::AtCap::Warn,
        AtCap::StepDown(level) => budget::AtCap::StepDown(level),
        AtCap::Refuse => budget::AtCap::Refuse,
    });
    if let Some(feature) = &budget.feature {
        cap = cap.feature(feature.as_str());
    }
    if let Some(key) = &budget.key {
        cap = cap.key(key.as_str());
    }
    if let Some(team) = &budget.team {
        cap = cap.team(team.as_str());
    }
    if let Some(group) = &budget.among {
        cap = cap.among(group.clone());
    }
    if budget.each_key {
        cap = cap.each_key();
    }
    if let Some(shares) = &budget.warn_at {
        // The cast saturates a float that is out of range.
        cap = cap.warn_at(shares.iter().map(|share| (share.0 * 100.0).round() as u8));
    }
    Ok(cap)
}
