use super::Findings;
use crate::{Config, Hedge, HedgeAfter, HedgeSettings, Tier};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    if let Some(Hedge::On(own)) = &config.hedge {
        findings.within("hedge", |findings| settings(own, config, findings));
    }
}

pub(super) fn tier(tier: &Tier, config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(Hedge::On(own)) = &tier.hedge else { return };
    if !tier.provider.is_model() {
        findings.wrong_key("hedge", format!("a {} tier is never late; remove `hedge`", tier.provider.name()));
        return;
    }
    findings.within("hedge", |findings| settings(own, config, findings));
}

fn settings(hedge: &HedgeSettings, config: &Config, findings: &mut Findings<'_, '_>) {
    if let Some(HedgeAfter::Fixed(span)) = hedge.after
        && span.0.is_zero()
    {
        findings.wrong_here("a delay of zero would double every call; give a time, or a percentile such as p95");
    }
    if hedge.extra.is_some_and(|extra| extra.0 == 0.0) {
        findings.wrong("extra", "an `extra` of 0 allows no second call; write `hedge: off` instead");
    }
    let Some(to) = &hedge.to else { return };
    if !findings.is_tier("to", to, config) {
        return;
    }
    if let Some(other) = config.tiers.iter().find(|tier| tier.name == *to && !tier.provider.is_model()) {
        let message =
            format!("`{to}` is a {} tier and would win every race; name a tier with a model", other.provider.name());
        findings.wrong("to", message);
    }
}
