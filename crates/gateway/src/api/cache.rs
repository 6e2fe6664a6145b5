//! The cache's headers: requests for a new answer, and the outcome of a lookup.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};
use steadfast::{CacheOrigin, CacheReason, LlmResponse, layers::cache::CacheControl};

/// Returns the caller's instruction to the cache, in HTTP's own words (`Cache-Control`, RFC 9111) or in those of other
/// gateways. A caller can only ask for a new answer; the configuration decides what is kept, and for how long.
pub(crate) fn requested(headers: &HeaderMap) -> Option<CacheControl> {
    let said = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut requested = None;
    for directive in said.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase()) {
        match &*directive {
            "no-store" => return Some(CacheControl::NoStore),
            "no-cache" | "max-age=0" => requested = Some(CacheControl::NoCache),
            _ => {}
        }
    }
    let says = |name: &str, word: &str| {
        headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()))
    };
    if says("cf-aig-skip-cache", "true") || says("helicone-cache-enabled", "false") {
        return Some(CacheControl::NoStore);
    }
    if says("x-portkey-cache-force-refresh", "true") { Some(CacheControl::NoCache) } else { requested }
}

/// Ask for a new answer in place of a kept one: `no-cache`, `no-store`, or the words of other gateways.
#[cfg(test)]
pub(crate) const NAMES: [&str; 4] =
    ["cache-control", "cf-aig-skip-cache", "helicone-cache-enabled", "x-portkey-cache-force-refresh"];

/// The cache's part in an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CacheOutcome {
    /// The cache had no answer, and the gateway called a model.
    Miss,
    /// The request bypassed the cache.
    Bypass,
    /// The answer was made for an earlier request.
    Hit(CacheOrigin),
}

impl CacheOutcome {
    /// Returns the outcome for a response. Without a cache (`has_cache`), only a repeated idempotency key has one.
    pub(crate) fn of(response: &LlmResponse, has_cache: bool) -> Option<Self> {
        match response.cached() {
            Some(cached) => (has_cache || cached.reason == CacheReason::Replayed).then_some(Self::Hit(cached)),
            None if response.is_cache_miss() => Some(Self::Miss),
            None => has_cache.then_some(Self::Bypass),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Hit(CacheOrigin { reason, .. }) => match reason {
                CacheReason::Fresh => "hit",
                why => why.name(),
            },
        }
    }

    fn hit(self) -> Option<(Duration, Option<f32>)> {
        let Self::Hit(CacheOrigin { reason, age, .. }) = self else { return None };
        Some((age, if let CacheReason::Similar { similarity } = reason { Some(similarity) } else { None }))
    }

    /// Writes the outcome into headers.
    pub(crate) fn write_headers(self, headers: &mut HeaderMap) {
        if self.name() == CacheReason::Replayed.name() {
            // The idempotency layer gave this answer, not the cache.
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            return;
        }
        headers.insert(CACHE, HeaderValue::from_static(self.name()));
        let Some((age, similarity)) = self.hit() else { return };
        headers.insert(header::AGE, age.as_secs().into());
        if let Some(similarity) = similarity.and_then(|likeness| HeaderValue::try_from(format!("{likeness:.2}")).ok()) {
            headers.insert(SIMILARITY, similarity);
        }
    }

    /// Returns the outcome for a decision record.
    pub(crate) fn json(self) -> Value {
        let (age, similarity) = self.hit().unzip();
        json!({ "result": self.name(), "age_s": age.map(|age| age.as_secs()), "similarity": similarity.flatten() })
    }
}

/// The cache's part in the answer: `hit`, `similar`, `stale`, `shared`, `miss`, `bypass`. An answer of the cache has
/// its age in `age`.
const CACHE: HeaderName = HeaderName::from_static("x-steadfast-cache");
/// The likeness of the question for which a similar answer was made, up to 1.
const SIMILARITY: HeaderName = HeaderName::from_static("x-steadfast-similarity");
/// `true` for the answer of an earlier request with the same idempotency key, in the words of other services.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&'static str, &'static str)]) -> Option<CacheControl> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        requested(&headers)
    }

    #[test]
    fn a_new_answer_is_asked_for_in_the_words_of_http_and_of_others() {
        use CacheControl::{NoCache, NoStore};

        for (name, value, control) in [
            ("cache-control", "no-cache", Some(NoCache)),
            ("cache-control", "No-Cache, max-age=60", Some(NoCache)),
            ("cache-control", "max-age=0", Some(NoCache)),
            ("cache-control", "no-cache,no-store", Some(NoStore)),
            ("cache-control", "max-age=600", None),
            ("cache-control", "no-transform, max-stale", None),
            ("cache-control", "", None),
            ("cf-aig-skip-cache", "true", Some(NoStore)),
            ("cf-aig-skip-cache", "false", None),
            ("helicone-cache-enabled", "false", Some(NoStore)),
            ("helicone-cache-enabled", "true", None),
            ("x-portkey-cache-force-refresh", "True", Some(NoCache)),
        ] {
            assert_eq!(said(&[(name, value)]), control, "{name}: {value}");
            assert!(NAMES.contains(&name));
        }
        assert_eq!(said(&[("cache-control", "no-cache"), ("cache-control", "no-store")]), Some(NoStore));
    }
}
