use super::Findings;
use crate::{Config, Feature, FeatureCache, Likeness, Provider, Similar, Size, Span, Tier};
use steadfast::CacheHandle;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(cache) = &config.cache else { return };
    findings.within("cache", |findings| {
        let nothing = |span: Option<Span>| span.is_some_and(|span| span.0.is_zero());
        if nothing(cache.ttl) && nothing(cache.stale_for) {
            findings.wrong(
                "stale_for",
                "a `ttl` and a `stale_for` of zero keep no answers; raise one, or leave `cache` out",
            );
        }
        findings.at_least_one("max_bytes", cache.max_bytes.map(|size| size.0), "; leave `cache` out to keep nothing");
        findings.at_least_one("max_answer", cache.max_answer.map(|size| size.0), "; leave `cache` out to keep nothing");
        let room = cache.max_bytes.unwrap_or(Size(CacheHandle::MAX_BYTES));
        if cache.max_answer.is_some_and(|answer| answer > room) {
            findings.wrong("max_answer", "`max_answer` exceeds `max_bytes`; lower it, or raise `max_bytes`");
        }
        if let Some(hottest) = cache.max_temperature {
            findings.not_negative("max_temperature", hottest);
        }
    });
}

pub(super) fn feature(feature: &Feature, config: &Config, findings: &mut Findings<'_, '_>) {
    if config.cache.is_none() && matches!(feature.cache, Some(FeatureCache::On(true) | FeatureCache::Ttl(_))) {
        findings.wrong("cache", "there is no `cache` block: add one, such as `cache: { ttl: 5m }`");
    }
}

pub(super) fn tier(tier: &Tier, config: &Config, findings: &mut Findings<'_, '_>) {
    if tier.provider != Provider::Cached {
        if tier.similar.is_some() {
            findings.wrong_key("similar", "only a tier with the provider `cached` has these settings");
        }
        return;
    }
    if config.cache.is_none() {
        let message = "a cached tier needs the cache, and there is no `cache` block: add one, such as \
                       `cache: { ttl: 5m, stale_for: 1d }`";
        findings.wrong("provider", message);
    }
    if let Some(own) = &tier.similar {
        findings.within("similar", |findings| similar(own, findings));
    }
}

fn similar(similar: &Similar, findings: &mut Findings<'_, '_>) {
    if let Some(threshold) = similar.threshold.filter(|threshold| !(*threshold > 0.0 && *threshold <= 1.0)) {
        findings.wrong("threshold", format!("`threshold` must be above 0 and at most 1, not {threshold}"));
    }
    findings.at_least_one("remember", similar.remember.map(u64::from), "; leave `similar` out to give only the same's");
    match similar.method {
        Likeness::Embeddings => {
            if similar.model.as_ref().is_none_or(|model| model.trim().is_empty()) {
                findings.wrong_here("`model` is missing here; name the embedding model");
            }
            if let Some(url) = &similar.base_url {
                findings.http_url("base_url", url);
            }
        }
        Likeness::Words => {
            let given = [
                ("base_url", similar.base_url.is_some()),
                ("model", similar.model.is_some()),
                ("api_key", similar.api_key.is_some()),
            ];
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                findings
                    .wrong_key(key, "the method `words` uses no model; remove this key, or set `method: embeddings`");
            }
        }
    }
}
