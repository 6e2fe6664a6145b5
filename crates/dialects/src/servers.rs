#![doc = include_str!("servers.md")]
// The table has addresses as they are configured.
#![allow(rustdoc::bare_urls)]

use std::sync::LazyLock;

use crate::Dialect;

/// The facts of a server that change a request: see the page.
pub(crate) const DEVELOPER: &str = "developer";
pub(crate) const THOUGHTS: &str = "thoughts";
pub(crate) const MISTRAL: &str = "mistral";
const GOES_ON: &str = "goes on";
const BELOW: &str = "below";
const MARKS: &str = "marks of ";

/// A server that is known by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownServer {
    /// The names that programs use, its own first.
    pub names: Vec<&'static str>,
    /// The address that its documentation names.
    pub base_url: &'static str,
    /// The environment variables that usually hold its key.
    pub key_variables: Vec<&'static str>,
    facts: Vec<&'static str>,
    marked_models: Vec<&'static str>,
}

static SERVERS: LazyLock<Vec<KnownServer>> =
    LazyLock::new(|| rows(include_str!("servers.md")).map(KnownServer::of_row).collect());

impl KnownServer {
    /// Returns all of them.
    pub fn all() -> &'static [Self] {
        &SERVERS
    }

    /// Returns the server of this name.
    ///
    /// ```
    /// use steadfast::providers::servers::KnownServer;
    ///
    /// let groq = KnownServer::named("groq").unwrap();
    /// assert_eq!((groq.base_url, groq.key_variables[0]), ("https://api.groq.com/openai/v1", "GROQ_API_KEY"));
    /// ```
    pub fn named(name: &str) -> Option<&'static Self> {
        SERVERS.iter().find(|server| server.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }

    /// Returns the server at an address: of its host, or one below that (`eu.api.openai.com`). A server of one's own is
    /// known by a host that is called after it (`litellm`, `litellm.internal`), and not on this machine.
    ///
    /// ```
    /// use steadfast::providers::servers::KnownServer;
    ///
    /// assert_eq!(KnownServer::at("https://eu.api.openai.com/v1").unwrap().names, ["openai"]);
    /// assert_eq!(KnownServer::at("https://api.openai.com.example/v1"), None);
    /// assert_eq!(KnownServer::at("http://litellm:4000/v1").unwrap().names, ["litellm"]);
    /// ```
    pub fn at(address: &str) -> Option<&'static Self> {
        let host = host(address);
        let is_within = |own: &str| {
            let below = host.len().checked_sub(own.len()).filter(|end| host.is_char_boundary(*end));
            below.is_some_and(|end| host[end..].eq_ignore_ascii_case(own) && (end == 0 || host[..end].ends_with('.')))
        };
        let called = || Self::named(host.split('.').next()?).filter(|server| server.is_local());
        SERVERS.iter().find(|server| !server.is_local() && is_within(server.host())).or_else(called)
    }

    /// Returns its host.
    pub fn host(&self) -> &'static str {
        host(self.base_url)
    }

    /// Returns true if it is the server of the dialect's own vendor.
    pub fn is_vendor_of(&self, dialect: Dialect) -> bool {
        self.facts.iter().any(|fact| fact.strip_prefix("vendor of ") == Some(&dialect.to_string()))
    }

    /// Returns true if it is a vendor's own server, whose dialect others speak.
    pub fn is_vendors(&self) -> bool {
        self.facts.iter().any(|fact| fact.starts_with("vendor of "))
    }

    /// Returns true if its address is whole. At others an account's own name stands before the host.
    pub fn has_whole_address(&self) -> bool {
        !self.has(BELOW)
    }

    /// Returns true if its models go on with an answer that the request has begun.
    pub fn goes_on(&self) -> bool {
        self.goes_on_by().is_some()
    }

    /// Returns the field by which a request says so; it is empty where the last turn alone says it.
    pub(crate) fn goes_on_by(&self) -> Option<&'static str> {
        let fact = self.facts.iter().find_map(|fact| fact.strip_prefix(GOES_ON))?;
        Some(fact.strip_prefix(" by ").unwrap_or_default())
    }

    /// Returns true if this word is among its facts.
    pub(crate) fn has(&self, fact: &str) -> bool {
        self.facts.contains(&fact)
    }

    /// Returns the words in the names of the models for which it takes marks for its cache of prompts; every model has
    /// the empty word.
    pub(crate) fn marked_models(&self) -> &[&'static str] {
        &self.marked_models
    }

    fn is_local(&self) -> bool {
        self.base_url.starts_with("http://")
    }

    fn of_row([names, base_url, key, facts, ..]: [&'static str; 6]) -> Self {
        let listed = |cell: &'static str, mark: &'static str| cell.split(mark).filter(|word| *word != "-").collect();
        let facts: Vec<_> = listed(facts, ", ");
        let marked = facts.iter().filter_map(|fact| fact.strip_prefix(MARKS));
        let marked_models = marked.map(|word| if word == "any" { "" } else { word }).collect();
        Self { names: listed(names, " "), base_url, key_variables: listed(key, " "), facts, marked_models }
    }
}

/// Returns the rows of the table in a page.
fn rows(text: &'static str) -> impl Iterator<Item = [&'static str; 6]> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    lines.skip(1).filter_map(|line| line.split(" | ").collect::<Vec<_>>().try_into().ok())
}

/// Returns the host in an address, which stands behind a user's name and before a port. An address of IPv6 has its
/// brackets.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.find(']').filter(|_| place.starts_with('[')) {
        Some(end) => &place[..=end],
        None => place.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_read_and_has_its_source_and_its_date() {
        let text = include_str!("servers.md");
        let written = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| names")).count();
        assert_eq!((rows(text).count(), SERVERS.len()), (written, written));
        let mut names = BTreeSet::new();
        for (server, [.., source, date]) in SERVERS.iter().zip(rows(text)) {
            assert!(server.names.iter().all(|name| names.insert(*name)), "twice: {server:?}");
            assert!(!source.is_empty() && date.len() == 7, "{server:?}");
            assert!(
                server.base_url.starts_with("https://") || server.base_url.starts_with("http://127.0.0.1:"),
                "{server:?}"
            );
            assert!(
                server.facts.iter().all(|fact| fact.starts_with("vendor of ")
                    || fact.starts_with(MARKS)
                    || fact.starts_with(GOES_ON)
                    || [DEVELOPER, THOUGHTS, MISTRAL, BELOW].contains(fact)),
                "{server:?}"
            );
            assert!(server.is_local() || KnownServer::at(server.base_url) == Some(server), "{server:?}");
        }
    }

    #[test]
    fn a_server_is_known_by_its_host_alone() {
        for (dialect, address, expected) in [
            (Dialect::OpenAi, "https://api.openai.com/v1", true),
            (Dialect::Responses, "https://EU.api.openai.com/v1", true),
            (Dialect::Responses, "https://x.openai.azure.com/openai/v1", false),
            (Dialect::OpenAi, "https://notapi.openai.com/v1", false),
            (Dialect::OpenAi, "https://gateway.example/api.openai.com", false),
            (Dialect::Anthropic, "https://api.anthropic.com/v1", true),
            (Dialect::Anthropic, "https://api.anthropic.com.evil.test/v1", false),
            (Dialect::Anthropic, "https://api.openai.com/v1", false),
            (Dialect::Gemini, "https://generativelanguage.googleapis.com:443/v1beta", true),
            (Dialect::OpenAi, "https://u:p@api.openai.com/v1", true),
            (Dialect::OpenAi, "https://u:p@x@api.openai.com:443", true),
            (Dialect::OpenAi, "https://api.openai.com:443@gateway.example/v1", false),
            (Dialect::OpenAi, "https://gateway.example/v1/@api.openai.com", false),
            (Dialect::OpenAi, "https://gateway.example?to=@api.openai.com", false),
            (Dialect::OpenAi, "https://[api.openai.com/v1", false),
            (Dialect::OpenAi, "é", false),
        ] {
            let is_vendors = KnownServer::at(address).is_some_and(|server| server.is_vendor_of(dialect));
            assert_eq!(is_vendors, expected, "{dialect} {address}");
        }
        for (address, name) in [
            ("http://127.0.0.1:8000/v1", None),
            ("http://10.0.0.5:40000/v1", None),
            ("http://127.0.0.1:4000/v1", None),
            ("http://gateway.internal/litellm/v1", None),
            ("http://notlitellm:4000/v1", None),
            ("http://openai:4000/v1", None),
            ("http://LiteLLM:4000/v1", Some("litellm")),
            ("https://litellm.house.example", Some("litellm")),
            ("https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1", Some("dashscope_cn")),
            ("https://me.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1", Some("dashscope_workspace")),
            ("https://oss.aliyuncs.com/v1", None),
        ] {
            assert_eq!(KnownServer::at(address).map(|server| server.names[0]), name, "{address}");
        }
    }

    #[test]
    fn a_host_stands_behind_a_users_name_and_before_a_port() {
        for (address, expected) in [
            ("https://api.openai.com/v1", "api.openai.com"),
            ("https://api.openai.com:443?x=a@b", "api.openai.com"),
            ("https://u:p@api.openai.com/v1", "api.openai.com"),
            ("https://u:p/x@api.openai.com/v1", "u"),
            ("http://[::1]:8000/v1", "[::1]"),
            ("http://u:p@[2001:db8::1]/v1", "[2001:db8::1]"),
            ("http://[::1", "["),
            ("localhost:8000", "localhost"),
            ("", ""),
        ] {
            assert_eq!(host(address), expected, "{address}");
        }
    }
}
