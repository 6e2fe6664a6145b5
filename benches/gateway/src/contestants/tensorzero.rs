//! TensorZero's gateway, which its Python package carries: Rust throughout, started by six lines of Python that then
//! wait. No database; the providers of one model in order.

use std::process::Command;

use super::{Gateway, LIMIT, Surroundings, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "openai", "gpt-4o-mini")
}

pub(super) fn translated_back(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, "anthropic", "claude-sonnet-4-5")
}

/// It listens on a port of its own choice and says its address.
const START: &str = "import signal, sys, tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
open(sys.argv[2], 'w').write(gateway.base_url.split('/')[2])
signal.pause()
";

fn of(surroundings: &Surroundings, kind: &str, model: &str) -> Result<Gateway, String> {
    let python = installed(surroundings.gateways.join("tensorzero/bin/python"))?;
    let provider = |name: &str, address| {
        format!(
            "[models.gpt-4o-mini.providers.{name}]
type = \"{kind}\"
model_name = \"{model}\"
api_base = \"http://{address}/v1\"
api_key_location = \"env::LOAD_KEY\"
timeouts.non_streaming.total_ms = {limit}
timeouts.streaming.ttft_ms = {limit}
",
            limit = LIMIT.as_millis()
        )
    };
    let text = format!(
        "object_storage.type = \"disabled\"
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true
[models.gpt-4o-mini]
routing = [\"primary\", \"backup\"]
{}{}",
        provider("primary", surroundings.primary),
        provider("backup", surroundings.backup)
    );
    let file = surroundings.write("tensorzero.toml", &text)?;
    let start = surroundings.write("start.py", START)?;
    let says = surroundings.folder.join("address");
    let _ = std::fs::remove_file(&says);
    let said =
        version(&python, &["-c", "import importlib.metadata as all; print('tensorzero', all.version('tensorzero'))"])?;
    let mut command = Command::new(python);
    command.arg(start).arg(file).arg(&says).env("LOAD_KEY", "sk-load").env("RUST_LOG", "error");
    let mut target = surroundings.target(Dialect::OpenAi, "tensorzero::model_name::gpt-4o-mini");
    target.prefix = "/openai";
    Ok(Gateway { version: said, command, target, says: Some(says) })
}
