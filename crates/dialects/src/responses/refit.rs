use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

use super::encode::SEALED;
use crate::{
    LlmError,
    chat::{Chat, ToolChoice},
    fields::{Object, each, is_list, is_object, text, word},
    models::{Family, Sampling},
    raw_json::RawJson,
    refit::{Fields, top},
    translate::{Feature, Report, Situation, settle},
    wire::responses::{self, tool_names::ToolNames},
};

/// Fits a request for another of the server's models to this one; returns `None` if the bytes fit unchanged.
pub(super) fn refit(body: &Bytes, family: &Family, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
    let raw = top(body)?;
    let mut fields = Fields::of(raw)?;
    let mut was = Chat::default();
    responses::settings(raw, &ToolNames::default(), &mut was)?;
    let has_tools = fields.stood("tools").is_some_and(|tools| is_list(tools) && tools.get().contains('{'));
    let situation = Situation { has_tools, ..Situation::default() };
    let settled = settle(&was, situation, family, report);
    // The default is accepted even by models that refuse all other values.
    let default = (family.sampling() == Sampling::None).then_some(1.0);
    fields.fit_sampling(&was, &settled, default);
    let refuses_more = family.sampling() == Sampling::None || !settled.samples;
    let others: [(bool, &[&str]); 3] = [
        (!family.penalties(), &["presence_penalty", "frequency_penalty"]),
        (refuses_more, &["top_logprobs", "top_k"]),
        (!family.parallel_tool_calls(), &["parallel_tool_calls"]),
    ];
    for name in others.iter().filter(|(refused, _)| *refused).flat_map(|(_, names)| *names) {
        if fields.remove(name) && *name != "parallel_tool_calls" {
            report.record_field(Feature::ModelSetting, *name);
        }
    }
    if settled.tool_choice != was.tool_choice && settled.tool_choice == Some(ToolChoice::Auto) {
        fields.put("tool_choice", Some(&Value::from("auto")));
    }
    if settled.max_tokens != was.max_tokens && fields.stood("max_output_tokens").is_some() {
        fields.put("max_output_tokens", settled.max_tokens.map(Value::from).as_ref());
    }
    fit_reasoning(&mut fields, settled.reasoning.effort_word(), family)?;
    if !settled.holds_output {
        fields.within("text", |text| Ok(_ = text.remove("format")))?;
    }
    if !family.verbosity() {
        fields.within("text", |text| {
            if text.remove("verbosity") {
                report.record_field(Feature::ModelSetting, "verbosity");
            }
            Ok(())
        })?;
    }
    if let Some(words) = &settled.in_words {
        let before = fields.stood("instructions").map(text).transpose()?.flatten();
        let words = match before.filter(|before| !before.is_empty()) {
            Some(before) => format!("{before}\n\n{words}"),
            None => words.clone(),
        };
        fields.put("instructions", Some(&Value::from(words)));
    }
    Ok(fields.finish().map(Bytes::from))
}

/// Writes the effort that the model gets. A model without reasoning gets none of its settings.
fn fit_reasoning(fields: &mut Fields<'_>, wanted: Option<&str>, family: &Family) -> Result<(), LlmError> {
    if !family.reasons() && !family.is_careful() {
        fields.remove("reasoning");
        without_sealed(fields)?;
        return Ok(());
    }
    let Some(reasoning) = fields.stood("reasoning").filter(|reasoning| is_object(reasoning)) else {
        if let Some(effort) = wanted {
            fields.put("reasoning", Some(&serde_json::json!({ "effort": effort })));
        }
        return Ok(());
    };
    if Object::read(reasoning, &["effort"])?.word("effort").as_deref() != wanted {
        fields.within("reasoning", |fields| {
            fields.put("effort", wanted.map(Value::from).as_ref());
            Ok(())
        })?;
    }
    Ok(())
}

/// Removes the request for sealed reasoning, which a model without reasoning refuses.
fn without_sealed(fields: &mut Fields<'_>) -> Result<(), LlmError> {
    let Some(include) = fields.stood("include").filter(|include| is_list(include)) else { return Ok(()) };
    if let Some(list) = filtered(include, |name| word(name).as_deref() == Some(SEALED[0]))? {
        fields.set("include", list);
    }
    Ok(())
}

/// Returns a list without the items that go; `None` if none of them does.
fn filtered(list: RawJson<'_>, goes: impl Fn(RawJson<'_>) -> bool) -> Result<Option<String>, LlmError> {
    let (mut kept, mut any) = (String::with_capacity(list.get().len()), false);
    kept.push('[');
    each(list, |item| {
        if goes(item) {
            any = true;
        } else {
            kept.push_str(if kept.len() > 1 { "," } else { "" });
            kept.push_str(item.get());
        }
        Ok(())
    })?;
    kept.push(']');
    Ok(any.then_some(kept))
}

/// Returns a body without the reasoning in its input: all of it, since a refusal does not name every item at fault.
/// Returns `None` if there is none.
pub(super) fn without_reasoning(body: &[u8]) -> Option<Vec<u8>> {
    memmem::find(body, b"reasoning")?;
    let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
    let input = fields.stood("input").filter(|input| is_list(input))?;
    let is_reasoning = |item: RawJson<'_>| {
        let kind = Object::read(item, &["type"]).ok().and_then(|item| item.word("type"));
        kind.as_deref() == Some("reasoning")
    };
    // A conversation that is nothing else cannot do without it.
    let kept = filtered(input, is_reasoning).ok()?.filter(|kept| kept != "[]")?;
    fields.set("input", kept);
    fields.finish().map(String::into_bytes)
}
