use super::Findings;
use crate::{Config, Hedge, HedgeSettings, Tier};

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
    hedge.check(findings);
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
