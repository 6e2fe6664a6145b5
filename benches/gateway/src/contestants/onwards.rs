//! onwards: two providers of one alias by priority, with its fallback on.

use std::process::Command;

use serde_json::json;

use super::{Gateway, LIMIT, Surroundings, free_port, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    let program = installed(surroundings.gateways.join("onwards/bin/onwards"))?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let provider = |address| json!({ "url": format!("http://{address}"), "onwards_key": "sk-load" });
    let text = json!({
        "targets": { "gpt-4o-mini": {
            "strategy": "priority",
            "fallback": {
                "enabled": true,
                "on_status": [429, 5],
                "on_rate_limit": true,
                "first_token_timeout_ms": LIMIT.as_millis() as u64,
            },
            "providers": [provider(primary), provider(backup)],
        } },
        "http_pool": { "max_idle_per_host": 512, "idle_timeout_secs": 600 },
    });
    let file = surroundings.write("onwards.json", &text.to_string())?;
    let said = version(&program, &["--version"])?;
    let metrics = free_port().map_err(|error| error.to_string())?.port().to_string();
    let mut command = Command::new(program);
    command.arg("--targets").arg(file);
    command.args(["--port", &listen.port().to_string(), "--metrics-port", &metrics]).env("RUST_LOG", "error");
    Ok(Gateway { version: said, command, target: surroundings.target(Dialect::OpenAi, "gpt-4o-mini"), says: None })
}
