//! The check for a gateway that calls itself: clients' `ANTHROPIC_BASE_URL` is set in the same shell.

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use steadfast_stack::{Config, Environment, Tier};

use crate::error::ServeError;

/// Refuses a configuration in which a tier's server is the gateway itself.
///
/// # Errors
///
/// A tier's server is at the address `listens`; the error says where it is configured.
pub fn check_self_calls(config: &Config, environment: &Environment, listens: SocketAddr) -> Result<(), ServeError> {
    for tier in config.tiers.iter().flat_map(Tier::endpoints) {
        let Some(server) = tier.server(environment).filter(|server| is_at(server.url, listens)) else { continue };
        let (named, remedy) = match server.variable {
            Some(variable) => (variable, "it is for its callers: unset it here, or give the tier a `base_url`"),
            None => ("its `base_url`", "name the provider's"),
        };
        return Err(ServeError::Invalid(format!(
            "the tier `{}` would call this gateway without end: {named} names {listens}, where it listens; {remedy}",
            tier.name
        )));
    }
    Ok(())
}

/// Returns whether a URL leads to a server on this machine at this address.
fn is_at(url: &str, listens: SocketAddr) -> bool {
    let Ok(url) = url.trim().parse::<Uri>() else { return false };
    let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let port = url.port_u16().unwrap_or(usual);
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = match host.parse::<IpAddr>() {
        Ok(ip) if ip == listens.ip() => true,
        Ok(ip) => ip.is_unspecified() || ip.is_loopback() && listens.ip().is_unspecified(),
        Err(_) => {
            host.eq_ignore_ascii_case("localhost") && (listens.ip().is_loopback() || listens.ip().is_unspecified())
        }
    };
    port == listens.port() && is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_knows_its_own_address_and_no_other() {
        let at = |url: &str, listens: &str| is_at(url, listens.parse().unwrap());
        for url in ["http://127.0.0.1:8080", "http://localhost:8080/v1", "http://LOCALHOST:8080", "http://0.0.0.0:8080"]
        {
            assert!(at(url, "127.0.0.1:8080"), "{url}");
        }
        assert!(at("http://127.0.0.1:8080", "0.0.0.0:8080") && at("http://[::1]:8080/", "[::1]:8080"));
        assert!(at("http://localhost", "127.0.0.1:80") && at("http://[::1]:8080", "0.0.0.0:8080"));
        for url in
            ["http://127.0.0.1:9001/v1", "https://api.anthropic.com", "http://localhost", "http://10.0.0.7:8080", "x"]
        {
            assert!(!at(url, "127.0.0.1:8080"), "{url}");
        }
    }
}
