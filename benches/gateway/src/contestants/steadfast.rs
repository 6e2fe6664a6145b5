//! steadfast with its defaults: circuits, retries, records, metrics and the status page are on; but 1000 requests at
//! once, for the default of 100 would refuse a part of 128 callers, and the limit of silence that all have. The runtime
//! takes as many threads as the process has cores, which is one.

use std::process::Command;

use super::{Gateway, LIMIT, Surroundings, installed, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::OpenAi, Dialect::OpenAi)
}

pub(super) fn anthropic(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Anthropic, Dialect::Anthropic)
}

pub(super) fn translated(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Anthropic, Dialect::OpenAi)
}

pub(super) fn translated_back(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::OpenAi, Dialect::Anthropic)
}

pub(super) fn responses(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Responses, Dialect::Responses)
}

pub(super) fn responses_to_messages(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Responses, Dialect::Anthropic)
}

pub(super) fn responses_to_chat(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Responses, Dialect::OpenAi)
}

pub(super) fn responses_to_gemini(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Responses, Dialect::Gemini)
}

pub(super) fn messages_to_responses(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Anthropic, Dialect::Responses)
}

pub(super) fn chat_to_responses(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::OpenAi, Dialect::Responses)
}

pub(super) fn embeddings(surroundings: &Surroundings) -> Result<Gateway, String> {
    of(surroundings, Dialect::Embeddings, Dialect::Embeddings)
}

/// One whose caller and whose providers speak these dialects.
fn of(surroundings: &Surroundings, caller: Dialect, provider: Dialect) -> Result<Gateway, String> {
    let program = installed(surroundings.steadfast.clone())?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let (provider, base, model) = match provider {
        Dialect::OpenAi => ("openai", "/v1", "gpt-4o-mini"),
        Dialect::Responses => ("openai, api: responses", "/v1", "gpt-4o-mini"),
        Dialect::Anthropic => ("anthropic", "", "claude-sonnet-4-5"),
        Dialect::Embeddings => ("openai", "/v1", "text-embedding-3-small"),
        Dialect::Gemini => ("gemini", "", "gemini-2.5-flash"),
    };
    let tiers = match caller {
        Dialect::Embeddings => "tiers: [{ name: chat, provider: simulated }]\nlane:\n  tiers:",
        _ => "tiers:",
    };
    let limit = LIMIT.as_secs();
    let limits = match caller {
        Dialect::Embeddings => String::new(),
        _ => format!(", timeout: {{ attempt: {limit}s, idle: {limit}s }}"),
    };
    let text = format!(
        "listen: {listen}
default_feature: {{ concurrency: 1000 }}
{tiers}
  - {{ name: primary, provider: {provider}, model: {model}, base_url: \"http://{primary}{base}\", api_key: \"${{LOAD_KEY}}\"{limits} }}
  - {{ name: backup, provider: {provider}, model: {model}, base_url: \"http://{backup}{base}\", api_key: \"${{LOAD_KEY}}\"{limits} }}
"
    );
    let file = surroundings.write("steadfast.yaml", &text)?;
    let said = version(&program, &["--version"])?;
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(file).env("LOAD_KEY", "sk-load");
    Ok(Gateway { version: said, command, target: surroundings.target(caller, model), says: None })
}
