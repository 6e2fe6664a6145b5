use super::Findings;
use crate::{Config, Provider, Tier};
use steadfast_handoff::{Callbacks, WebhookSecret};

/// Checks for a durable store: a promise to answer later is only worth something if it outlives the process.
pub(super) fn tier(tier: &Tier, config: &Config, findings: &mut Findings<'_, '_>) {
    if tier.provider == Provider::Handoff && config.stores.durable.is_none() {
        let message = "handing requests to people needs a durable store, and there is no durable store yet: add \
                       `stores: { durable: sqlite:steadfast.db }`";
        findings.wrong("provider", message);
    }
}

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(handoff) = &config.handoff else { return };
    findings.within("handoff", |findings| {
        for (key, span) in
            [("wait", handoff.wait), ("ttl", handoff.ttl), ("keep", handoff.keep), ("visibility", handoff.visibility)]
        {
            findings.nonzero_time(key, span);
        }
        if let Some(limits) = &handoff.limits {
            let (bytes, of_one) = (limits.bytes.map(|size| size.0), limits.bytes_per_caller.map(|size| size.0));
            findings.within("limits", |findings| {
                for (key, number, of_one_key, of_one) in [
                    ("tasks", limits.tasks, "tasks_per_caller", limits.tasks_per_caller),
                    ("bytes", bytes, "bytes_per_caller", of_one),
                ] {
                    let why = "; remove the tier of people to hand nothing over";
                    findings.at_least_one(key, number, why);
                    findings.at_least_one(of_one_key, of_one, why);
                    if number.zip(of_one).is_some_and(|(all, of_one)| of_one > all) {
                        findings.wrong(of_one_key, format!("`{of_one_key}` exceeds `{key}`, the total of all callers"));
                    }
                }
            });
        }
        if let Some(notify) = &handoff.notify {
            findings.within("notify", |findings| findings.http_url("url", &notify.url));
        }
        if let Some(callbacks) = &handoff.callbacks {
            findings.within("callbacks", |findings| {
                if let Some(url) = &callbacks.url {
                    findings.http_url("url", url);
                }
                findings.within("secrets", |findings| {
                    for host in callbacks.secrets.keys().filter(|host| !callbacks.hosts.contains(host)) {
                        findings.wrong(host, "a host with a secret must be among `hosts`, in the same spelling");
                    }
                });
                findings.within("hosts", |findings| {
                    for (at, host) in callbacks.hosts.iter().enumerate() {
                        if let Some(Err(error)) = placeholder_secret().map(|secret| Callbacks::new(secret).host(host)) {
                            findings.wrong(at, error.problem());
                        }
                    }
                });
            });
        }
        if let Some(redrive) = &handoff.redrive {
            findings.within("redrive", |findings| {
                if redrive.per_second.is_some_and(|tasks| !(tasks.is_finite() && tasks > 0.0)) {
                    findings.wrong("per_second", "`per_second` must be more than 0; leave `redrive` out for none");
                }
                findings.at_least_one("at_once", redrive.at_once.map(u64::from), "; leave `redrive` out for none");
                findings.nonzero_time("every", redrive.every);
                findings.nonzero_time("timeout", redrive.timeout);
            });
        }
    });
}

/// Returns a placeholder secret; the validity of a host does not depend on it.
fn placeholder_secret() -> Option<WebhookSecret> {
    WebhookSecret::new("a host does not depend on it").ok()
}
