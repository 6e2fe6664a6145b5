//! The names of this machine, by which a browser may call a gateway without keys.
//!
//! A page of `http://evil.example` may have its name lead to 127.0.0.1 (DNS rebinding): then its requests are of one
//! origin with the gateway, and a `GET` has no `Origin`. Its `Host` is `evil.example` all the same. Nobody's page can
//! have the name of an address, or one that no public server of names answers for.

use std::net::IpAddr;

use http::{Request, Version, header};

use super::GatewayState;

impl GatewayState {
    /// Returns whether a request calls a gateway that answers to this machine's names alone by another one. The host of
    /// an origin in `gateway.cors` is the operator's own.
    pub(super) fn is_foreign_host<B>(&self, request: &Request<B>) -> bool {
        self.has_local_names_alone
            && foreign_host(request).is_some_and(|host| {
                let settings = self.lifecycle.current.load();
                let is_of = |origin: &[u8]| {
                    let listed = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
                    listed.is_some_and(|listed| listed.eq_ignore_ascii_case(host.as_bytes()))
                };
                !settings.cors.iter().any(|origin| is_of(origin.as_bytes()))
            })
    }
}

/// Returns the foreign name by which a request calls this machine, if it is one that a page's owner can have.
fn foreign_host<B>(request: &Request<B>) -> Option<&str> {
    // Only clients of proxies name a host in the address of HTTP/1. A page's request has its `Host`.
    let authority = request.uri().authority().filter(|_| request.version() >= Version::HTTP_2);
    let named = match authority {
        Some(authority) => Some(authority.as_str()),
        // A browser always sends one.
        None => request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?")),
    };
    named.filter(|named| !is_local(named))
}

fn is_local(named: &str) -> bool {
    let authority = named.rsplit_once('@').map_or(named, |(_, authority)| authority);
    let name = match authority.strip_prefix('[') {
        Some(rest) => return rest.split_once(']').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok()),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.');
    match name.rsplit_once('.') {
        // A name of the operator's own: `/etc/hosts`, a container's.
        None => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
        // Reserved, so nobody's to register (RFC 6761; ICANN on `.internal`, as in `host.docker.internal`).
        Some((_, top)) if ["localhost", "internal"].iter().any(|own| top.eq_ignore_ascii_case(own)) => true,
        Some(_) => name.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_cannot_have_the_names_of_this_machine() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:8080",
            "app.localhost:3000",
            "localhost.:80",
            "127.0.0.1:8080",
            "127.0.0.1",
            "10.0.0.7:8080",
            "[::1]:8080",
            "[::1]",
            "host.docker.internal:8080",
            "gateway:8080",
            "my_box",
            "",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "evil.example.:8080",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8080",
            "127.0.0.1.evil.example",
            "internal.evil.example",
            "a.local",
            "1.2.3.4.5",
            "[evil.example]",
            "localhost@evil.example",
            "?",
            "evil\u{e9}",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn the_authority_of_http_2_counts_before_the_header_and_that_of_http_1_not_at_all() {
        for (version, address, host, foreign) in [
            (Version::HTTP_2, "http://evil.example/status", None, Some("evil.example")),
            (Version::HTTP_2, "http://evil.example/status", Some("localhost"), Some("evil.example")),
            (Version::HTTP_2, "http://localhost/status", Some("evil.example"), None),
            (Version::HTTP_11, "http://evil.example/status", Some("localhost"), None),
            (Version::HTTP_11, "http://localhost/status", Some("evil.example"), Some("evil.example")),
            (Version::HTTP_11, "/status", Some("evil.example"), Some("evil.example")),
            (Version::HTTP_11, "/status", Some("evil\u{e9}"), Some("?")),
            (Version::HTTP_11, "/status", None, None),
        ] {
            let mut request = Request::get(address).version(version).body(()).unwrap();
            if let Some(host) = host {
                request.headers_mut().insert(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
            }
            assert_eq!(foreign_host(&request), foreign, "{version:?} {address} {host:?}");
        }
    }
}
