//! LiteLLM's proxy: one worker, no database, the second provider as a fallback, a minute of cooldown.

use std::process::Command;

use super::{Gateway, Surroundings, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    let program = installed(surroundings.gateways.join("litellm/bin/litellm"))?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let text = format!(
        "model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{ model: openai/gpt-4o-mini, api_base: \"http://{primary}/v1\", api_key: sk-load }}
  - model_name: backup
    litellm_params: {{ model: openai/gpt-4o-mini, api_base: \"http://{backup}/v1\", api_key: sk-load }}
router_settings:
  num_retries: 0
  allowed_fails: 5
  cooldown_time: 60
  fallbacks: [{{ gpt-4o-mini: [backup] }}]
litellm_settings: {{ telemetry: false, set_verbose: false }}
"
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
    Ok(Gateway { version: said, command, target: surroundings.target(Dialect::OpenAi, "gpt-4o-mini") })
}
