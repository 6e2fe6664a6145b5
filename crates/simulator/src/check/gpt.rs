//! The differences between OpenAI's models in the requests that they refuse.
//!
//! Sources: OpenAI's reference of Chat Completions, its guides "Reasoning models" and "Using the latest model"
//! (parameters and efforts that go together), the pages of the models (largest outputs), as of November 2026. The texts
//! are as recorded, or as reported in their users' issues (tmc/langchaingo 1355, davidmigloz/langchain_dart 712,
//! livekit/agents 3966).

use serde_json::Value;

use super::{CheckResult, list, text, wrong};

/// A model's relation to reasoning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It answers at once.
    Plain,
    /// `o1`, `o3`, `o4-mini`.
    O,
    /// GPT-5, with the digit after the point.
    Five(u32),
}

fn named(model: &str) -> Option<(Kind, &str)> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let kind = if let Some(version) = name.strip_prefix("gpt-5") {
        let minor = version.strip_prefix('.').and_then(|rest| rest.split('-').next()?.parse().ok());
        if name.contains("chat") { Kind::Plain } else { Kind::Five(minor.unwrap_or(0)) }
    } else if name.starts_with("gpt-4") || name.starts_with("gpt-3.5") || name.starts_with("chatgpt-") {
        Kind::Plain
    } else if ["o1", "o3", "o4"].iter().any(|line| name == *line || name.starts_with(&format!("{line}-"))) {
        Kind::O
    } else {
        return None;
    };
    Some((kind, name))
}

fn largest(kind: Kind, name: &str) -> u64 {
    match kind {
        Kind::Five(_) => 128_000,
        Kind::O => 100_000,
        Kind::Plain if name.starts_with("gpt-4.1") => 32_768,
        Kind::Plain if name == "gpt-4o-2024-05-13" => 4_096,
        Kind::Plain if name.starts_with("gpt-4o") || name.starts_with("gpt-5") || name.starts_with("chatgpt-") => {
            16_384
        }
        Kind::Plain if name == "gpt-4" || name.starts_with("gpt-4-0") => 8_192,
        Kind::Plain => 4_096,
    }
}

fn efforts(kind: Kind, name: &str) -> &'static [&'static str] {
    match kind {
        Kind::Plain => &[],
        Kind::O => &["low", "medium", "high"],
        Kind::Five(0) if name.starts_with("gpt-5-pro") => &["high"],
        Kind::Five(0) => &["minimal", "low", "medium", "high"],
        Kind::Five(1) => &["none", "low", "medium", "high"],
        Kind::Five(2..=4) => &["none", "low", "medium", "high", "xhigh"],
        Kind::Five(_) => &["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    }
}

pub(super) fn examine(model: &str, body: &Value) -> CheckResult {
    let Some((kind, name)) = named(model) else { return Ok(()) };
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    effort(kind, name, given("reasoning_effort"))?;
    if kind != Kind::Plain {
        reasoning(kind, name, body)?;
    }
    let most = largest(kind, name);
    for field in ["max_tokens", "max_completion_tokens"] {
        if let Some(asked) = body[field].as_u64().filter(|asked| *asked > most) {
            let words = format!(
                "{field} is too large: {asked}. This model supports at most {most} completion tokens, whereas you provided \
                 {asked}."
            );
            return Err(wrong("max_tokens", words));
        }
    }
    let is_new = matches!(kind, Kind::Five(_));
    if !is_new && let Some(verbosity) = given("verbosity").filter(|value| *value != "medium") {
        let words = "with this model. Supported values are: 'medium'.";
        return Err(wrong(
            "verbosity",
            format!("Unsupported value: 'verbosity' does not support {} {words}", said(verbosity)),
        ));
    }
    if given("web_search_options").is_some() && !name.contains("search") {
        return Err(wrong("web_search_options", "Web search options not supported with this model."));
    }
    audio(name, body)
}

/// Checks a request of Responses. Its settings have other names and places, and some of its refusals other words.
pub(super) fn examine_responses(model: &str, body: &Value) -> CheckResult {
    let Some((kind, name)) = named(model) else { return Ok(()) };
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let unsupported =
        |path: &'static str| wrong(path, format!("Unsupported parameter: '{path}' is not supported with this model."));
    let asked = body["reasoning"].get("effort").filter(|effort| !effort.is_null());
    if let Some(asked) = asked {
        if kind == Kind::Plain {
            return Err(unsupported("reasoning.effort"));
        }
        let known = efforts(kind, name);
        if !asked.as_str().is_some_and(|asked| known.contains(&asked)) {
            let words = format!("with the '{name}' model. Supported values are: {}.", listed(known));
            return Err(wrong(
                "reasoning.effort",
                format!("Unsupported value: {} is not supported {words}", said(asked)),
            ));
        }
    }
    let most = largest(kind, name);
    if let Some(asked) = body["max_output_tokens"].as_u64().filter(|asked| *asked > most) {
        let words = format!("Expected a value <= {most}, but got {asked} instead.");
        return Err(wrong(
            "max_output_tokens",
            format!("Invalid 'max_output_tokens': integer above maximum value. {words}"),
        ));
    }
    let is_new = matches!(kind, Kind::Five(_));
    if let Some(verbosity) = body["text"].get("verbosity").filter(|value| !value.is_null() && *value != "medium")
        && !is_new
    {
        let words = format!("with the '{name}' model. Supported values are: 'medium'.");
        return Err(wrong(
            "text.verbosity",
            format!("Unsupported value: {} is not supported {words}", said(verbosity)),
        ));
    }
    if kind == Kind::Plain || at_rest(kind, asked.and_then(Value::as_str).unwrap_or_default()) {
        return Ok(());
    }
    for name in ["temperature", "top_p"] {
        if given(name).is_some_and(|value| value.as_f64() != Some(1.0)) {
            return Err(unsupported(name));
        }
    }
    if given("top_logprobs").is_some_and(|value| *value != 0) {
        return Err(unsupported("top_logprobs"));
    }
    Ok(())
}

/// Formats a value as OpenAI does.
fn said(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}

fn listed(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
    match values.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{}, and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn effort(kind: Kind, name: &str, effort: Option<&Value>) -> CheckResult {
    let Some(effort) = effort else { return Ok(()) };
    if kind == Kind::Plain {
        return Err(wrong("body", "Unrecognized request argument supplied: reasoning_effort"));
    }
    let known = efforts(kind, name);
    if effort.as_str().is_some_and(|effort| known.contains(&effort)) {
        return Ok(());
    }
    let words = format!("with this model. Supported values are: {}.", listed(known));
    Err(wrong(
        "reasoning_effort",
        format!("Unsupported value: 'reasoning_effort' does not support {} {words}", said(effort)),
    ))
}

/// Checks the parameters that reasoning models treat differently.
fn reasoning(kind: Kind, name: &str, body: &Value) -> CheckResult {
    let unsupported = |name: &'static str| {
        let instead = if name == "max_tokens" { " Use 'max_completion_tokens' instead." } else { "" };
        Err(wrong(name, format!("Unsupported parameter: '{name}' is not supported with this model.{instead}")))
    };
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    if given("max_tokens").is_some() {
        return unsupported("max_tokens");
    }
    // The older ones accept it, as recorded.
    let is_older = kind == Kind::O && (name.starts_with("o1") || name.starts_with("o3-mini"));
    if given("stop").is_some() && !is_older {
        return unsupported("stop");
    }
    if given("logit_bias").and_then(Value::as_object).is_some_and(|bias| !bias.is_empty()) {
        return unsupported("logit_bias");
    }
    for name in ["presence_penalty", "frequency_penalty"] {
        if given(name).is_some_and(|value| value.as_f64() != Some(0.0)) {
            return unsupported(name);
        }
    }
    if kind == Kind::O && given("parallel_tool_calls").is_some() {
        return unsupported("parallel_tool_calls");
    }
    if given("prediction").is_some() {
        return unsupported("prediction");
    }
    if at_rest(kind, text(body, "reasoning_effort")) {
        return Ok(());
    }
    if let Some(temperature) = given("temperature").filter(|value| value.as_f64() != Some(1.0)) {
        let words = "with this model. Only the default (1) value is supported.";
        let message = format!("Unsupported value: 'temperature' does not support {temperature} {words}");
        return Err(wrong("temperature", message));
    }
    if given("top_p").is_some_and(|value| value.as_f64() != Some(1.0)) {
        return unsupported("top_p");
    }
    if given("logprobs").is_some_and(|value| value == true) {
        return unsupported("logprobs");
    }
    if given("top_logprobs").is_some() {
        return unsupported("top_logprobs");
    }
    Ok(())
}

/// Returns true if the model does not reason with this effort; it then samples like any other.
fn at_rest(kind: Kind, effort: &str) -> bool {
    match kind {
        Kind::Five(1..=4) => matches!(effort, "" | "none"),
        Kind::Five(minor) => minor > 0 && effort == "none",
        _ => false,
    }
}

/// Refuses sound, except for models named for it.
fn audio(name: &str, body: &Value) -> CheckResult {
    if name.contains("audio") {
        return Ok(());
    }
    if list(body, "modalities").iter().any(|kind| kind == "audio") {
        return Err(wrong("modalities", "Invalid value: 'audio'. Supported values are: 'text'."));
    }
    for (place, message) in list(body, "messages").iter().enumerate() {
        if list(message, "content").iter().any(|part| part["type"] == "input_audio") {
            let words = "Content blocks are expected to be either text or image_url type.";
            return Err(wrong("messages", format!("Invalid 'messages[{place}]'. {words}")));
        }
    }
    Ok(())
}
