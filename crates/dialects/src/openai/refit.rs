use bytes::Bytes;
use serde_json::{Value, json};

use super::{encode::spelled_choice, protocol::Flavour};
use crate::{
    LlmError,
    chat::{Chat, Thinking},
    fields::{is_list, word},
    models::{Family, Sampling},
    refit::{Fields, top, with_item},
    translate::{Feature, Report, Situation, settle},
    wire,
};

/// Fits a request for another of the server's models to this one; returns `None` if the bytes fit unchanged.
pub(super) fn refit(
    flavour: Flavour,
    body: &Bytes,
    family: &Family,
    report: &mut Report,
) -> Result<Option<Bytes>, LlmError> {
    let raw = top(body)?;
    let mut fields = Fields::of(raw)?;
    let mut was = Chat::default();
    wire::openai::settings(raw, &mut was)?;
    // Other spellings are other servers', and stay as they are.
    let effort = fields.stood("reasoning_effort").and_then(word);
    was.thinking = effort.and_then(|word| Thinking::of_word(&word));
    let has_tools = fields.stood("tools").is_some_and(|tools| is_list(tools) && tools.get().contains('{'));
    let situation = Situation { has_tools, ..Situation::default() };
    let settled = settle(&was, situation, family, report);
    // The default is accepted even by models that refuse all other values.
    let default = (family.sampling() == Sampling::None).then_some(1.0);
    fields.fit_sampling(&was, &settled, default);
    remove_refused(&mut fields, family, settled.samples, report);
    if was.stop.len() > settled.stops {
        let kept: Vec<Value> = was.stop.iter().take(settled.stops).map(|stop| json!(stop)).collect();
        fields.put("stop", (!kept.is_empty()).then_some(&Value::Array(kept)));
    }
    if settled.tool_choice != was.tool_choice {
        let choice = settled.tool_choice.as_ref().map(|choice| spelled_choice(choice, flavour));
        fields.put("tool_choice", choice.as_ref());
    }
    // Models that reason know only the newer name.
    if family.completion_limit() || flavour == Flavour::Own && family.reasons() {
        match fields.stood("max_completion_tokens") {
            Some(_) => _ = fields.remove("max_tokens"),
            None => fields.rename("max_tokens", "max_completion_tokens"),
        }
    }
    if settled.max_tokens != was.max_tokens
        && let Some(tokens) = settled.max_tokens
    {
        for name in ["max_completion_tokens", "max_tokens"] {
            if fields.stood(name).is_some() {
                fields.set(name, tokens.to_string());
            }
        }
    }
    let wanted = settled.reasoning.effort_word();
    if fields.stood("reasoning_effort").and_then(word).as_deref() != wanted {
        fields.put("reasoning_effort", wanted.map(Value::from).as_ref());
    }
    if !settled.holds_output {
        fields.remove("response_format");
    }
    if let (Some(words), Some(messages)) = (&settled.in_words, fields.stood("messages")) {
        let turn = json!({"role": "system", "content": words}).to_string();
        fields.set("messages", with_item(messages.get(), &turn, false));
    }
    Ok(fields.finish().map(Bytes::from))
}

/// Removes the settings that the model refuses whatever their value.
fn remove_refused(fields: &mut Fields<'_>, family: &Family, samples: bool, report: &mut Report) {
    let refuses_more = family.sampling() == Sampling::None || !samples;
    let others: [(bool, &[&str]); 4] = [
        (!family.verbosity(), &["verbosity"]),
        (!family.penalties(), &["presence_penalty", "frequency_penalty"]),
        (refuses_more, &["logprobs", "top_logprobs", "logit_bias", "top_k"]),
        (!family.parallel_tool_calls(), &["parallel_tool_calls"]),
    ];
    for name in others.iter().filter(|(refused, _)| *refused).flat_map(|(_, names)| *names) {
        if fields.remove(name) && *name != "parallel_tool_calls" {
            report.record_field(Feature::ModelSetting, *name);
        }
    }
}
