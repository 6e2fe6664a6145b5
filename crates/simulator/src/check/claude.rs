//! The differences between Claude models in the requests that they refuse.
//!
//! Sources: Anthropic's pages "Troubleshooting thinking" (the table of models), "Effort", "Structured outputs", "What's
//! new in Claude Opus 5.5", "What's new in Claude Opus 5" and the migration guides to 4.6, 4.7, Sonnet 5 and Opus 5,
//! and the models overview, as of November 2026. The texts are those pages' or were reported in their users' issues
//! (BerriAI/litellm 15097, NousResearch/hermes-agent 11137).

use serde_json::Value;

use super::{CheckResult, list, text, wrong};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Haiku,
    Sonnet,
    Opus,
    /// Fable and Mythos, which always think.
    Fable,
}

#[derive(Clone, Copy)]
struct Claude {
    line: Line,
    version: (u32, u32),
}

impl Claude {
    /// Parses `claude-sonnet-4-5-20250929`, `claude-3-5-haiku-latest`; returns `None` for an unknown model.
    fn named(model: &str) -> Option<Self> {
        let (_, name) = model.split_once("claude-")?;
        let (mut line, mut numbers) = (None, Vec::new());
        for word in name.split(['-', '.', '@', ':']) {
            match word {
                "haiku" => line = Some(Line::Haiku),
                "sonnet" => line = Some(Line::Sonnet),
                "opus" => line = Some(Line::Opus),
                "fable" | "mythos" => line = Some(Line::Fable),
                number if number.len() <= 2 => numbers.extend(number.parse::<u32>().ok()),
                _ => {}
            }
        }
        let version = (*numbers.first()?, numbers.get(1).copied().unwrap_or(0));
        Some(Self { line: line?, version })
    }

    fn is_since(self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// Returns true if it always thinks, by its own measure.
    fn always_thinks(self) -> bool {
        self.line == Line::Fable || (self.line == Line::Opus && self.is_since(5, 5))
    }

    /// Returns true if it cannot be forced to call a tool.
    fn refuses_forced_tools(self) -> bool {
        match self.line {
            Line::Fable => self.is_since(5, 1),
            Line::Opus => self.is_since(5, 5),
            _ => false,
        }
    }

    /// Returns the largest `max_tokens`.
    fn largest(self) -> u64 {
        match (self.line, self.version) {
            (_, (..=3, ..=4)) => 4_096,
            (_, (..=3, 5)) => 8_192,
            (Line::Opus, (4, ..=1)) => 32_000,
            (_, (..=4, ..=5)) => 64_000,
            _ => 128_000,
        }
    }

    fn efforts(self) -> &'static [&'static str] {
        const ALL: &[&str] = &["low", "medium", "high", "xhigh", "max"];
        match (self.line, self.version) {
            (Line::Opus, (4, 5)) => &ALL[..3],
            (_, (4, 6)) => &["low", "medium", "high", "max"],
            _ if self.is_since(4, 7) => ALL,
            _ => &[],
        }
    }
}

pub(super) fn examine(model: &str, body: &Value) -> CheckResult {
    let Some(claude) = Claude::named(model) else { return Ok(()) };
    output(claude, model, body)?;
    sampling(claude, body)?;
    thinking(claude, body)?;
    effort(claude, body)?;
    turns(claude, body)
}

fn output(claude: Claude, model: &str, body: &Value) -> CheckResult {
    let most = claude.largest();
    match body["max_tokens"].as_u64() {
        Some(asked) if asked > most => {
            let words = "which is the maximum allowed number of output tokens for";
            Err(wrong("max_tokens", format!("max_tokens: {asked} > {most}, {words} {model}")))
        }
        _ => Ok(()),
    }
}

fn sampling(claude: Claude, body: &Value) -> CheckResult {
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    if claude.is_since(4, 1) && given("temperature").is_some() && given("top_p").is_some() {
        let words = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
        return Err(wrong("temperature", words));
    }
    if !claude.is_since(4, 7) {
        return Ok(());
    }
    // A default value passes.
    let is_default = |name: &str, value: &Value| match name {
        "temperature" => value.as_f64() == Some(1.0),
        "top_p" => value.as_f64().is_some_and(|mass| mass >= 0.99),
        _ => false,
    };
    for name in ["temperature", "top_p", "top_k"] {
        if given(name).is_some_and(|value| !is_default(name, value)) {
            return Err(wrong("temperature", format!("`{name}` is deprecated for this model.")));
        }
    }
    Ok(())
}

fn thinking(claude: Claude, body: &Value) -> CheckResult {
    let kind = text(&body["thinking"], "type");
    let instead = "is not supported for this model. Use \"thinking.type.adaptive\" and \"output_config.effort\" to control thinking \
         behavior.";
    let effort = text(&body["output_config"], "effort");
    let refused = match kind {
        "enabled" => claude.is_since(4, 7),
        // Sonnet 5.5 has `between_tools` instead.
        "disabled" => {
            claude.always_thinks()
                || (claude.line == Line::Sonnet && claude.is_since(5, 5))
                || (claude.is_since(5, 0) && matches!(effort, "xhigh" | "max"))
        }
        _ => false,
    };
    if refused {
        return Err(wrong("thinking", format!("\"thinking.type.{kind}\" {instead}")));
    }
    if kind == "adaptive" && !claude.is_since(4, 6) {
        return Err(wrong("thinking", "adaptive thinking is not supported on this model"));
    }
    if matches!(kind, "enabled" | "adaptive") && !claude.is_since(3, 7) {
        return Err(wrong("thinking", "thinking is not supported on this model"));
    }
    if claude.refuses_forced_tools() && matches!(text(&body["tool_choice"], "type"), "any" | "tool") {
        return Err(wrong("tool_choice", "tool_choice: forced tool use is not supported for this model"));
    }
    Ok(())
}

fn effort(claude: Claude, body: &Value) -> CheckResult {
    let Some(effort) = body["output_config"]["effort"].as_str() else { return Ok(()) };
    let known = claude.efforts();
    if known.is_empty() {
        return Err(wrong("output_config", "This model does not support the effort parameter."));
    }
    if known.contains(&effort) {
        return Ok(());
    }
    let words =
        format!("output_config.effort: '{effort}' is not supported by this model. Supported: {}", known.join(", "));
    Err(wrong("output_config", words))
}

fn turns(claude: Claude, body: &Value) -> CheckResult {
    let messages = list(body, "messages");
    if !claude.is_since(4, 8) && messages.iter().any(|message| message["role"] == "system") {
        let words = "messages: Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \
                     \"system\" as an input message role.";
        return Err(wrong("messages", words));
    }
    // A turn that a provider's own tool paused is sent back to continue, and is no prefill.
    let is_prefill = |last: &&Value| {
        last["role"] == "assistant"
            && match &last["content"] {
                Value::Array(blocks) => blocks.last().is_some_and(|block| block["type"] == "text"),
                content => content.is_string(),
            }
    };
    if claude.is_since(4, 6) && messages.last().as_ref().is_some_and(is_prefill) {
        let words =
            "This model does not support assistant message prefill. The conversation must end with a user message.";
        return Err(wrong("messages", words));
    }
    Ok(())
}
