//! A page for a browser: markup, style and script in one response, so that a page never runs another version's script,
//! and a policy that allows those and nothing else.

use std::sync::LazyLock;

use axum::{Router, routing::get};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

/// A page.
#[derive(Debug)]
pub(crate) struct Html {
    text: String,
    /// The policy: the page may run its own script and styles, and call this server.
    policy: HeaderValue,
}

impl Html {
    /// Creates a page from markup with an empty `<style>` and an empty `<script>`, and their contents.
    pub(crate) fn of(markup: &str, style: &str, script: &str) -> Self {
        let text = markup
            .replace("<style></style>", &format!("<style>\n{style}</style>"))
            .replace("<script></script>", &format!("<script>\n\"use strict\";\n{script}</script>"));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            hash(between(&text, "<script>", "</script>")),
            hash(between(&text, "<style>", "</style>")),
        );
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { text, policy }
    }

    /// Returns the route of a page.
    pub(crate) fn router(path: &str, page: &'static LazyLock<Self>) -> Router {
        Router::new().route(path, get(async || page.answer()))
    }

    /// Returns the page as a response.
    pub(crate) fn answer(&self) -> (HeaderMap, &str) {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        (HeaderMap::from_iter(headers), &self.text)
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map_or("", |(inside, _)| inside)
}

/// Returns a script's hash in a policy's form: SHA-256 in base64.
fn hash(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in Sha256::digest(text).chunks(3) {
        let bits = (0..3).fold(0_usize, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let shown = digit <= three.len();
            encoded.push(if shown { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    encoded
}

/// Asserts that the policy covers the page, and that the page takes no data for markup or a program.
#[cfg(test)]
pub(crate) fn assert_sound(page: &Html, markup: &str, style: &str, script: &str) {
    assert_eq!((markup.matches("<script").count(), markup.matches("<style").count()), (1, 1));
    assert!(page.text.contains(style) && page.text.contains(script), "each is in its place");
    assert!(!script.contains("</script") && !script.contains("<!--"), "it would end there");
    let markup = page.text.replace(script, "");
    for refused in ["src=", "@import", "url(", "style=\"", "onclick", "onload", "javascript:"] {
        assert!(!markup.contains(refused), "{refused}");
    }
    for refused in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!page.text.contains(refused), "{refused}");
    }
    assert!(page.policy.to_str().unwrap().contains("script-src 'sha256-"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_browsers_compute() {
        assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(hash("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }
}
