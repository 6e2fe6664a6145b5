use super::Findings;
use crate::{Config, DurableUrl};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    findings.within("stores", |findings| {
        // The message never repeats the value, which may hold a password.
        if let Some(durable) = &config.stores.durable {
            match DurableUrl::parse(durable) {
                None => findings.wrong(
                    "durable",
                    "unknown kind of store; write `sqlite:FILE`, such as sqlite:steadfast.db, or \
                     `postgres://user:password@host:5432/database`",
                ),
                #[cfg(feature = "sqlite")]
                Some(DurableUrl::Sqlite(_)) => {}
                #[cfg(feature = "postgres")]
                Some(DurableUrl::Postgres(url)) => {
                    if let Err(error) = steadfast_stores::postgres::Postgres::lazy(url) {
                        findings.wrong("durable", error.to_string());
                    }
                }
                #[allow(unreachable_patterns, reason = "with both of them there is no other")]
                Some(other) => findings.wrong("durable", not_here(other.feature())),
            }
        }
        let is_no_prefix =
            |prefix: &str| prefix.is_empty() || prefix.len() > 100 || prefix.chars().any(char::is_control);
        if let Some(prefix) = &config.stores.prefix {
            if is_no_prefix(prefix) {
                findings.wrong("prefix", "`prefix` must be 1 to 100 bytes on one line, such as `shop:`");
            } else if config.stores.shared.is_none() && config.stores.durable.is_none() {
                findings.wrong(
                    "prefix",
                    "`prefix` applies only to a store; name one as `shared` or `durable`, or leave `prefix` out",
                );
            }
        }
        if let Some(former) = &config.stores.former_prefix {
            if is_no_prefix(former) {
                findings.wrong("former_prefix", "`former_prefix` must be 1 to 100 bytes on one line, such as `shop:`");
            } else if config.stores.prefix.is_none() || config.stores.durable.is_none() {
                findings.wrong(
                    "former_prefix",
                    "`former_prefix` hands a durable store over to a new `prefix`; name both, or leave it out",
                );
            }
        }
        findings.nonzero_time("shared_timeout", config.stores.shared_timeout);
        if config.stores.shared_timeout.is_some() && config.stores.shared.is_none() {
            findings.wrong(
                "shared_timeout",
                "`shared_timeout` applies only to a shared store; name a Redis as `shared`, or leave it out",
            );
        }
        if let Some(shared) = &config.stores.shared {
            let is_redis = ["redis://", "rediss://", "unix://"].iter().any(|scheme| shared.starts_with(scheme));
            if !is_redis {
                findings.wrong(
                    "shared",
                    "unknown kind of store; write `redis://user:password@host:6379/0`, or rediss:// for TLS",
                );
            } else if cfg!(not(feature = "redis")) {
                findings.wrong("shared", not_here("redis"));
            }
        }
    });
}

fn not_here(feature: &str) -> String {
    format!("this build lacks it; build with the feature `{feature}`")
}
