//! The settings that differ between two configurations, as paths of the file.

use std::collections::BTreeMap;

use super::{Alerts, Config, Gateway, Rules};

/// Adds the path of each field that differs; a block that differs in none of them is its own path.
macro_rules! fields {
    ($paths:ident, $at:expr, $before:expr, $now:expr; $($field:ident)*) => {{
        let (at, length): (&str, usize) = ($at, $paths.len());
        $(if $before.$field != $now.$field {
            $paths.push(path(at, stringify!($field)));
        })*
        if $paths.len() == length && $before != $now {
            $paths.push(at.to_owned());
        }
    }};
}

impl Config {
    /// Returns the paths of the settings in which this configuration differs from the one before, such as
    /// `features.chat`, `budgets.all` and `gateway.max_body`. Only equal configurations have none.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut paths = Vec::new();
        named(&mut paths, "tiers", &before.tiers, &self.tiers, |tier| &tier.name);
        entries(&mut paths, "models", &before.models, &self.models);
        entries(&mut paths, "features", &before.features, &self.features);
        named(&mut paths, "budgets", &before.budgets, &self.budgets, |budget| &budget.name);
        entries(&mut paths, "prices", &before.prices, &self.prices);
        entries(&mut paths, "families", &before.families, &self.families);
        gateway(&mut paths, &before.gateway, &self.gateway);
        alerts(&mut paths, &before.alerts, &self.alerts);
        let without_blocks = |config: &Self| Self {
            tiers: Vec::new(),
            models: BTreeMap::new(),
            features: BTreeMap::new(),
            budgets: Vec::new(),
            prices: BTreeMap::new(),
            families: BTreeMap::new(),
            gateway: Gateway::default(),
            alerts: Alerts::default(),
            ..config.clone()
        };
        let (before, now) = (without_blocks(before), without_blocks(self));
        fields!(paths, "other settings", before, now;
            listen lane default_feature timeout stream retry circuit_breaker balance hedge validate fallback cache
            idempotency stores responses ledger caps handoff routes mirror same_model);
        // A field at the top has no block before its name.
        paths.iter_mut().for_each(|path| {
            if let Some(field) = path.strip_prefix("other settings.") {
                *path = field.to_owned();
            }
        });
        paths
    }
}

fn gateway(paths: &mut Vec<String>, before: &Gateway, now: &Gateway) {
    fields!(paths, "gateway", before, now;
        keys oidc teams grace connections max_body max_head head_timeout body_timeout body_idle_timeout unread_timeout
        first_sign keep_alive mark_degraded notices cors wait_for_rate_limits records memory limits);
}

fn alerts(paths: &mut Vec<String>, before: &Alerts, now: &Alerts) {
    rules(paths, &before.rules, &now.rules);
    let without_rules = |alerts: &Alerts| Alerts { rules: Rules::default(), ..alerts.clone() };
    let (before, now) = (without_rules(before), without_rules(now));
    fields!(paths, "alerts", before, now; source webhooks templates);
}

fn rules(paths: &mut Vec<String>, before: &Rules, now: &Rules) {
    fields!(paths, "alerts.rules", before, now;
        failover failovers failure_rate tier_failure_rate fallback_share slow all_tiers_failed key_refused credentials
        budget handoff_waiting reload_refused store_away repeat);
}

/// Adds the path of each entry that is new, gone or changed.
fn entries<V: PartialEq>(paths: &mut Vec<String>, at: &str, before: &BTreeMap<String, V>, now: &BTreeMap<String, V>) {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let differs = now.iter().filter(|(name, value)| before.get(*name) != Some(value)).map(|(name, _)| name);
    paths.extend(differs.chain(gone).map(|name| path(at, name)));
}

/// Adds the path of each value of a list that is new, gone or changed; where only their order changed, the list's own.
fn named<V: PartialEq>(paths: &mut Vec<String>, at: &str, before: &[V], now: &[V], name: impl Fn(&V) -> &String) {
    if before == now {
        return;
    }
    let by_name = |list: &[V]| list.iter().map(|value| (name(value).clone(), ())).collect::<BTreeMap<_, _>>();
    let of = |list: &[V], named: &str| list.iter().position(|value| name(value) == named);
    let length = paths.len();
    for named in by_name(before).into_keys().chain(by_name(now).into_keys().filter(|name| of(before, name).is_none())) {
        let same = match (of(before, &named), of(now, &named)) {
            (Some(was), Some(is)) => before[was] == now[is],
            _ => false,
        };
        if !same {
            paths.push(path(at, &named));
        }
    }
    if paths.len() == length {
        paths.push(at.to_owned());
    }
}

fn path(at: &str, name: &str) -> String {
    format!("{at}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    fn changes(before: &str, now: &str) -> Vec<String> {
        let tiers = "tiers: [{ name: a, provider: simulated }, { name: b, provider: simulated }]\n";
        let config = |text: &str| {
            let text = if text.starts_with("tiers:") { text.to_owned() } else { format!("{tiers}{text}") };
            Config::from_str(&text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
        };
        config(now).changes_since(&config(before))
    }

    #[test]
    fn each_setting_that_differs_is_named_by_its_path() {
        for (before, now, paths) in [
            ("", "", &[][..]),
            ("features: { chat: { concurrency: 1 } }", "features: { chat: { concurrency: 2 } }", &["features.chat"]),
            ("features: { chat: {} }", "features: { search: {} }", &["features.search", "features.chat"]),
            ("timeout: 5s", "timeout: 6s\nlisten: 127.0.0.1:1", &["listen", "timeout"]),
            ("", "gateway: { max_body: 1MiB }", &["gateway.max_body"]),
            ("", "alerts: { rules: { failover: off } }", &["alerts.rules.failover"]),
            ("", "alerts: { webhooks: [{ url: 'http://127.0.0.1:1' }] }", &["alerts.webhooks"]),
            ("", "models: { '*': { tiers: [a] } }", &["models.*"]),
            ("", "tiers: [{ name: b, provider: simulated }, { name: a, provider: simulated }]", &["tiers"]),
            ("", "tiers: [{ name: a, provider: simulated, level: 2 }]", &["tiers.a", "tiers.b"]),
        ] {
            assert_eq!(changes(before, now), paths, "{before} to {now}");
        }
    }

    #[test]
    fn no_setting_of_the_schema_is_without_a_path() {
        let schema = Config::json_schema();
        let text = include_str!("changes.rs");
        let (code, _) = text.split_once("#[cfg(test)]").expect("tests");
        let words: Vec<&str> = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        let of = |pointer: &str| {
            let block = schema.pointer(pointer).and_then(serde_json::Value::as_object);
            block.unwrap_or_else(|| panic!("no {pointer}")).keys().cloned().collect::<Vec<_>>()
        };
        for block in ["/properties", "/$defs/Gateway/properties", "/$defs/Alerts/properties", "/$defs/Rules/properties"]
        {
            for field in of(block).into_iter().filter(|field| field != "$schema") {
                assert!(words.contains(&field.as_str()), "{block}: {field} has no path");
            }
        }
    }
}
