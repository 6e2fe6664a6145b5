//! The status page at `/`, and the badge that other pages can show.
//!
//! Both are files of this folder, put into the binary as they are: nothing is built, and nothing is fetched from elsewhere.
//! The page is answered as one: no page ever runs with another version's script.

use std::sync::LazyLock;

use axum::{Router, routing::get};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};

const MARKUP: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("page.js"),
    include_str!("plots.js"),
    include_str!("operate.js"),
    "poll();\n",
);
const BADGE: &str = include_str!("badge.js");
const USAGE: &str = concat!(
    "steadfast ",
    env!("CARGO_PKG_VERSION"),
    "\nPOST /v1/messages, POST /v1/chat/completions, GET /v1/models, GET /status, GET /metrics\n"
);

static PAGE: LazyLock<String> = LazyLock::new(|| {
    MARKUP
        .replace("<style></style>", &format!("<style>\n{STYLE}</style>"))
        .replace("<script></script>", &format!("<script>\n{SCRIPT}</script>"))
});

/// What the page may do: run its own script and its own styles, and ask this server.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(between(&PAGE, "<script>", "</script>")),
        hash(between(&PAGE, "<style>", "</style>")),
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

type Text = (HeaderMap, &'static str);

/// `GET /`: the page for a browser, a few words for everybody else.
pub(crate) async fn front(headers: HeaderMap) -> Text {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (kind, text) = match accepts.is_some_and(|accept| accept.contains("text/html")) {
        true => ("text/html; charset=utf-8", PAGE.as_str()),
        false => ("text/plain; charset=utf-8", USAGE),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    (HeaderMap::from_iter(headers), text)
}

pub(super) fn router() -> Router {
    Router::new().route("/badge.js", get(badge))
}

async fn badge() -> Text {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300")),
        // Other sites' pages are what it is for.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    ];
    (HeaderMap::from_iter(headers), BADGE)
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map_or("", |(inside, _)| inside)
}

/// As a policy names a script: SHA-256 in base64.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_browsers_compute() {
        assert_eq!(hash(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(hash("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }

    #[test]
    fn the_policy_covers_all_that_the_page_has() {
        assert_eq!((MARKUP.matches("<script").count(), MARKUP.matches("<style").count()), (1, 1));
        assert!(PAGE.contains(STYLE) && PAGE.contains(SCRIPT), "each is in its place");
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--"), "it would end there");
        let markup = PAGE.replace(SCRIPT, "");
        for refused in ["src=", "@import", "url(", "style=\"", "onclick", "onload", "javascript:"] {
            assert!(!markup.contains(refused), "{refused}");
        }
        for text in [PAGE.as_str(), BADGE] {
            assert!(!text.contains("innerHTML") && !text.contains("eval("));
        }
    }
}
