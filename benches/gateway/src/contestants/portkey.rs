//! Portkey's gateway: one Node process; the two providers are named in a header of each request, as it wants them.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{Gateway, LIMIT, Surroundings, installed};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "openai")
}

pub(super) fn translated_back(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "anthropic")
}

fn of(surroundings: &Surroundings, provider: &str) -> Result<Gateway, String> {
    let package = surroundings.gateways.join("portkey/node_modules/@portkey-ai/gateway");
    let program = installed(package.join("build/start-server.js"))?;
    let manifest = fs::read_to_string(package.join("package.json")).map_err(|error| error.to_string())?;
    let manifest: Value = serde_json::from_str(&manifest).map_err(|error| error.to_string())?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let target =
        |address| json!({"provider": provider, "custom_host": format!("http://{address}/v1"), "api_key": "sk-load"});
    let config = json!({
        "strategy": {"mode": "fallback", "on_status_codes": [408, 429, 500, 502, 503, 504]},
        "request_timeout": LIMIT.as_millis() as u64,
        "targets": [target(primary), target(backup)],
    });
    let mut command = Command::new("node");
    command.arg(program).arg(format!("--port={}", listen.port())).arg("--headless");
    command.env("NODE_ENV", "production").env("TRUSTED_CUSTOM_HOSTS", "127.0.0.1,localhost");
    let mut target = surroundings.target(Dialect::OpenAi, "gpt-4o-mini");
    target.headers.push(("x-portkey-config", config.to_string()));
    let version = format!("@portkey-ai/gateway {}", manifest["version"].as_str().unwrap_or("?"));
    Ok(Gateway { version, command, target, says: None })
}
