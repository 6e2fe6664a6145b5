use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::encode::{Destination, GO_ON, spelled, spelled_choice};
use crate::{
    LlmError,
    chat::{Chat, Json, Thinking},
    fields::{Object, each, is_list, text},
    models::{Family, Sampling},
    raw_json::RawJson,
    refit::{Fields, top, with_item},
    translate::{CONTEXT, Feature, Reasoning, Report, Settings, Situation, settle, without_clearing, without_thoughts},
    wire,
};

/// Fits a request for another of the provider's models to this one; returns `None` if the bytes fit unchanged.
pub(super) fn refit(
    body: &Bytes,
    to: Destination<'_>,
    before: Option<&Family>,
    report: &mut Report,
) -> Result<Option<Bytes>, LlmError> {
    let raw = top(body)?;
    let mut fields = Fields::of(raw)?;
    let mut was = Chat::default();
    wire::anthropic::settings(raw, &mut was)?;
    // A name that no table knows does not show which model made the thoughts.
    let binds = before.is_some_and(|before| before.binds_thoughts() && !before.is_careful());
    let thoughts_go = binds || !to.family.reasons();
    let (ends, begun) = ends(fields.stood("messages"), thoughts_go)?;
    let situation = Situation {
        has_tools: fields.stood("tools").is_some_and(|tools| is_list(tools) && tools.get().contains('{')),
        is_begun: begun,
        is_thoughtless: ends,
        default_output: None,
        refuses_sampling: to.refuses_sampling,
    };
    let settled = settle(&was, situation, to.family, report);
    // The default is accepted even by models that refuse all other values, unless this version of the API refuses it.
    let default = (to.family.sampling() == Sampling::None && !to.refuses_sampling).then_some(1.0);
    fields.fit_sampling(&was, &settled, default);
    if !settled.samples && fields.remove("top_k") {
        report.record_field(Feature::ModelSetting, "top_k");
    }
    if settled.tool_choice != was.tool_choice {
        let choice = spelled_choice(settled.tool_choice.as_ref(), was.parallel_tool_calls == Some(false));
        fields.put("tool_choice", choice.as_ref());
    }
    if settled.max_tokens != was.max_tokens
        && let Some(tokens) = settled.max_tokens
    {
        fields.set("max_tokens", tokens.to_string());
    }
    if !settled.holds_output {
        fields.remove("output_format");
    }
    think(&mut fields, &was, &settled)?;
    if let Some(words) = &settled.in_words {
        let system = match fields.stood("system") {
            Some(list) if is_list(list) => {
                with_item(list.get(), &json!({"type": "text", "text": words}).to_string(), true)
            }
            other => {
                let system = other.map(text).transpose()?.flatten();
                Value::from(settled.with_words(system.as_deref())).to_string()
            }
        };
        fields.set("system", system);
    }
    messages(&mut fields, to.family, thoughts_go, begun, report)?;
    Ok(fields.finish().map(Bytes::from))
}

/// Rewrites the mode of thinking and the effort, if the model does not take the caller's.
fn think(fields: &mut Fields<'_>, was: &Chat, settled: &Settings) -> Result<(), LlmError> {
    let stood = fields.stood("thinking");
    let config = fields.stood("output_config").map(|config| Object::read(config, &["effort"])).transpose()?;
    let effort_stood = config.and_then(|config| config.word("effort").map(|word| word.into_owned()));
    let (thinking, effort) = spelled(settled.reasoning);
    let effort = match (settled.reasoning, was.thinking) {
        // An effort alone enables no thinking.
        (Reasoning::Adaptive(Some(effort)), Some(Thinking::Effort(_))) => Some(effort.name()),
        _ => effort,
    };
    let other_effort = effort_stood.as_deref() != effort;
    if fields.stood("output_config").is_some() {
        fields.within("output_config", |config| {
            if other_effort {
                config.put("effort", effort.map(Value::from).as_ref());
            }
            if !settled.holds_output {
                config.remove("format");
            }
            Ok(())
        })?;
    } else if let Some(effort) = effort.filter(|_| other_effort) {
        fields.set("output_config", json!({ "effort": effort }).to_string());
    }
    let off = matches!(settled.reasoning, Reasoning::Off(_));
    let Some(stood) = stood else {
        if off {
            fields.put("thinking", thinking.as_ref());
            clear_nothing(fields);
        }
        return Ok(());
    };
    let stands = Json::of(stood).fields();
    let is_same = |wanted: &Value| {
        stands.get("type") == wanted.get("type")
            && stands.get("budget_tokens").and_then(Value::as_u64)
                == wanted.get("budget_tokens").and_then(Value::as_u64)
    };
    match thinking {
        None => {
            fields.remove("thinking");
            clear_nothing(fields);
        }
        Some(wanted) if is_same(&wanted) => {}
        Some(mut wanted) => {
            // Showing thoughts does not depend on the model.
            let shown = stands.get("display").filter(|_| !off).cloned();
            if let (Some(shown), Some(object)) = (shown, wanted.as_object_mut()) {
                object.extend(Map::from_iter([("display".to_owned(), shown)]));
            }
            fields.set("thinking", wanted.to_string());
            if off {
                clear_nothing(fields);
            }
        }
    }
    Ok(())
}

/// Removes the edits that clear thoughts, for a model that does not think.
pub(super) fn clear_nothing(fields: &mut Fields<'_>) {
    let context = fields.stood(CONTEXT).map(|context| Value::Object(Json::of(context).fields()));
    if let Some(left) = context.as_ref().and_then(without_clearing) {
        fields.put(CONTEXT, Some(&left).filter(|left| !left.is_null()));
    }
}

fn messages(
    fields: &mut Fields<'_>,
    family: &Family,
    thoughts_go: bool,
    begun: bool,
    report: &mut Report,
) -> Result<(), LlmError> {
    let Some(stood) = fields.stood("messages") else { return Ok(()) };
    let mut changed = None;
    if thoughts_go && let Some(without) = without_thoughts(stood)? {
        report.record(Feature::Reasoning);
        changed = Some(without);
    }
    if begun && !family.prefill() {
        report.record(Feature::Prefill);
        let turn = json!({"role": "user", "content": GO_ON}).to_string();
        changed = Some(with_item(changed.as_deref().unwrap_or_else(|| stood.get()), &turn, true));
    }
    if let Some(messages) = changed {
        fields.set("messages", messages);
    }
    Ok(())
}

/// Returns whether the conversation ends with results of calls that were made without a thought, and whether it ends
/// with the model's turn.
fn ends(messages: Option<RawJson<'_>>, thoughts_go: bool) -> Result<(bool, bool), LlmError> {
    let (mut thoughtless, mut begun) = (false, false);
    let Some(messages) = messages else { return Ok((false, false)) };
    each(messages, |turn| {
        let turn = Object::read(turn, &["role", "content"])?;
        let is_models = turn.word("role").as_deref() == Some("assistant");
        let (mut thought, mut calls, mut answers) = (false, false, false);
        if let Some(content) = turn.get("content") {
            each(content, |block| {
                let kind = Object::read(block, &["type"])?.word("type").unwrap_or_default();
                thought |= kind.ends_with("thinking");
                calls |= kind == "tool_use";
                answers |= kind == "tool_result";
                Ok(())
            })?;
        }
        if is_models {
            thoughtless = calls && (thoughts_go || !thought);
        } else {
            thoughtless &= answers;
        }
        begun = is_models;
        Ok(())
    })?;
    Ok((thoughtless && !begun, begun))
}
