use super::{Findings, tiers};
use crate::{Candidate, Config, Mirror, Provider, Tier, suggest::nearest};

pub(super) fn check(config: &Config, priced: &dyn Fn(&str, &str) -> bool, findings: &mut Findings<'_, '_>) {
    let Some(mirror) = &config.mirror else { return };
    findings.within("mirror", |findings| {
        match &mirror.to {
            Candidate::Name(name) => _ = findings.is_tier("to", name, config),
            Candidate::Tier(own) => findings.within("to", |findings| candidate(own, config, findings)),
        }
        if let Some(Provider::Cached | Provider::Handoff) = config.candidate().map(|tier| tier.provider) {
            findings.wrong("to", Candidate::NO_MODEL);
        }
        if mirror.features.as_ref().is_some_and(Vec::is_empty) {
            findings.wrong("features", "the list is empty, so no request matches; leave it out for all features");
        }
        findings.at_least_one("max_in_flight", mirror.max_in_flight.map(|most| most as u64), "; `share: 0` is off");
        findings.nonzero_time("timeout", mirror.timeout);
        cap(mirror, config, priced, findings);
    });
}

fn candidate(own: &Tier, config: &Config, findings: &mut Findings<'_, '_>) {
    if own.name.trim().is_empty() {
        findings.wrong("name", "a candidate needs a name");
    } else if config.tiers.iter().any(|tier| tier.name == own.name) {
        let name = &own.name;
        findings
            .wrong("name", format!("a tier is named `{name}`: write `to: {name}`, or give the candidate another name"));
    }
    let of_those_that_serve = [
        ("hedge", own.hedge.is_some()),
        ("last_resort", own.last_resort),
        ("level", own.level.is_some()),
        ("min_useful", own.min_useful.is_some()),
        ("similar", own.similar.is_some()),
    ];
    for (key, _) in of_those_that_serve.into_iter().filter(|(_, given)| *given) {
        findings.wrong_key(key, format!("a candidate serves no callers; remove `{key}`"));
    }
    tiers::tier(own, findings);
}

fn cap(mirror: &Mirror, config: &Config, priced: &dyn Fn(&str, &str) -> bool, findings: &mut Findings<'_, '_>) {
    let Some(usd) = mirror.usd_per_day else { return };
    findings.not_negative("usd_per_day", usd);
    if config.budgets.iter().any(|budget| budget.name == "mirror") {
        findings.wrong_key(
            "usd_per_day",
            "the mirror's cap is named `mirror`, and so is one of the `budgets`: rename the budget",
        );
    }
    let Some(tier) = config.candidate().filter(|tier| !tier.provider.is_local()) else { return };
    let Some(model) = &tier.model else { return };
    if config.prices.contains_key(model) || priced(tier.provider.name(), model) {
        return;
    }
    let right = nearest(model, config.prices.keys().map(String::as_str));
    let beside = right.map(|right| format!(" (there is one for `{right}`)")).unwrap_or_default();
    let message = format!("the cap counts a model without a price: `{model}`; add it under `prices`{beside}");
    findings.wrong("usd_per_day", message);
}
