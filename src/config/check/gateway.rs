use super::Findings;
use crate::{
    WireLimits,
    config::{Config, Gateway, GatewayLimits, Size},
};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

pub(super) fn check(config: &Config, findings: &mut Findings<'_, '_>) {
    findings.within("gateway", |findings| gateway(&config.gateway, findings));
}

fn gateway(gateway: &Gateway, findings: &mut Findings<'_, '_>) {
    if gateway.keys.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        findings.wrong("keys", "the file of keys needs a name; leave `keys` out where nobody needs one");
    }
    let mut size = |key: &str, size: Option<Size>, least: u64, most: u64, range: &str| {
        if size.is_some_and(|size| !(least..=most).contains(&size.0)) {
            findings.wrong(key, format!("`{key}` is from {range}"));
        }
    };
    size("max_body", gateway.max_body, KIB, GIB, "1 KiB to 1 GiB: each request's is held in memory as a whole");
    size("max_head", gateway.max_head, 8 * KIB, KIB * KIB, "8 KiB to 1 MiB");
    findings.at_least_one("connections", gateway.connections.map(u64::from), ", or nobody can call");
    findings.at_least_one("records", gateway.records.map(u64::from), "");
    if gateway.records.is_some_and(|records| records > 1_000_000) {
        findings.wrong("records", "`records` is at most 1000000: they are held in memory");
    }
    findings.some_time("head_timeout", gateway.head_timeout);
    findings.some_time("body_timeout", gateway.body_timeout);
    findings.some_time("unread_timeout", gateway.unread_timeout);
    findings.some_time("keep_alive", gateway.keep_alive);
    findings.within("limits", |findings| limits(&gateway.limits, findings));
}

fn limits(limits: &GatewayLimits, findings: &mut Findings<'_, '_>) {
    let said = [
        ("messages", limits.messages),
        ("parts", limits.parts),
        ("tools", limits.tools),
        ("tool_calls", limits.tool_calls),
        ("nodes", limits.nodes),
        ("depth", limits.depth),
        ("schema_nodes", limits.schema_nodes),
    ];
    for (key, most) in said {
        findings.at_least_one(key, most.map(u64::from), ", or no request is translated");
    }
    if limits.depth.is_some_and(|depth| depth > WireLimits::DEEPEST) {
        findings
            .wrong("depth", format!("`depth` is at most {}: what reads JSON here goes no deeper", WireLimits::DEEPEST));
    }
}
