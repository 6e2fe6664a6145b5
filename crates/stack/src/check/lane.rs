use super::Findings;
use crate::{CallKind, Config, Provider, Tier, TierApi, vector_spaces::VectorSpace};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    findings.within("tiers", |findings| {
        for (at, tier) in config.tiers.iter().enumerate() {
            findings.within(at, |findings| only_in_lane(tier, findings));
        }
    });
    let Some(lane) = &config.lane else { return };
    findings.within("lane", |findings| {
        if lane.tiers.is_empty() {
            findings.wrong("tiers", "the lane has no tiers; name at least one model under `lane.tiers`");
        }
        findings.within("tiers", |findings| {
            findings.names("tier", lane.tiers.iter().map(|tier| tier.name.as_str()));
            for (at, own) in lane.tiers.iter().enumerate() {
                findings.within(at, |findings| {
                    if config.tiers.iter().any(|other| other.name == own.name) {
                        let message = format!("two tiers are named `{}`; give each a name of its own", own.name);
                        findings.wrong("name", message);
                    }
                    super::tiers::tier(own, findings);
                    tier(own, findings);
                });
            }
        });
    });
}

/// Refuses the settings of the lane at a tier of conversations.
fn only_in_lane(tier: &Tier, findings: &mut Findings<'_, '_>) {
    let set = [
        ("space", tier.space.is_some()),
        ("serves", tier.serves.is_some()),
        ("interchangeable", tier.interchangeable.is_some()),
    ];
    for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        findings
            .wrong_key(key, format!("only a tier under `lane.tiers` has `{key}`; move the tier there, or remove it"));
    }
}

fn tier(tier: &Tier, findings: &mut Findings<'_, '_>) {
    use Provider::{Anthropic, Gemini, OpenAi, Simulated};
    if !matches!(tier.provider, OpenAi | Gemini | Anthropic | Simulated) {
        let message = "a tier of the lane calls a provider's API: `openai` (or a server like it), `gemini`, `anthropic` \
                       or `simulated`";
        findings.wrong("provider", message);
    }
    if tier.api == Some(TierApi::Responses) {
        findings.wrong("api", "a tier of the lane has no `api: responses`; remove it");
    }
    if tier.serves.as_ref().is_some_and(Vec::is_empty) {
        findings
            .wrong("serves", "the list is empty, so the tier serves nothing; leave it out for what its model is for");
    }
    if let Some(space) = &tier.space {
        if let Err(problem) = VectorSpace::of_name(space) {
            findings.wrong("space", problem);
        }
    } else if tier.serves_kind(CallKind::Embeddings) == Some(true)
        && let Some(model) = tier.model.as_deref()
        && VectorSpace::of_model(model).is_none()
    {
        let message = format!(
            "the vector space of the model `{model}` is not known; add `space: {model}/N`, where N is its number of dimensions"
        );
        findings.wrong_here(message);
    }
}
