use super::{Findings, origins};
use crate::{Config, Gateway, GatewayLimits, KeySource, Size};
use steadfast::WireLimits;

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    findings.within("gateway", |findings| {
        gateway(&config.gateway, findings);
        if config.gateway.keys.as_ref().and_then(KeySource::registry).is_some() && config.stores.durable.is_none() {
            findings.wrong("keys", match config.stores.shared {
                Some(_) => {
                    "keys need a durable store, and Redis is none: add `stores: { durable: postgres://... }` beside it"
                }
                None => "keys need a durable store: add `stores: { durable: sqlite:steadfast.db }`",
            });
        }
        if let Some(Size(memory)) = config.gateway.memory {
            check_memory(config, memory, findings);
        }
    });
}

/// Checks that the total memory covers what the other settings allow.
fn check_memory(config: &Config, memory: u64, findings: &mut Findings<'_, '_>) {
    let mib = |bytes: u64| bytes.div_ceil(KIB * KIB);
    let body = config.gateway.max_body.map_or(LARGEST_BODY, |size| size.0);
    if memory / 8 < body {
        let least = mib(body.saturating_mul(8));
        findings.wrong("memory", format!("`memory` must be at least {least} MiB, eight times `max_body`"));
    }
    let kept = config.kept_bytes();
    if memory / 4 < kept {
        let (kept, least) = (mib(kept), mib(kept.saturating_mul(4)));
        findings.wrong(
            "memory",
            format!(
                "cached answers, idempotency keys and records may take {kept} MiB, but only a quarter of `memory`: raise it to at least \
                 {least} MiB, or lower `cache.max_bytes`, `idempotency.max_bytes` or `records`"
            ),
        );
    }
    let connections = memory / 4 / (32 * KIB);
    if config.gateway.connections.is_some_and(|wanted| u64::from(wanted) > connections) {
        findings.wrong(
            "connections",
            format!("`memory` allows only {connections} connections: a quarter of it, at 32 KiB each"),
        );
    }
}

/// The default of `max_body`.
const LARGEST_BODY: u64 = 32 * KIB * KIB;

fn gateway(gateway: &Gateway, findings: &mut Findings<'_, '_>) {
    let file = gateway.keys.as_ref().and_then(KeySource::file);
    if file.is_some_and(|path| path.as_os_str().is_empty()) {
        findings.wrong("keys", "`keys` is empty; name the file of keys, or leave `keys` out if callers need none");
    }
    let folder = gateway.keys.as_ref().and_then(KeySource::registry).and_then(|keys| keys.folder.as_ref());
    if folder.is_some_and(|folder| folder.trim().is_empty()) {
        findings.wrong("keys", "the folder's name is empty: leave it out, or name one on a local disk");
    }
    let mut size = |key: &str, size: Option<Size>, least: u64, most: u64, range: &str| {
        if size.is_some_and(|size| !(least..=most).contains(&size.0)) {
            findings.wrong(key, format!("`{key}` must be from {range}"));
        }
    };
    size("max_body", gateway.max_body, KIB, GIB, "1 KiB to 1 GiB; each body is held in memory");
    size("max_head", gateway.max_head, 8 * KIB, KIB * KIB, "8 KiB to 1 MiB");
    findings.at_least_one("connections", gateway.connections.map(u64::from), ", or no caller can connect");
    findings.at_least_one("records", gateway.records.map(u64::from), "");
    if gateway.records.is_some_and(|records| records > 1_000_000) {
        findings.wrong("records", "`records` must be at most 1000000; they are held in memory");
    }
    findings.nonzero_time("head_timeout", gateway.head_timeout);
    findings.nonzero_time("body_timeout", gateway.body_timeout);
    findings.nonzero_time("body_idle_timeout", gateway.body_idle_timeout);
    findings.nonzero_time("unread_timeout", gateway.unread_timeout);
    findings.nonzero_time("keep_alive", gateway.keep_alive);
    findings.within("limits", |findings| limits(&gateway.limits, findings));
    findings.within("cors", |findings| cors(&gateway.cors, findings));
}

fn cors(listed: &[String], findings: &mut Findings<'_, '_>) {
    for (at, origin) in listed.iter().enumerate() {
        if let Some(problem) = origins::problem(origin) {
            findings.wrong(at, problem);
        } else if listed[..at].contains(origin) {
            findings.wrong(at, format!("the list names `{origin}` twice"));
        }
    }
}

fn limits(limits: &GatewayLimits, findings: &mut Findings<'_, '_>) {
    let settings = [
        ("messages", limits.messages),
        ("parts", limits.parts),
        ("tools", limits.tools),
        ("tool_calls", limits.tool_calls),
        ("nodes", limits.nodes),
        ("depth", limits.depth),
        ("schema_nodes", limits.schema_nodes),
    ];
    for (key, most) in settings {
        findings.at_least_one(key, most.map(u64::from), ", or no request is translated");
    }
    if limits.depth.is_some_and(|depth| depth > WireLimits::DEEPEST) {
        findings
            .wrong("depth", format!("`depth` must be at most {}, the JSON parser's own limit", WireLimits::DEEPEST));
    }
}
