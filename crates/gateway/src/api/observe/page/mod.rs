//! The status page at `/`, and the badge for other pages.
//!
//! Both are files of this folder, embedded in the binary unchanged: the page loads nothing from elsewhere.

use std::sync::LazyLock;

use axum::{Router, routing::get};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::api::html::Html;

/// The style of the gateway's pages.
pub const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(
    include_str!("dom.js"),
    include_str!("keyed.js"),
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

static PAGE: LazyLock<Html> = LazyLock::new(|| Html::of(include_str!("index.html"), STYLE, SCRIPT));

type Text = (HeaderMap, &'static str);

/// `GET /`: the page for a browser, a few words of text for other clients.
pub(crate) async fn front(headers: HeaderMap) -> Text {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (mut headers, text) = PAGE.answer();
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    match accepts.is_some_and(|accept| accept.contains("text/html")) {
        true => (headers, text),
        false => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            (headers, USAGE)
        }
    }
}

pub(super) fn router() -> Router {
    Router::new().route("/badge.js", get(badge))
}

async fn badge() -> Text {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=300")),
        // The badge is for other sites' pages.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    ];
    (HeaderMap::from_iter(headers), BADGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::html::assert_sound;

    #[test]
    fn the_policy_covers_all_that_the_page_has() {
        assert_sound(&PAGE, include_str!("index.html"), STYLE, SCRIPT);
    }

    #[test]
    fn the_badge_runs_no_text() {
        assert!(!BADGE.contains("innerHTML") && !BADGE.contains("eval("));
    }
}
