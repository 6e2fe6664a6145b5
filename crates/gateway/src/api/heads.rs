//! The headers of a provider's answer that pass.

use http::{HeaderMap, HeaderName};

use super::request_options::is_of_account;

/// The capacity of a response's headers.
pub(super) const HEADER_CAPACITY: usize = 12;

/// Copies the provider's headers that a caller of its dialect relies on.
pub(super) fn copy_headers(from: Option<&HeaderMap>, to: &mut HeaderMap) {
    let Some(from) = from else { return };
    for (name, value) in from {
        if is_passed(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

fn is_passed(name: &HeaderName) -> bool {
    const NAMES: [&str; 7] =
        ["request-id", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "x-generation-id", "cf-ray"];
    const FAMILIES: [&str; 5] = ["anthropic-", "openai-", "x-ratelimit-", "x-groq-", "x-gemini-"];
    // Headers that name the operator's account are not for callers.
    let name = name.as_str();
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family)) && !is_of_account(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn whose_account_pays_is_not_told_to_callers() {
        let sent = [
            ("request-id", true),
            ("x-request-id", true),
            ("anthropic-ratelimit-requests-remaining", true),
            ("openai-processing-ms", true),
            ("openai-organization", false),
            ("openai-project", false),
            ("anthropic-organization-id", false),
            ("anthropic-workspace-id", false),
            ("openai-account", false),
            ("x-ratelimit-remaining-tokens", true),
            ("x-groq-region", true),
            ("set-cookie", false),
        ];
        let from: HeaderMap =
            sent.iter().map(|(name, _)| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        let mut to = HeaderMap::new();
        copy_headers(Some(&from), &mut to);
        for (name, passes) in sent {
            assert_eq!(to.contains_key(name), passes, "{name}");
        }
    }
}
