//! steadfast with its defaults: circuits, retries, records, metrics and the status page are on; but 1000 requests at
//! once, for the default of 100 would refuse a part of 128 callers. The runtime takes as many threads as the process
//! has cores, which is one.

use std::process::Command;

use super::{Gateway, Surroundings, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "openai", Dialect::OpenAi)
}

pub(super) fn anthropic(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "anthropic", Dialect::Anthropic)
}

pub(super) fn translated(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "openai", Dialect::Anthropic)
}

fn of(surroundings: &Surroundings, provider: &str, caller: Dialect) -> Result<Gateway, String> {
    let program = installed(surroundings.steadfast.clone())?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let (base, model) = match provider {
        "anthropic" => ("", "claude-sonnet-4-5"),
        _ => ("/v1", "gpt-4o-mini"),
    };
    let text = format!(
        "listen: {listen}
default_feature: {{ concurrency: 1000 }}
tiers:
  - {{ name: primary, provider: {provider}, model: {model}, base_url: \"http://{primary}{base}\", api_key: \"${{LOAD_KEY}}\" }}
  - {{ name: backup, provider: {provider}, model: {model}, base_url: \"http://{backup}{base}\", api_key: \"${{LOAD_KEY}}\" }}
"
    );
    let file = surroundings.write("steadfast.yaml", &text)?;
    let said = version(&program, &["--version"])?;
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(file).env("LOAD_KEY", "sk-load");
    Ok(Gateway { version: said, command, target: surroundings.target(caller, model) })
}
