//! `steadfast admin`: an operator's orders to a running gateway, over its `/admin` paths, and what it tells of itself.

mod show;

use std::{fmt::Write as _, io::Write as _};

use clap::{Args, Subcommand};
use http::Uri;
use serde_json::{Value, json};

use crate::{
    Failure,
    remote::{Remote, escaped},
    table::Table,
    terminal,
};

/// Operate a running gateway: its status and requests, forced circuits, drained tiers, a pinned level of service
///
/// Needs a key with `admin: true` in an environment variable, since other users can see a command line. The status
/// needs no key; another key sees the requests that it made. An order holds until it is taken back: at all gateways of
/// one durable store, and without such a store in the one process that answers, until it restarts.
#[derive(Args)]
pub(crate) struct Admin {
    /// The gateway
    #[arg(long, global = true, value_name = "URL", env = "STEADFAST_URL", default_value = "http://127.0.0.1:8080")]
    url: Uri,

    /// The environment variable of the key
    #[arg(long, global = true, value_name = "NAME", default_value = "STEADFAST_ADMIN_KEY")]
    key_env: String,

    /// Print the gateway's own answer, in JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    order: Order,
}

/// The name of a tier, or of a deployment of it.
const NAME: &str = "TIER[/DEPLOYMENT]";

#[derive(Subcommand)]
enum Order {
    /// Show who serves: the state, each tier, and the last switches
    Status,
    /// List the last requests, the newest first: an administrator's key sees all, another its own
    Requests {
        /// Only requests of this key, by its name
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
        /// Only requests of this feature
        #[arg(long, value_name = "NAME")]
        feature: Option<String>,
        /// Only requests that this tier answered, or failed before another did
        #[arg(long, value_name = "NAME")]
        tier: Option<String>,
        /// Only requests with this outcome: running, answered, failed, broken, abandoned
        #[arg(long, value_name = "OUTCOME")]
        outcome: Option<String>,
        /// The largest number of requests, from 1 to 1000
        #[arg(long, value_name = "REQUESTS", default_value_t = 20)]
        limit: u16,
    },
    /// Explain a request: its outcome, and each attempt with its reason
    Explain {
        /// The request's id, as its answer has it in x-steadfast-request-id
        id: String,
    },
    /// List the tiers: circuits with time, reason and next probe; forced and drained tiers; pinned levels
    Tiers,
    /// Force a tier's circuit open: the gateway sends it nothing
    Open {
        #[arg(value_name = NAME)]
        tier: String,
    },
    /// Force a tier's circuit closed: the gateway sends it requests despite failures
    Close {
        #[arg(value_name = NAME)]
        tier: String,
    },
    /// Let a tier's circuit decide by itself again
    Auto {
        #[arg(value_name = NAME)]
        tier: String,
    },
    /// Send no new requests to a tier; those in flight finish
    Drain {
        #[arg(value_name = NAME)]
        tier: String,
    },
    /// Send requests to a tier again
    Undrain {
        #[arg(value_name = NAME)]
        tier: String,
    },
    /// Pin a level of service, from 1 (full) to 5 (a fixed sentence); `none` unpins it
    Level {
        #[arg(value_parser = level, value_name = "LEVEL|none")]
        level: Pin,
        /// Pin it for this feature only [default: all features]
        #[arg(long, value_name = "NAME")]
        feature: Option<String>,
    },
    /// Forget the cache's answers, of one feature or all; or everything kept of a caller or a session
    Forget {
        /// The feature whose answers to forget
        #[arg(long, value_name = "NAME", conflicts_with_all = ["tenant", "session"])]
        feature: Option<String>,
        /// The caller (a gateway's key, by name) to forget: cached answers, those under idempotency keys, and tasks for
        /// people
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// The session to forget; with --tenant, that caller's only
        #[arg(long, value_name = "NAME")]
        session: Option<String>,
    },
    /// Reload the configuration's file
    Reload,
}

/// A level, or none to unpin.
#[derive(Clone, Copy)]
struct Pin(Option<u8>);

fn level(text: &str) -> Result<Pin, String> {
    match text {
        "none" => Ok(Pin(None)),
        _ => text.parse().map(|level| Pin(Some(level))).map_err(|_| "a level is a number from 1 to 5, or none".into()),
    }
}

impl Admin {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let gateway = match self.order.is_query_of_callers() {
            true => Remote::reading(self.url, &self.key_env)?,
            false => Remote::of(self.url, &self.key_env, "`admin: true`")?,
        };
        let (path, body) = self.order.request();
        let answer = gateway.ask(&path, body).await?;
        let text = if self.json { terminal::json(&answer) } else { self.order.text(&answer) };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }
}

impl Order {
    /// Returns whether a caller may ask this too, without an administrator's key.
    fn is_query_of_callers(&self) -> bool {
        matches!(self, Self::Status | Self::Requests { .. } | Self::Explain { .. })
    }

    /// Returns the path and the body; no body for a query.
    fn request(&self) -> (String, Option<Value>) {
        let circuit = |tier: &str, action| (tier_path(tier, "circuit"), Some(json!({ "action": action })));
        let drain = |tier: &str, drained: bool| (tier_path(tier, "drain"), Some(json!({ "drained": drained })));
        match self {
            Self::Status => ("/status".to_owned(), None),
            Self::Requests { key, feature, tier, outcome, limit } => {
                let mut path = format!("/requests?limit={limit}");
                for (name, value) in [("key", key), ("feature", feature), ("tier", tier), ("outcome", outcome)] {
                    if let Some(value) = value {
                        path += &format!("&{name}={}", escaped(value));
                    }
                }
                (path, None)
            }
            Self::Explain { id } => (format!("/requests/{}", escaped(id)), None),
            Self::Tiers => ("/admin/tiers".to_owned(), None),
            Self::Open { tier } => circuit(tier, "open"),
            Self::Close { tier } => circuit(tier, "close"),
            Self::Auto { tier } => circuit(tier, "auto"),
            Self::Drain { tier } => drain(tier, true),
            Self::Undrain { tier } => drain(tier, false),
            Self::Level { level: Pin(level), feature: None } => {
                ("/admin/level".to_owned(), Some(json!({ "level": level })))
            }
            Self::Level { level: Pin(level), feature } => {
                ("/admin/level".to_owned(), Some(json!({ "level": level, "feature": feature })))
            }
            Self::Forget { feature: None, tenant: Some(tenant), session: None } => {
                ("/admin/forget".to_owned(), Some(json!({ "tenant": tenant })))
            }
            Self::Forget { feature: None, tenant: None, session: Some(session) } => {
                ("/admin/forget".to_owned(), Some(json!({ "session": session })))
            }
            Self::Forget { feature: None, tenant: Some(tenant), session: Some(session) } => {
                ("/admin/forget".to_owned(), Some(json!({ "tenant": tenant, "session": session })))
            }
            Self::Forget { feature, .. } => {
                let body = feature.as_ref().map_or_else(|| json!({}), |feature| json!({ "feature": feature }));
                ("/admin/cache/forget".to_owned(), Some(body))
            }
            Self::Reload => ("/admin/reload".to_owned(), Some(json!({}))),
        }
    }

    /// Returns the answer for people.
    fn text(&self, answer: &Value) -> String {
        terminal::printable(&self.raw_text(answer)).into_owned()
    }

    fn raw_text(&self, answer: &Value) -> String {
        let list = |field: &str| {
            let names: Vec<&str> = answer[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        match self {
            Self::Status => show::status(answer),
            Self::Requests { .. } => show::requests(answer),
            Self::Explain { .. } => show::request(answer),
            Self::Tiers => {
                let tiers = answer["tiers"].as_array().map_or(&[][..], Vec::as_slice);
                let by_hand = |tier: &Value| tier["drained"] == true || tier["forced"].is_string();
                let pinned = answer["pinnedLevel"].is_u64()
                    || answer["pinnedFeatures"].as_object().is_some_and(|pins| !pins.is_empty());
                let idle = match &*list("idleOrders") {
                    "none" => String::new(),
                    orders => format!("orders that hold nothing here: {orders}\n"),
                };
                let has_orders = pinned || !idle.is_empty() || tiers.iter().any(by_hand);
                let note = if has_orders { reach(answer) } else { String::new() };
                table(tiers) + &pins(answer) + &idle + &note
            }
            Self::Level { .. } => unchanged(answer).to_owned() + &pins(answer) + &reach(answer),
            Self::Forget { tenant, session, .. } if tenant.is_some() || session.is_some() => {
                format!(
                    "answers forgotten: {}, besides the cache's\ntasks forgotten: {}\n",
                    answer["answers"], answer["tasks"]
                )
            }
            Self::Forget { .. } => format!("forgotten: {}\nstill kept: {}\n", answer["forgotten"], answer["kept"]),
            Self::Reload => {
                format!(
                    "tiers kept: {}\ntiers removed: {}\nchanged: {}\n",
                    list("kept"),
                    list("removed"),
                    list("settings")
                )
            }
            // An order about a tier that is gone was taken back.
            _ if answer["tier"].is_null() => unchanged(answer).to_owned() + &reach(answer),
            _ => unchanged(answer).to_owned() + &table(std::slice::from_ref(&answer["tier"])) + &reach(answer),
        }
    }
}

fn unchanged(answer: &Value) -> &'static str {
    if answer["changed"] == false { "Nothing changed.\n" } else { "" }
}

/// Returns the processes in which an order holds, in the gateway's own words.
fn reach(answer: &Value) -> String {
    answer["scopeNote"].as_str().map(|note| format!("{note}\n")).unwrap_or_default()
}

fn table(tiers: &[Value]) -> String {
    let mut table =
        Table::new(["tier", "level", "circuit", "by hand", "since", "why", "until", "failures", "in flight"]);
    for tier in tiers {
        let text = |field: &str| match &tier[field] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let drained = if tier["drained"] == true { "drained" } else { "" };
        let forced = tier["forced"].as_str().map(|forced| format!("forced {forced}")).unwrap_or_default();
        let by_hand: Vec<&str> = [drained, &forced].into_iter().filter(|said| !said.is_empty()).collect();
        let by_hand = if by_hand.is_empty() { "-".to_owned() } else { by_hand.join(", ") };
        let [name, level, circuit] = ["name", "level", "circuit"].map(text);
        let [since, why, until, failures, in_flight] = ["since", "reason", "until", "failures", "inFlight"].map(text);
        let deployments = tier["deployments"].as_array().into_iter().flatten();
        let deployments: Vec<_> = deployments.map(|deployment| deployment_row(&name, deployment)).collect();
        table.row([name, level, circuit, by_hand, since, why, until, failures, in_flight]);
        deployments.into_iter().for_each(|row| table.row(row));
    }
    table.to_string()
}

/// Returns the row of a deployment, below its tier's.
fn deployment_row(tier: &str, deployment: &Value) -> [String; 9] {
    let text = |field: &str| match &deployment[field] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let drained = deployment["drained"] == true;
    let by_hand = match deployment["forced"].as_str() {
        Some(forced) if drained => format!("drained, forced {forced}"),
        Some(forced) => format!("forced {forced}"),
        None if drained => "drained".to_owned(),
        None => "-".to_owned(),
    };
    let none = || "-".to_owned();
    let why = match text("availability") {
        serving if serving == "serving" => none(),
        why => why,
    };
    let name = format!("{tier}/{}", text("name"));
    [name, none(), text("circuit"), by_hand, none(), why, text("until"), text("failed"), text("inFlight")]
}

fn pins(answer: &Value) -> String {
    let mut text = match answer["pinnedLevel"].as_u64() {
        Some(level) => format!("pinned: level {level} for all"),
        None => "pinned: no level for all".to_owned(),
    };
    for (feature, level) in answer["pinnedFeatures"].as_object().into_iter().flatten() {
        let _ = write!(text, ", {level} for {feature}");
    }
    text + "\n"
}

/// Returns a path of a tier, whose name may contain any character.
fn tier_path(tier: &str, what: &str) -> String {
    format!("/admin/tiers/{}/{what}", escaped(tier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_piece_of_a_path_whatever_is_in_it() {
        assert_eq!(tier_path("gpt-4o", "drain"), "/admin/tiers/gpt-4o/drain");
        assert_eq!(tier_path("a/b ?ü", "circuit"), "/admin/tiers/a%2Fb%20%3F%C3%BC/circuit");
        assert_eq!(tier_path("..", "drain"), "/admin/tiers/%2E%2E/drain");
    }

    #[test]
    fn none_unpins_and_words_are_no_level() {
        assert_eq!(level("none").map(|Pin(level)| level), Ok(None));
        assert_eq!(level("3").map(|Pin(level)| level), Ok(Some(3)));
        assert!(level("low").is_err() && level("-1").is_err());
    }
}
