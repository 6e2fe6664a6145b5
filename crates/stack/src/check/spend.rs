use std::collections::HashSet;

use super::Findings;
use crate::{AtCap, Budget, Config, LongContextPrice, ModelPrice, Tier, suggest::nearest};
use steadfast::prices::Price;

pub(super) fn check(config: &Config, priced: &dyn Fn(&str, &str) -> bool, findings: &mut Findings<'_, '_>) {
    findings.within("routes", |findings| {
        findings.names("route", config.routes.iter().map(|route| route.name.as_str()));
        for (at, route) in config.routes.iter().enumerate() {
            findings.within(at, |findings| {
                findings.chain("tiers", &route.tiers, config);
                if route.when.features.as_ref().is_some_and(Vec::is_empty) {
                    findings.within("when", |findings| {
                        findings.wrong(
                            "features",
                            "the list is empty, so no request matches; leave it out for all features",
                        );
                    });
                }
            });
        }
    });
    findings.within("prices", |findings| {
        for (model, price) in &config.prices {
            findings.within(model, |findings| {
                let ModelPrice { input, output, cache_read, cache_write, long_context, .. } = *price;
                rates([input, output], cache_read, cache_write, findings);
                if let Some(LongContextPrice { above, input, output, cache_read, cache_write }) = long_context {
                    findings.within("long_context", |findings| {
                        findings.at_least_one("above", Some(above), "");
                        rates([input, output], cache_read, cache_write, findings);
                    });
                }
                for (field, tier, share) in price.service_tiers() {
                    if Price::free().in_service_tier(tier, share).is_err() {
                        findings.wrong(field, "give a share of the price, such as 0.5 for half");
                    }
                }
                if let Some(Err(error)) = price.off_peak.as_ref().map(|hours| hours.of(Price::free())) {
                    findings.within("off_peak", |findings| findings.wrong(error.field(), error.problem().to_owned()));
                }
            });
        }
    });
    findings.within("budgets", |findings| {
        findings.names("budget", config.budgets.iter().map(|budget| budget.name.as_str()));
        for (at, own) in config.budgets.iter().enumerate() {
            findings.within(at, |findings| budget(own, config, priced, findings));
        }
    });
}

fn rates(
    [input, output]: [f64; 2],
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    findings: &mut Findings<'_, '_>,
) {
    findings.not_negative("input", input);
    findings.not_negative("output", output);
    findings.not_negative("cache_read", cache_read.unwrap_or(0.0));
    findings.not_negative("cache_write", cache_write.unwrap_or(0.0));
}

fn budget(budget: &Budget, config: &Config, priced: &dyn Fn(&str, &str) -> bool, findings: &mut Findings<'_, '_>) {
    findings.not_negative("usd", budget.usd);
    if budget.each_key && budget.key.is_some() {
        findings.wrong_key("each_key", "set either `key` or `each_key`, not both");
    }
    if let AtCap::StepDown(level) = budget.at_cap {
        findings.within("at_cap", |findings| {
            if !(2..=5).contains(&level) {
                findings.wrong("step_down", "`step_down` must be a level from 2 to 5");
            } else if !config.tiers.iter().any(|tier| tier.service_level() >= level) {
                findings
                    .wrong("step_down", format!("no tier has level {level} or a lower service; give one a `level`"));
            }
        });
    }
    findings.within("warn_at", |findings| {
        for (at, share) in budget.warn_at.iter().flatten().enumerate() {
            if share.0 <= 0.0 {
                findings.wrong(at, "every budget has used up a share of 0; give a share above 0");
            }
        }
    });
    if let Some(tier) = &budget.tier
        && config.all_tiers().all(|own| own.name != *tier)
        && !findings.is_tier("tier", tier, config)
    {
        return;
    }
    let mut known = HashSet::new();
    let doors = config.model_doors().unwrap_or_default();
    let is_priced = |provider: &str, model: &str| {
        let has_price = |model: &str| config.prices.contains_key(model) || priced(provider, model);
        has_price(model) || doors.model(model).is_some_and(has_price)
    };
    let models: Vec<&str> = config
        .all_tiers()
        .filter(|tier| counts(budget, tier, config) && !tier.provider.is_local())
        .filter_map(|tier| Some((tier.provider.name(), tier.model.as_deref()?)))
        .filter(|(provider, model)| !is_priced(provider, model))
        .filter_map(|(_, model)| known.insert(model).then_some(model))
        .collect();
    let [first, ..] = models[..] else { return };
    let names: Vec<String> = models.iter().map(|model| format!("`{model}`")).collect();
    let message = format!(
        "the budget `{}` counts models without a price: {}; add them under `prices`",
        budget.name,
        names.join(", ")
    );
    let right = nearest(first, config.prices.keys().map(String::as_str));
    // The price may exist under another name.
    match right {
        Some(right) => findings.wrong_here(format!("{message} (there is one for `{right}`)")),
        None => findings.wrong_here(message),
    }
}

/// Returns whether a budget may count this tier's cost.
fn counts(budget: &Budget, tier: &Tier, config: &Config) -> bool {
    if let Some(only) = &budget.tier {
        return *only == tier.name;
    }
    if config.tiers.iter().all(|other| other.name != tier.name) {
        // A feature's chain is of conversations: its calls of the lane go to any tier there.
        return true;
    }
    let feature = budget.feature.as_ref().and_then(|feature| config.features.get(feature));
    feature.and_then(|feature| feature.tiers.as_ref()).is_none_or(|chain| chain.contains(&tier.name))
}
