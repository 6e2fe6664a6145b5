use super::Findings;
use crate::{
    config::Config,
    handoff::{Callbacks, WebhookSecret},
};

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    let Some(handoff) = &config.handoff else { return };
    findings.within("handoff", |findings| {
        for (key, span) in
            [("wait", handoff.wait), ("ttl", handoff.ttl), ("keep", handoff.keep), ("visibility", handoff.visibility)]
        {
            findings.some_time(key, span);
        }
        if let Some(notify) = &handoff.notify {
            findings.within("notify", |findings| findings.http_url("url", &notify.url));
        }
        if let Some(callbacks) = &handoff.callbacks {
            findings.within("callbacks", |findings| {
                if let Some(url) = &callbacks.url {
                    findings.http_url("url", url);
                }
                findings.within("hosts", |findings| {
                    for (at, host) in callbacks.hosts.iter().enumerate() {
                        if let Some(Err(error)) = any_secret().map(|secret| Callbacks::new(secret).host(host)) {
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
                findings.some_time("every", redrive.every);
                findings.some_time("timeout", redrive.timeout);
            });
        }
    });
}

/// Hosts are told apart whatever the secret is.
fn any_secret() -> Option<WebhookSecret> {
    WebhookSecret::new("a host does not depend on it").ok()
}
