use std::{fmt, sync::Arc};

use http::Uri;

use super::{Callback, WebhookSecret};
use steadfast::{ErrorKind, InvalidConfig, LlmError, LlmRequest};
use steadfast_webhook as webhook;

/// The receivers of a message about each answered task: an address of the settings, addresses that come with requests,
/// or both.
///
/// Each message is signed with a [secret](WebhookSecret). It is `{"type": "handoff.answered", "timestamp": .., "address":
/// .., "data": ..}`, with a [`TaskResult`](super::TaskResult) as data, and the address to which it is sent.
///
/// The holder of a secret can sign what others receive under it. So give each host a [secret of its
/// own](Self::host_with_secret) where several receive callbacks, or let each receiver compare the address
/// ([`WebhookSecret::verify_for`]).
#[derive(Clone)]
pub struct Callbacks {
    secret: WebhookSecret,
    pub(super) url: Option<Uri>,
    hosts: Arc<[Host]>,
}

/// A host to which requests may name addresses.
#[derive(Clone, Debug)]
struct Host {
    name: String,
    /// True if this means all hosts of the domain, and not the domain itself.
    is_wildcard: bool,
    port: Option<u16>,
    /// The secret of this host alone.
    secret: Option<WebhookSecret>,
}

/// An address that a request names for the message about its answer: an [extension](LlmRequest::with_extension) of the
/// request.
///
/// It takes effect only if its host is [allowed](Callbacks::host); a request with another host is refused.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(pub Arc<str>);

impl CallbackUrl {
    /// Creates a callback to this address.
    pub fn new(url: impl Into<Arc<str>>) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for CallbackUrl {
    /// Hides the address: it can contain a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackUrl(..)")
    }
}

impl Callbacks {
    /// Creates callbacks that are signed with this secret and have no address yet.
    pub fn new(secret: WebhookSecret) -> Self {
        Self { secret, url: None, hosts: Arc::default() }
    }

    /// Sets the address for tasks whose request names none.
    ///
    /// # Errors
    ///
    /// Returns an error if this is no `http://` or `https://` URL with a host. The error does not repeat the URL.
    pub fn url(mut self, url: &str) -> Result<Self, InvalidConfig> {
        self.url = Some(webhook::address(url, "url")?);
        Ok(self)
    }

    /// Allows requests to name an address of this host: `example.com`, `example.com:8443`, or `*.example.com` for all
    /// hosts of that domain. The address must be `https://`, unless the host is the machine itself (`localhost`,
    /// `127.0.0.1`, `[::1]`). Default: none, because a caller who chooses the address makes this process call it from
    /// inside its network.
    ///
    /// # Errors
    ///
    /// Returns an error if this is no name of a host.
    pub fn host(self, host: &str) -> Result<Self, InvalidConfig> {
        self.allow(host, None)
    }

    /// Like [`host`](Self::host), with a secret that signs the callbacks to this host alone. It holds for the host of
    /// the [`url`](Self::url) too.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    pub fn host_with_secret(self, host: &str, secret: WebhookSecret) -> Result<Self, InvalidConfig> {
        self.allow(host, Some(secret))
    }

    fn allow(mut self, host: &str, secret: Option<WebhookSecret>) -> Result<Self, InvalidConfig> {
        let wrong =
            || InvalidConfig::new("hosts", "name a host, as `example.com`, `example.com:8443` or `*.example.com`");
        let (is_wildcard, rest) = match host.trim().strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host.trim()),
        };
        let authority: http::uri::Authority = rest.parse().map_err(|_| wrong())?;
        if rest.contains(['@', '*', '/']) || authority.host().is_empty() {
            return Err(wrong());
        }
        let host =
            Host { name: authority.host().to_ascii_lowercase(), is_wildcard, port: authority.port_u16(), secret };
        self.hosts = self.hosts.iter().cloned().chain([host]).collect();
        Ok(self)
    }

    /// Returns the secret that signs the messages to an address: its host's own, before that of a whole domain, before
    /// the one of all.
    pub(super) fn secret_for(&self, url: &Uri) -> &WebhookSecret {
        let own = self.hosts.iter().filter(|known| known.is_of(url));
        let own = own.filter_map(|known| Some((known, known.secret.as_ref()?)));
        let nearest = own.max_by_key(|(known, _)| (!known.is_wildcard, known.name.len()));
        nearest.map_or(&self.secret, |(_, secret)| secret)
    }

    /// Returns the receiver of the message about a request's answer.
    pub(super) fn of(this: Option<&Self>, request: &LlmRequest) -> Result<Option<Callback>, LlmError> {
        let Some(CallbackUrl(url)) = request.extensions().get::<CallbackUrl>() else {
            return Ok(this.and_then(|this| this.url.as_ref()).map(|_| Callback::Settings));
        };
        let refused =
            |problem: &str| LlmError::new(ErrorKind::InvalidRequest, format!("the callback's address: {problem}"));
        let this = this.ok_or_else(|| refused("no host is allowed for callbacks"))?;
        this.allowed(url).map_err(|problem| refused(&problem))?;
        Ok(Some(Callback::Url(url.to_string())))
    }

    /// Returns the parsed address if calls to it are allowed.
    pub(super) fn allowed(&self, url: &str) -> Result<Uri, String> {
        let url = webhook::address(url, "callback").map_err(|error| error.problem().to_owned())?;
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str());
        if url.scheme_str() != Some("https") && !is_local {
            return Err("it must start with https://".to_owned());
        }
        match self.hosts.iter().any(|known| known.is_of(&url)) {
            true => Ok(url),
            false => Err(format!("the host {host} is not allowed for callbacks")),
        }
    }
}

impl Host {
    fn is_of(&self, url: &Uri) -> bool {
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let named = match self.is_wildcard {
            true => host.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            false => host == self.name,
        };
        // A host without a port means the scheme's own port.
        named && url.port_u16() == self.port
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("host", &self.url.as_ref().and_then(Uri::host))
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callbacks(hosts: &[&str]) -> Callbacks {
        let none = Callbacks::new(WebhookSecret::new(&"x".repeat(24)).unwrap());
        hosts.iter().fold(none, |callbacks, host| callbacks.host(host).unwrap())
    }

    #[test]
    fn only_hosts_that_were_named_are_called() {
        let callbacks =
            callbacks(&["Example.com", "*.hooks.example", "ports.example:8443", "127.0.0.1:9000", "[::1]:9000"]);
        for allowed in [
            "https://example.com/a?b=c",
            "https://EXAMPLE.com",
            "https://a.hooks.example/x",
            "https://a.b.hooks.example/x",
            "https://ports.example:8443/",
            "http://127.0.0.1:9000/hook",
            "http://[::1]:9000/",
        ] {
            assert!(callbacks.allowed(allowed).is_ok(), "{allowed}");
        }
        for refused in [
            "http://example.com/",
            "https://example.com:8443/",
            "https://example.com.evil.example/",
            "https://evilexample.com/",
            "https://hooks.example/",
            "https://evilhooks.example/",
            "https://.hooks.example/",
            "https://ports.example/",
            "https://user@example.com/",
            "https://example.com@evil.example/",
            "http://127.0.0.1/",
            "http://127.1:9000/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:127.0.0.1]:9000/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "//example.com/",
            "",
        ] {
            assert!(callbacks.allowed(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn each_host_has_the_secret_nearest_to_it() {
        let secret = |name: &str| WebhookSecret::new(&name.repeat(24)).unwrap();
        let callbacks = Callbacks::new(secret("0"))
            .host("plain.example")
            .and_then(|callbacks| callbacks.host_with_secret("a.example", secret("a")))
            .and_then(|callbacks| callbacks.host_with_secret("*.example", secret("w")))
            .and_then(|callbacks| callbacks.host_with_secret("a.example:8443", secret("p")))
            .and_then(|callbacks| callbacks.url("https://of-the-file.test/hook"))
            .unwrap();
        for (url, name) in [
            ("https://a.example/x", "a"),
            ("https://A.example/x", "a"),
            ("https://a.example:8443/x", "p"),
            ("https://b.example/x", "w"),
            ("https://plain.example/x", "w"),
            ("https://of-the-file.test/hook", "0"),
        ] {
            let headers = callbacks.secret_for(&url.parse().unwrap()).headers("id", b"body");
            let headers =
                headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            for other in ["0", "a", "w", "p"] {
                assert_eq!(secret(other).verify(&headers, b"body").is_ok(), other == name, "{url} by {other}");
            }
        }
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["", "*", "*.*.example", "https://example.com", "a b", "user@example.com", "example.com/path"] {
            assert!(callbacks(&[]).host(host).is_err(), "{host}");
        }
    }
}
