use schemars::JsonSchema;
use serde::Deserialize;

use super::{Secret, Span};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use steadfast_stores::StoreOwner;

/// The stores of state that outlives the process or is shared by several. Without this block, all state is the
/// process's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stores {
    /// The durable store: a file, as `sqlite:steadfast.db` (relative to the working directory), or a database, as
    /// `postgres://user:password@host:5432/database?sslmode=require`. It keeps idempotency keys with their answers,
    /// handed-off tasks, the responses of `responses`, callers' keys, the ledger, orders by hand, and by a hash which
    /// providers' keys have worked, so that a refused one is an outage after a restart too. `${NAME}` stands for an
    /// environment variable, which keeps a password out of the file.
    #[schemars(extend("pattern" = "^(sqlite:|postgres(ql)?://|.*\\$\\{)"))]
    pub durable: Option<Secret>,
    /// The store that replicas share: a Redis, as `redis://user:password@host:6379/0`, or `rediss://` for TLS.
    /// Circuits, the features' rates, keys' limits and retry budgets then cover all replicas together, and so do cached
    /// answers if the cache is `shared`. Idempotency keys are kept there, and also in `durable` if it is set. During an
    /// outage of the store, each replica relies on its own state. `${NAME}` stands for an environment variable.
    #[schemars(extend("pattern" = "^(rediss?://|unix://|.*\\$\\{)"))]
    pub shared: Option<Secret>,
    /// The prefix of all names in `shared`. Deployments with different prefixes share nothing; replicas of one
    /// deployment need the same one. Default: `steadfast:` and a hash, of the host and database of `durable` if that
    /// is a server, or else of the first tier's name, provider and `base_url`. A roll-out that changes those starts
    /// with empty state there; with a set prefix it does not.
    ///
    /// A set prefix also names the owner of `durable`: the first deployment that opens a store. One with another set
    /// prefix does not start with it.
    #[schemars(length(min = 1, max = 100))]
    pub prefix: Option<String>,
    /// The prefix that this deployment had before. A `durable` that belongs to that one is handed over to the new
    /// `prefix` at the start; processes with the former one do not start with it any more. State in `shared` begins
    /// anew.
    #[schemars(length(min = 1, max = 100))]
    pub former_prefix: Option<String>,
    /// The time limit of each call to `shared`, connecting included. After it the replica relies on its own state, so
    /// a caller waits no longer for a store that hangs. Raise it for a store that is far away or slow. Default:
    /// 250 ms.
    #[schemars(extend("default" = "250ms"))]
    pub shared_timeout: Option<Span>,
}

impl Stores {
    /// Returns the deployment as the owner of its durable store, if it has set its name.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    #[doc(hidden)]
    pub fn owner(&self) -> Option<StoreOwner> {
        let owner = StoreOwner::new(self.prefix.as_deref()?);
        Some(match &self.former_prefix {
            Some(former) => owner.formerly(former.as_str()),
            None => owner,
        })
    }
}

/// The location of a durable store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DurableUrl<'a> {
    /// The path of a file.
    Sqlite(&'a str),
    /// The whole URL.
    Postgres(&'a str),
}

impl<'a> DurableUrl<'a> {
    /// Parses the location; `None` if it is neither.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            // A common spelling: `sqlite:///var/lib/steadfast.db`.
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty()).then_some(Self::Sqlite(path));
        }
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        is_postgres.then_some(Self::Postgres(text))
    }

    /// Returns the feature of this crate that provides it.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_known_by_how_they_are_named() {
        for (text, url) in [
            ("sqlite:steadfast.db", Some(DurableUrl::Sqlite("steadfast.db"))),
            ("sqlite:///var/lib/s.db", Some(DurableUrl::Sqlite("/var/lib/s.db"))),
            ("sqlite:/var/lib/s.db", Some(DurableUrl::Sqlite("/var/lib/s.db"))),
            ("postgresql://h/d", Some(DurableUrl::Postgres("postgresql://h/d"))),
            ("sqlite:", None),
            ("sqlite://", None),
            ("steadfast.db", None),
            ("redis://h", None),
            ("", None),
        ] {
            assert_eq!(DurableUrl::parse(text), url, "{text}");
        }
    }
}
