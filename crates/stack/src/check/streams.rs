//! Checks what becomes of a broken stream.

use super::Findings;
use crate::{Config, Feature, GoesOnBy, Stream, StreamBreak};
use steadfast::models::FamilyTable;

const NOBODY: &str = "no tier goes on with an answer that broke: set `prefill: true` at a tier whose model continues a last \
                      turn of the assistant's, or `continue: { by: prompt }` here";

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let families = config.family_table().unwrap_or_else(|_| FamilyTable::builtin());
    let goes_on = |feature: Option<&Feature>| {
        let may = |name: &String| feature.and_then(|it| it.tiers.as_ref()).is_none_or(|tiers| tiers.contains(name));
        config.tiers.iter().any(|tier| may(&tier.name) && tier.goes_on(&families))
    };
    let asks = |stream: &Stream| stream.on_break == Some(StreamBreak::Continue);
    let is_told = |stream: &Stream| {
        stream.going_on.or(config.stream.going_on).is_some_and(|going_on| going_on.by == GoesOnBy::Prompt)
    };
    let stream = |stream: &Stream, feature: Option<&Feature>, findings: &mut Findings<'_, '_>| {
        if asks(stream) && !is_told(stream) && !goes_on(feature) {
            findings.within("stream", |findings| findings.wrong("on_break", NOBODY));
        }
    };
    stream(&config.stream, None, findings);
    findings.within("features", |findings| {
        for (name, feature) in &config.features {
            findings.within(name, |findings| stream(&feature.stream, Some(feature), findings));
        }
    });
    if let Some(feature) = &config.default_feature {
        findings.within("default_feature", |findings| stream(&feature.stream, Some(feature), findings));
    }
}
