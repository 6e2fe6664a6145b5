use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;

/// Where state outlives the process, or is shared by several. Where the block is left out, all state is the process's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stores {
    /// What outlives the process: a file, as `sqlite:steadfast.db` (by the working directory), or a database, as
    /// `postgres://user:password@host:5432/database?sslmode=require`. It keeps idempotency keys with their answers, and what is
    /// handed to people. `${NAME}` stands for a variable of the environment: a password does not stand in the file.
    #[schemars(extend("pattern" = "^(sqlite:|postgres(ql)?://|.*\\$\\{)"))]
    pub durable: Option<Secret>,
    /// What replicas share: a Redis, as `redis://user:password@host:6379/0`, or `rediss://` for TLS. Circuits, the features' rates
    /// and retry budgets are then those of all replicas together, answers too where the cache says so, and idempotency keys are
    /// kept there, and in `durable` too where there is one. While it is away each replica goes by what it knows itself. `${NAME}` stands for a
    /// variable of the environment.
    #[schemars(extend("pattern" = "^(rediss?://|unix://|.*\\$\\{)"))]
    pub shared: Option<Secret>,
    /// What the names in `shared` begin with: deployments that have another share nothing there, and replicas of one deployment
    /// have the same. Default: `steadfast:` and a hash of the host and database of `durable`, where that is a server, else of the
    /// first tier's name, provider and `base_url`. A roll-out that changes those begins anew there; with a prefix it does not.
    #[schemars(length(min = 1, max = 100))]
    pub prefix: Option<String>,
}

/// What a durable store is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DurableUrl<'a> {
    /// The path of a file.
    Sqlite(&'a str),
    /// The whole URL.
    Postgres(&'a str),
}

impl<'a> DurableUrl<'a> {
    /// `None` where it names neither.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            // As others write it: `sqlite:///var/lib/steadfast.db`.
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty()).then_some(Self::Sqlite(path));
        }
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        is_postgres.then_some(Self::Postgres(text))
    }

    /// The feature of this crate that has it.
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
