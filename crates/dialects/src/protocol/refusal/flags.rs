//! Flags of the header `anthropic-beta` that a server refuses.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Chooser, Refusal, complaint};
use crate::{error::OmittedParameter, protocol::ErrorBody};

pub(crate) const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// The begin of a flag's path.
const FLAG: &str = "anthropic-beta: ";

/// Returns the flag of a path, if it is one's.
pub(crate) fn flag(path: &str) -> Option<&str> {
    path.strip_prefix(FLAG)
}

/// The bytes of a message that are searched.
const BEGIN: usize = 400;

/// Returns the flags of a request that an error names. An error that calls a flag invalid and names none may be about
/// each of them.
pub(super) fn named(facts: &ErrorBody, headers: &HeaderMap) -> Vec<Refusal> {
    if !headers.contains_key(&ANTHROPIC_BETA) {
        return Vec::new();
    }
    let sent: Vec<&str> = values(headers).collect();
    for layer in facts.layers() {
        let message = complaint::begin(&layer.message, BEGIN);
        let is_meant = ["anthropic-beta", "anthropic_beta", "beta flag", "beta header", "beta feature", " beta"];
        if !is_meant.iter().any(|words| message.contains(words)) {
            continue;
        }
        let is_mark = |letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'));
        let names = |flag: &str| message.split(is_mark).any(|word| word.trim_end_matches('.') == flag);
        let named: Vec<&str> = sent.iter().copied().filter(|flag| names(flag)).collect();
        let lasting = !named.is_empty();
        let is_invalid = message.to_ascii_lowercase().contains("invalid beta flag");
        let refused = if lasting {
            named
        } else if is_invalid {
            sent.clone()
        } else {
            continue;
        };
        let refused = refused.into_iter().filter(|flag| flag.len() <= super::LONGEST_NAME);
        return refused
            .map(|flag| Refusal {
                parameter: OmittedParameter { path: format!("{FLAG}{flag}").into(), lasting },
                is_unsupported: true,
                chooser: Chooser::Dialect,
            })
            .collect();
    }
    Vec::new()
}

/// Removes a flag. Returns true if it was there.
pub(crate) fn remove(headers: &mut HeaderMap, flag: &str) -> bool {
    if !values(headers).any(|sent| sent == flag) {
        return false;
    }
    let kept: Vec<&str> = values(headers).filter(|sent| *sent != flag).collect();
    // They were a header's before.
    match HeaderValue::from_str(&kept.join(",")) {
        Ok(value) if !value.is_empty() => _ = headers.insert(ANTHROPIC_BETA, value),
        _ => _ = headers.remove(&ANTHROPIC_BETA),
    }
    true
}

fn values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(&ANTHROPIC_BETA).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|flag| !flag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(ANTHROPIC_BETA, HeaderValue::from_static("a-2025-01-01, b-2025-02-02"));
        headers.append(ANTHROPIC_BETA, HeaderValue::from_static("c-2025-03-03"));
        headers
    }

    /// Anthropic's own words, Vertex AI's, Bedrock's, and those of servers of the same protocol.
    #[test]
    fn the_flag_that_an_error_names_is_found() {
        for (message, flags) in [
            (
                "Unexpected value(s) `b-2025-02-02` for the `anthropic-beta` header. Please consult our documentation at docs.anthropic.com or try again without the header.",
                vec!["b-2025-02-02"],
            ),
            (
                "Unexpected value(s) `a-2025-01-01`, `c-2025-03-03` for the `anthropic-beta` header.",
                vec!["a-2025-01-01", "c-2025-03-03"],
            ),
            ("Unsupported beta header: c-2025-03-03.", vec!["c-2025-03-03"]),
            ("anthropic_beta: a-2025-01-01 is not supported", vec!["a-2025-01-01"]),
            ("invalid beta flag", vec!["a-2025-01-01", "b-2025-02-02", "c-2025-03-03"]),
            ("Unexpected value(s) `b-2025` for the `anthropic-beta` header.", vec![]),
            ("b-2025-02-02: Extra inputs are not permitted", vec![]),
        ] {
            let facts = ErrorBody { message: message.to_owned(), ..ErrorBody::default() };
            let named = named(&facts, &headers());
            let found: Vec<_> = named.iter().filter_map(|refusal| flag(&refusal.parameter.path)).collect();
            assert_eq!(found, flags, "{message}");
        }
    }

    #[test]
    fn the_other_flags_stay() {
        let mut headers = headers();
        assert!(remove(&mut headers, "b-2025-02-02") && !remove(&mut headers, "b-2025-02-02"));
        assert_eq!(headers[ANTHROPIC_BETA], "a-2025-01-01,c-2025-03-03");
        assert!(remove(&mut headers, "a-2025-01-01") && remove(&mut headers, "c-2025-03-03"));
        assert!(!headers.contains_key(ANTHROPIC_BETA));
    }
}
