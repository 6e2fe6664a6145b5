//! The door: who may come in, by the key or without one, and the response to whom it keeps out.

use std::{net::IpAddr, sync::Arc};

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, Uri, header};
use steadfast::Dialect;

use super::{
    GatewayState,
    keys::{Allowance, Denial, Key},
    limit_heads,
    paths::gemini,
    records::Entry,
    refusal,
};

/// Returns the caller's key; `None` if the gateway has no keys. Without keys it refuses foreign web pages: a browser on
/// this machine would send their requests without asking its user.
///
/// # Errors
///
/// The gateway does not know the caller's key, or the page is foreign.
pub(crate) fn authorize(gateway: &GatewayState, uri: &Uri, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Denial> {
    if let Some(keys) = &gateway.keys {
        // Only Google's clients have a key in the query.
        let in_query = gemini::is_path(uri.path()).then(|| gemini::key_in(uri)).flatten();
        return keys.authenticate(headers, in_query.as_deref()).map(Some);
    }
    let is_of_foreigners = headers.get(header::ORIGIN).is_some_and(is_foreign);
    match is_of_foreigners && !gateway.any_origin && !gateway.is_listed(headers) {
        true => Err(Denial::Origin),
        false => Ok(None),
    }
}

/// Returns whether an `Origin` is anything but this machine.
fn is_foreign(origin: &HeaderValue) -> bool {
    let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    let host = origin.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host != "localhost" && !host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Returns the response to a denial at the door, of which it opens a record.
pub(super) fn deny(
    gateway: &GatewayState,
    denied: &Denial,
    key: Option<&Arc<Key>>,
    dialect: Dialect,
) -> Response<Body> {
    denial(&gateway.denied(denied, key, dialect), denied, &allowance(gateway, key, None), dialect)
}

/// Returns the allowance of a caller's key for calls of this feature.
pub(super) fn allowance(gateway: &GatewayState, key: Option<&Arc<Key>>, feature: Option<&str>) -> Allowance {
    let of_key = gateway.keys.as_ref().zip(key).map(|(keys, key)| keys.allowance(key, feature));
    of_key.unwrap_or_default()
}

/// Returns the response to a denial of a request that has its record, with the allowance of its key.
pub(super) fn denial(entry: &Entry, denied: &Denial, allowance: &Allowance, dialect: Dialect) -> Response<Body> {
    let mut response = refusal::deny(denied, dialect);
    let headers = response.headers_mut();
    entry.write_headers(false, headers);
    limit_heads::write(allowance, None, dialect, headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_pages_are_at_home() {
        for origin in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"] {
            assert!(!is_foreign(&HeaderValue::from_static(origin)), "{origin}");
        }
        for origin in ["https://example.com", "null", "", "http://localhost.example.com", "http://10.0.0.1", "x y"] {
            assert!(is_foreign(&HeaderValue::from_static(origin)), "{origin}");
        }
    }
}
