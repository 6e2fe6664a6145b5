//! The configurations of other programs that this crate does not read, by their keys.
//!
//! Sources, read in November 2026: the documentation of each program, and the example in its repository.

use super::super::tree::{Node, Value};

/// A program, the sign of its file, and what its user does here.
struct Program {
    name: &'static str,
    is: fn(&Node) -> bool,
    remedy: &'static str,
}

const LITELLM: &str = "the guide's page `from_litellm` has the key here for each of its keys";
const TIERS: &str =
    "write its models as `tiers: [{ name, provider, model, base_url, api_key }]` in a file of their own";
const CALLERS: &str = "it belongs to a program that calls models: set the gateway's address there, and write the models as \
                       `tiers: [{ name, provider, model, api_key }]` in a file of their own";
const CLAUDE_CODE: &str = "set `ANTHROPIC_BASE_URL` in it to the gateway's address; the models stand as `tiers` in a file of \
                           their own, or in a block `model: { primaryModel, provider, fallbackModels }` of this one";

/// The programs; of several that fit, the first one counts.
const PROGRAMS: &[Program] = &[
    Program {
        name: "LiteLLM",
        is: |file| {
            items(file, "model_list").iter().any(|it| any(it, &["litellm_params", "model_name"]))
                || any(file, &["litellm_settings", "router_settings"])
                || file.get("general_settings").is_some_and(|of| any(of, &["master_key", "database_url"]))
        },
        remedy: LITELLM,
    },
    Program {
        name: "claude-code-router",
        is: |file| {
            any(file, &["Providers", "Router"])
                || items(file, "providers").iter().any(|it| any(it, &["api_base_url", "transformer"]))
        },
        remedy: TIERS,
    },
    Program {
        name: "Claude Code",
        is: |file| {
            is_of_schema(file, "claude-code-settings")
                || any(file, &["permissions", "hooks", "apiKeyHelper", "fallbackModel", "enabledPlugins", "statusLine"])
                || file.get("env").is_some_and(|env| env.entries().iter().any(|it| it.key.starts_with("ANTHROPIC_")))
        },
        remedy: CLAUDE_CODE,
    },
    Program {
        name: "Codex",
        is: |file| {
            let own =
                ["model_providers", "model_provider", "model_reasoning_effort", "approval_policy", "sandbox_mode"];
            any(file, &own) || is_text(file, "model") && any(file, &["mcp_servers", "profiles"])
        },
        remedy: CALLERS,
    },
    Program {
        name: "opencode",
        is: |file| is_of_schema(file, "opencode.ai") || has_map(file, "provider") && is_text(file, "model"),
        remedy: CALLERS,
    },
    Program {
        name: "Portkey",
        is: |file| has_list(file, "targets") || file.get("strategy").is_some_and(|of| is_text(of, "mode")),
        remedy: TIERS,
    },
    Program {
        name: "TensorZero",
        is: |file| {
            any(file, &["functions", "metrics", "evaluations"])
                || entries(file, "models").any(|model| any(model, &["routing"]))
        },
        remedy: TIERS,
    },
    Program { name: "Helicone", is: |file| any(file, &["routers", "helicone", "cache-store"]), remedy: TIERS },
    Program {
        name: "Bifrost",
        is: |file| {
            any(file, &["config_store", "vector_store", "logs_store"])
                || entries(file, "providers").any(|provider| any(provider, &["keys", "network_config"]))
        },
        remedy: TIERS,
    },
    Program {
        name: "one-api or new-api",
        is: |file| has_list(file, "channels") || items(file, "data").iter().any(|it| any(it, &["model_mapping"])),
        remedy: TIERS,
    },
    Program {
        name: "CLIProxyAPI",
        is: |file| {
            any(file, &["claude-api-key", "gemini-api-key", "codex-api-key", "openai-compatibility", "auth-dir"])
        },
        remedy: TIERS,
    },
    Program { name: "llama-swap", is: |file| entries(file, "models").any(|model| any(model, &["cmd"])), remedy: TIERS },
    Program { name: "LibreChat", is: |file| has_map(file, "endpoints"), remedy: CALLERS },
    Program {
        name: "Continue",
        is: |file| items(file, "models").iter().any(|model| any(model, &["roles", "apiBase"])),
        remedy: CALLERS,
    },
    Program { name: "Kong", is: |file| any(file, &["_format_version"]), remedy: TIERS },
    Program { name: "agentgateway", is: |file| has_list(file, "binds"), remedy: TIERS },
    Program { name: "Kubernetes", is: |file| is_text(file, "apiVersion") && is_text(file, "kind"), remedy: TIERS },
    Program {
        name: "Docker Compose",
        is: |file| has_map(file, "services"),
        remedy: "the file with `tiers` is another one",
    },
];

/// Returns the program whose file this is, and what to do, in a sentence; `None` for a file of this crate's.
pub(in crate::import) fn sentence(file: &Node) -> Option<String> {
    if any(file, &["tiers", "lane"]) {
        return None;
    }
    let comment = file.entries().iter().find(|entry| entry.key.starts_with("//") || entry.key.starts_with("/*"));
    if comment.is_some() {
        return Some("the file has comments that begin with `//`; here they begin with `#`".to_owned());
    }
    let program = PROGRAMS.iter().find(|program| (program.is)(file))?;
    Some(format!("this is a configuration of {}, not of steadfast: {}", program.name, program.remedy))
}

fn any(file: &Node, keys: &[&str]) -> bool {
    keys.iter().any(|key| file.get(key).is_some())
}

fn items<'a>(file: &'a Node, key: &str) -> &'a [Node] {
    file.get(key).map_or(&[], Node::items)
}

fn entries<'a>(file: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    file.get(key).map_or(&[][..], Node::entries).iter().map(|entry| &entry.value)
}

fn has_list(file: &Node, key: &str) -> bool {
    file.get(key).is_some_and(|node| matches!(node.value, Value::List(_)))
}

fn has_map(file: &Node, key: &str) -> bool {
    file.get(key).is_some_and(|node| matches!(node.value, Value::Map(_)))
}

fn is_text(file: &Node, key: &str) -> bool {
    file.get(key).is_some_and(|node| matches!(node.value, Value::Text(_) | Value::Untyped(_)))
}

fn is_of_schema(file: &Node, word: &str) -> bool {
    file.get("$schema").is_some_and(|node| matches!(&node.value, Value::Text(text) if text.contains(word)))
}
