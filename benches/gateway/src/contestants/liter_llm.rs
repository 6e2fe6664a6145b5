//! liter-llm's proxy: two deployments of one model with the strategy `fallback`, its policy against private addresses
//! off. No cooldown, which is for both deployments together: while it lasts, every request fails.

use std::process::Command;

use super::{Gateway, LIMIT, Surroundings, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "openai/gpt-4o-mini")
}

pub(super) fn translated_back(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "anthropic/claude-sonnet-4-5")
}

fn of(surroundings: &Surroundings, model: &str) -> Result<Gateway, String> {
    let program = installed(surroundings.gateways.join("liter-llm/bin/liter-llm"))?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let deployment = |address| {
        format!(
            "[[models]]
name = \"gpt-4o-mini\"
provider_model = \"{model}\"
api_key = \"sk-load\"
base_url = \"http://{address}/v1\"
timeout_secs = {}

",
            LIMIT.as_secs()
        )
    };
    let text = format!(
        "[general]
master_key = \"sk-load\"
max_retries = 0

{}{}[routing]
strategy = \"fallback\"

[security]
outbound_policy = \"off\"
",
        deployment(primary),
        deployment(backup)
    );
    let file = surroundings.write("liter-llm.toml", &text)?;
    let said = version(&program, &["--version"])?;
    let mut command = Command::new(program);
    let port = listen.port().to_string();
    command.args(["api", "--host", "127.0.0.1", "--port", &port, "--config"]).arg(file);
    command.env("RUST_LOG", "warn").env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    Ok(Gateway { version: said, command, target: surroundings.target(Dialect::OpenAi, "gpt-4o-mini"), says: None })
}
