//! The check for a gateway that calls itself: clients' `ANTHROPIC_BASE_URL` is set in the same shell.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::mpsc,
    thread,
    time::Duration,
};

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
    if url.port_u16().unwrap_or(usual) != listens.port() {
        return false;
    }
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = |ip: IpAddr| {
        let is_of_machine = || ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok();
        ip == listens.ip() || ip.is_unspecified() || listens.ip().is_unspecified() && is_of_machine()
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => is_here(ip),
        Err(_) if host.eq_ignore_ascii_case("localhost") => listens.ip().is_loopback() || listens.ip().is_unspecified(),
        Err(_) => addresses(host).into_iter().any(is_here),
    }
}

/// Returns the addresses of a name that is at the gateway's own port: it may be this machine's own. A name that is not
/// found in time has none.
fn addresses(name: &str) -> Vec<IpAddr> {
    let (tell, told) = mpsc::channel();
    let name = name.to_owned();
    let looking = thread::Builder::new().name("own name".into()).spawn(move || {
        let found = (&*name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect());
        // The check may have gone on.
        let _ = tell.send(found.unwrap_or_default());
    });
    looking.ok().and_then(|_| told.recv_timeout(LONGEST_LOOKUP).ok()).unwrap_or_default()
}

/// The time for the lookup of a name.
const LONGEST_LOOKUP: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use steadfast_internal::system;

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

    #[test]
    fn a_gateway_knows_its_machines_own_name() {
        let name = &*system::host_name().unwrap();
        let Some(own) = addresses(name).into_iter().find(|own| UdpSocket::bind((*own, 0)).is_ok()) else {
            // The machine does not know its own name: then no caller reaches it by that.
            return;
        };
        let at = |url: String, listens: SocketAddr| is_at(&url, listens);
        assert!(at(format!("http://{name}:8080/v1"), "0.0.0.0:8080".parse().unwrap()));
        assert!(at(format!("http://{name}:8080/v1"), SocketAddr::new(own, 8080)));
        assert!(!at(format!("http://{name}:8081/v1"), "0.0.0.0:8080".parse().unwrap()));
        assert!(!at("http://nobody.invalid:8080/v1".to_owned(), "0.0.0.0:8080".parse().unwrap()));
    }
}
