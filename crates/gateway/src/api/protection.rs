//! Headers by which a browser or a cache does no harm with a response: on each, in one place.
//!
//! | header | where |
//! |---|---|
//! | `x-content-type-options: nosniff` | everywhere: words of a prompt within JSON become no page |
//! | `cache-control: no-store` | where a response says nothing of its own: words of prompts stay in no cache |
//! | `content-security-policy` | beside JSON, event streams and our own pages, which have a policy: a file that somebody uploaded, or a provider's page, has no origin and runs nothing |

use axum::body::Body;
use http::{HeaderValue, Response, header};

/// The policy of content that is not the gateway's own.
const FOREIGN: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'");

/// Adds the headers to a response.
pub(crate) fn protect(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let inert = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // Compared without a parser: `text/html, application/json` is neither.
        essence.eq_ignore_ascii_case(b"application/json") || essence.eq_ignore_ascii_case(b"text/event-stream")
    });
    if !inert {
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(FOREIGN);
    }
    // A later one would count less than the first, so none of a provider's stays.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &'static str)]) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        protect(&mut response);
        response
    }

    #[test]
    fn whatever_is_no_json_and_no_stream_of_events_has_a_policy() {
        for (kind, has_policy) in [
            ("application/json", false),
            ("application/json; charset=UTF-8", false),
            ("Application/JSON", false),
            ("text/event-stream; charset=utf-8", false),
            ("text/html", true),
            ("TEXT/HTML; charset=utf-8", true),
            ("application/xhtml+xml", true),
            ("image/svg+xml", true),
            ("text/xml", true),
            ("application/pdf", true),
            ("multipart/x-mixed-replace", true),
            ("text/html, application/json", true),
            ("application/json, text/html", true),
            ("application/jsonp", true),
            ("application/octet-stream", true),
            ("", true),
        ] {
            let response = of(&[("content-type", kind)]);
            assert_eq!(response.headers().contains_key("content-security-policy"), has_policy, "{kind}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{kind}");
            assert_eq!(response.headers()["cache-control"], "no-store", "{kind}");
        }
        assert!(of(&[]).headers().contains_key("content-security-policy"));
    }

    #[test]
    fn what_a_page_says_of_itself_stays() {
        let own = [("content-type", "text/html"), ("content-security-policy", "own"), ("cache-control", "no-cache")];
        let response = of(&own);
        assert_eq!(
            (&response.headers()["content-security-policy"], &response.headers()["cache-control"]),
            (&"own".parse().unwrap(), &"no-cache".parse().unwrap())
        );
    }
}
