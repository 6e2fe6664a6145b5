//! LiteLLM's proxy: one worker, no database, the second provider as a fallback, a minute of cooldown.

use std::process::Command;

use super::{Gateway, LIMIT, Surroundings, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::OpenAi, Dialect::OpenAi, false)
}

/// Its Rust core, which at this version serves Messages to Anthropic's API alone.
pub(super) fn rust(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Anthropic, Dialect::Anthropic, true)
}

pub(super) fn translated(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Anthropic, Dialect::OpenAi, false)
}

pub(super) fn translated_back(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::OpenAi, Dialect::Anthropic, false)
}

fn of(surroundings: &Surroundings, caller: Dialect, provider: Dialect, rust: bool) -> Result<Gateway, String> {
    let program = installed(surroundings.gateways.join("litellm/bin/litellm"))?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let (model, base) = match provider {
        Dialect::Anthropic => ("anthropic/claude-sonnet-4-5", ""),
        _ => ("openai/gpt-4o-mini", "/v1"),
    };
    let limit = LIMIT.as_secs();
    let parameters = |address| {
        format!(
            "{{ model: {model}, api_base: \"http://{address}{base}\", api_key: sk-load, rust: {rust}, \
             timeout: {limit}, stream_timeout: {limit} }}"
        )
    };
    let text = format!(
        "model_list:
  - model_name: gpt-4o-mini
    litellm_params: {}
  - model_name: backup
    litellm_params: {}
router_settings:
  num_retries: 0
  allowed_fails: 5
  cooldown_time: 60
  fallbacks: [{{ gpt-4o-mini: [backup] }}]
litellm_settings: {{ telemetry: false, set_verbose: false, use_chat_completions_url_for_anthropic_messages: true }}
",
        parameters(primary),
        parameters(backup)
    );
    let file = surroundings.write("litellm.yaml", &text)?;
    let said = version(
        &surroundings.gateways.join("litellm/bin/python"),
        &["-c", "import importlib.metadata as all; print('litellm', all.version('litellm'))"],
    )?;
    let mut command = Command::new(program);
    let port = listen.port().to_string();
    command.arg("--config").arg(file).args(["--host", "127.0.0.1", "--port", &port, "--num_workers", "1"]);
    // LiteLLM would otherwise fetch and send: nothing here leaves the machine.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_TELEMETRY", "False").env("LITELLM_LOG", "ERROR");
    // Nobody has a key here, as with the others.
    command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    command.env("LITELLM_MODE", "PRODUCTION").env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    // Beside the deployment's `rust: true`, which 1.106.0 does not read.
    command.env("LITELLM_RUST", rust.to_string());
    Ok(Gateway { version: said, command, target: surroundings.target(caller, "gpt-4o-mini"), says: None })
}
