//! `steadfast admin`: an operator's orders to a gateway that runs, over its `/admin` paths.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use steadfast::providers::{http::RequestBody, transport::HttpClient};
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::{Failure, check::table::Table};

/// Operate a gateway that runs: look at its tiers, force circuits, drain tiers, pin a level of service, forget kept answers
///
/// It needs a key with `admin: true`, which is read from the environment: on a command line others would see it. What is
/// ordered holds until it is taken back or the gateway starts again.
#[derive(Args)]
pub(crate) struct Admin {
    /// The gateway
    #[arg(long, global = true, value_name = "URL", env = "STEADFAST_URL", default_value = "http://127.0.0.1:8080")]
    url: Uri,

    /// The environment variable that has the key
    #[arg(long, global = true, value_name = "NAME", default_value = "STEADFAST_ADMIN_KEY")]
    key_env: String,

    /// Print the gateway's own answer, in JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// List the tiers: each circuit, since when and why, until when; what is forced and drained, and the pinned levels
    Tiers,
    /// Force a tier's circuit open: nothing is sent to it
    Open { tier: String },
    /// Force a tier's circuit closed: requests are sent to it however it fails
    Close { tier: String },
    /// Leave a tier's circuit to its own judgement again
    Auto { tier: String },
    /// Send no more new requests to a tier; those under way finish
    Drain { tier: String },
    /// Send requests to a tier again
    Undrain { tier: String },
    /// Pin a level of service, from 1 (full) to 5 (a fixed sentence); `none` unpins it
    Level {
        #[arg(value_parser = level, value_name = "LEVEL|none")]
        level: Pin,
        /// For this feature's requests, in place of everybody's
        #[arg(long, value_name = "NAME")]
        feature: Option<String>,
    },
    /// Forget the answers that are kept: all, or those of a feature
    Forget {
        /// The feature whose answers are forgotten
        #[arg(long, value_name = "NAME")]
        feature: Option<String>,
    },
    /// Load the configuration's file again
    Reload,
}

/// A level, or none.
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
        let key = std::env::var(&self.key_env).ok().filter(|key| !key.is_empty()).ok_or_else(|| {
            Failure::usage(format_args!("the variable {} has no key: one with `admin: true` is needed", self.key_env))
        })?;
        if self.url.scheme().is_none() || self.url.authority().is_none() {
            return Err(Failure::usage(format_args!("{}: the URL must begin with http:// or https://", self.url)));
        }
        let failed = |what: &str| Failure::Models(format!("error: {}: {what}", self.url));
        let asking = timeout(PATIENCE, self.ask(&key));
        let (status, body) = asking.await.map_err(|_| failed("no answer in time"))?.map_err(|what| failed(&what))?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK || !answer.is_object() {
            let message = answer["error"]["message"].as_str().map_or_else(
                || format!("whatever answers there is no gateway of this kind (status {})", status.as_u16()),
                str::to_owned,
            );
            return Err(failed(&message));
        }
        let text = if self.json { format!("{answer:#}\n") } else { self.order.told(&answer) };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    async fn ask(&self, key: &str) -> Result<(StatusCode, Bytes), String> {
        let (path, body) = self.order.request();
        let url = format!("{}{path}", self.url.to_string().trim_end_matches('/'));
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| "the key is no header's value")?;
        bearer.set_sensitive(true);
        let (method, body) = match body {
            None => (Method::GET, Bytes::new()),
            Some(body) => (Method::POST, body.to_string().into()),
        };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(RequestBody::from(body))
            .map_err(|error| error.to_string())?;
        let response = HttpClient::new().oneshot(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(|error| error.to_string())?;
        Ok((head.status, body.to_bytes()))
    }
}

/// How long an answer may take: a reload reads files.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 4 << 20;

impl Order {
    /// The path, and what is sent there; nothing is to be asked for.
    fn request(&self) -> (String, Option<Value>) {
        let circuit = |tier: &str, action| (of(tier, "circuit"), Some(json!({ "action": action })));
        let drain = |tier: &str, drained: bool| (of(tier, "drain"), Some(json!({ "drained": drained })));
        match self {
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
            Self::Forget { feature } => {
                let body = feature.as_ref().map_or_else(|| json!({}), |feature| json!({ "feature": feature }));
                ("/admin/cache/forget".to_owned(), Some(body))
            }
            Self::Reload => ("/admin/reload".to_owned(), Some(json!({}))),
        }
    }

    /// The answer for people.
    fn told(&self, answer: &Value) -> String {
        let list = |field: &str| {
            let names: Vec<&str> = answer[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        match self {
            Self::Tiers => table(answer["tiers"].as_array().map_or(&[][..], Vec::as_slice)) + &pins(answer),
            Self::Level { .. } => unchanged(answer).to_owned() + &pins(answer),
            Self::Forget { .. } => format!("forgotten: {}\nstill kept: {}\n", answer["forgotten"], answer["kept"]),
            Self::Reload => {
                format!("kept: {}\nchanged: {}\nremoved: {}\n", list("kept"), list("changed"), list("removed"))
            }
            _ => unchanged(answer).to_owned() + &table(std::slice::from_ref(&answer["tier"])),
        }
    }
}

fn unchanged(answer: &Value) -> &'static str {
    if answer["changed"] == false { "It was so already.\n" } else { "" }
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
        table.row([name, level, circuit, by_hand, since, why, until, failures, in_flight]);
    }
    table.to_string()
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

/// A path of a tier. Names may have anything in them.
fn of(tier: &str, what: &str) -> String {
    let mut path = "/admin/tiers/".to_owned();
    for byte in tier.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(char::from(byte)),
            _ => _ = write!(path, "%{byte:02X}"),
        }
    }
    format!("{path}/{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_piece_of_a_path_whatever_is_in_it() {
        assert_eq!(of("gpt-4o", "drain"), "/admin/tiers/gpt-4o/drain");
        assert_eq!(of("a/b ?ü", "circuit"), "/admin/tiers/a%2Fb%20%3F%C3%BC/circuit");
        assert_eq!(of("..", "drain"), "/admin/tiers/%2E%2E/drain");
    }

    #[test]
    fn none_unpins_and_words_are_no_level() {
        assert_eq!(level("none").map(|Pin(level)| level), Ok(None));
        assert_eq!(level("3").map(|Pin(level)| level), Ok(Some(3)));
        assert!(level("low").is_err() && level("-1").is_err());
    }
}
