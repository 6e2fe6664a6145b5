use bytes::Bytes;
use serde_json::{Value, json};

use super::encode::{spelled_choice, thinking_config};
use crate::{
    LlmError,
    chat::{Chat, Json},
    fields::{Object, each, is_list},
    models::{Family, UNKNOWN, gemini_generation},
    protocol::ModelChoice,
    raw_json::RawJson,
    refit::{Fields, top, with_item},
    translate::{Feature, Report, Settings, Situation, settle},
    wire::{self, foreign::FOREIGN_CALL},
};

/// Fits a request for another of the provider's models to this one; returns `None` if the bytes fit unchanged.
pub(super) fn refit(body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
    let family = asked.family;
    let raw = top(body)?;
    let mut fields = Fields::of(raw)?;
    let mut was = Chat::default();
    wire::gemini::settings(raw, &mut was)?;
    let has_tools = fields.stood("tools").is_some_and(|tools| tools.get().contains('{'));
    let settled = settle(&was, Situation { has_tools, ..Situation::default() }, family, report);
    let camel = fields.stood("generationConfig").is_some() || fields.stood("generation_config").is_none();
    let config = if camel { "generationConfig" } else { "generation_config" };
    fields.within(config, |config| settings(config, &was, &settled, family, report))?;
    if settled.tool_choice != was.tool_choice {
        fields.remove("tool_config");
        fields.put("toolConfig", settled.tool_choice.as_ref().map(spelled_choice).as_ref());
    }
    if let Some(words) = &settled.in_words {
        let part = json!({"text": words}).to_string();
        let name =
            if fields.stood("system_instruction").is_some() { "system_instruction" } else { "systemInstruction" };
        let parts = match fields.stood(name) {
            Some(system) => Object::read(system, &["parts"])?.get("parts"),
            None => None,
        };
        let parts = match parts {
            Some(list) if is_list(list) => with_item(list.get(), &part, true),
            Some(one) => format!("[{},{part}]", one.get()),
            None => format!("[{part}]"),
        };
        fields.set(name, format!("{{\"parts\":{parts}}}"));
    }
    // An unknown model of the conversation may be this one.
    let is_led = asked.before.is_some_and(|before| before.name() != UNKNOWN);
    if let Some(contents) = fields.stood("contents").filter(|contents| is_led && is_list(contents))
        && let Some(signed) = with_own_signatures(contents, gemini_generation(asked.model) >= 3)?
    {
        report.record(Feature::CallSignature);
        fields.set("contents", signed);
    }
    Ok(fields.finish().map(Bytes::from))
}

/// Returns the conversation without another model's signatures. The first call of each turn gets the stand-in for one,
/// if the model requires a signature there.
fn with_own_signatures(contents: RawJson<'_>, wants: bool) -> Result<Option<String>, LlmError> {
    let mut any = false;
    let mut turns = Vec::new();
    each(contents, |turn| {
        let mut fields = Fields::of(turn)?;
        if let Some(parts) = fields.stood("parts").filter(|parts| is_list(parts)) {
            let (mut signed, mut changed, mut list) = (false, false, Vec::new());
            each(parts, |part| {
                let mut piece = Fields::of(part)?;
                let is_call = piece.stood("functionCall").or_else(|| piece.stood("function_call")).is_some();
                let was_signed = piece.remove("thoughtSignature") | piece.remove("thought_signature");
                if is_call && wants && !signed {
                    piece.set("thoughtSignature", Value::from(FOREIGN_CALL).to_string());
                    signed = true;
                    changed = true;
                }
                changed |= was_signed;
                list.push(piece.finish().unwrap_or_else(|| part.get().to_owned()));
                Ok(())
            })?;
            if changed {
                fields.set("parts", format!("[{}]", list.join(",")));
            }
            any |= changed;
        }
        turns.push(fields.finish().unwrap_or_else(|| turn.get().to_owned()));
        Ok(())
    })?;
    Ok(any.then(|| format!("[{}]", turns.join(","))))
}

fn settings(
    config: &mut Fields<'_>,
    was: &Chat,
    settled: &Settings,
    family: &Family,
    report: &mut Report,
) -> Result<(), LlmError> {
    if !family.penalties() {
        for name in ["presencePenalty", "frequencyPenalty", "presence_penalty", "frequency_penalty"] {
            if config.remove(name) {
                report.record_field(Feature::ModelSetting, name);
            }
        }
    }
    if settled.temperature != was.temperature {
        config.put("temperature", settled.temperature.map(Value::from).as_ref());
    }
    if settled.max_tokens != was.max_tokens
        && let Some(tokens) = settled.max_tokens
    {
        config.remove("max_output_tokens");
        config.set("maxOutputTokens", tokens.to_string());
    }
    if !settled.holds_output {
        for name in ["responseMimeType", "responseSchema", "responseJsonSchema"] {
            config.remove(name);
        }
        for name in ["response_mime_type", "response_schema", "response_json_schema"] {
            config.remove(name);
        }
    }
    let name = if config.stood("thinking_config").is_some() { "thinking_config" } else { "thinkingConfig" };
    let Some(stood) = config.stood(name) else { return Ok(()) };
    let stands = Object::read(stood, &["thinkingBudget", "thinking_budget", "thinkingLevel", "thinking_level"])?;
    let budget = stands.signed("thinkingBudget").or_else(|| stands.signed("thinking_budget"));
    let level = stands.word("thinkingLevel").or_else(|| stands.word("thinking_level"));
    let wanted = thinking_config(settled.reasoning);
    let said = |name: &str| wanted.as_ref().and_then(|wanted| wanted.get(name));
    let is_same = wanted.is_some()
        && budget == said("thinkingBudget").and_then(Value::as_i64)
        && level.as_deref().map(str::to_ascii_uppercase).as_deref() == said("thinkingLevel").and_then(Value::as_str);
    if !is_same {
        // Showing thoughts does not depend on the model.
        let stands = Json::of(stood).fields();
        let shown = stands.get("includeThoughts").or_else(|| stands.get("include_thoughts")).cloned();
        let wanted = wanted.map(|mut wanted| {
            if let Some(object) = wanted.as_object_mut() {
                object.remove("includeThoughts");
                object.extend(shown.map(|shown| ("includeThoughts".to_owned(), shown)));
            }
            wanted
        });
        config.put(name, wanted.filter(|wanted| wanted.as_object().is_some_and(|object| !object.is_empty())).as_ref());
    }
    Ok(())
}
