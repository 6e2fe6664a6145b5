//! The fields of a request of Responses that the neutral form has no place for.

use std::borrow::Cow;

use super::tools;
use crate::{
    Dialect, LlmError,
    fields::{self, Object, each, is_list, is_object},
    raw_json::RawJson,
    translate::{
        request::{
            report::Report,
            survey::{carried, others, set, shared},
        },
        rules::Feature,
    },
};

/// Reads the whole request for the fields that [`Chat`](crate::Chat) does not hold.
///
/// # Errors
///
/// A rule refuses a feature, or the body is not of the dialect.
pub(in crate::translate::request) fn survey(body: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let is_stored = Object::read(body, &["store"])?.flag("store") == Some(true);
    set(body, |name, value| {
        match name {
            "model"
            | "instructions"
            | "max_output_tokens"
            | "temperature"
            | "top_p"
            | "parallel_tool_calls"
            | "stream"
            | "stream_options" => {}
            "input" if is_list(value) => return each(value, |entry| item(entry, report)).map(drop),
            "input" => {}
            "tools" => return each(value, |tool| tools::survey(tool, report)).map(drop),
            "tool_choice" => return tools::survey_choice(value, report),
            "text" => return text(value, report),
            "reasoning" => return reasoning(value, report),
            "include" => return include(value, report),
            "previous_response_id" | "conversation" | "prompt" | "background" => {
                return Err(report.refuse_field(Feature::State, name));
            }
            // The default.
            "truncation" if fields::word(value).as_deref() == Some("disabled") => {}
            "truncation" | "context_management" => report.record_field(Feature::Truncation, name),
            "top_logprobs" => report.record(Feature::Logprobs),
            "cache_control" => report.record_mark(),
            "client_metadata" => report.record_field(Feature::Metadata, name),
            other => carry(other, value, is_stored, report),
        }
        Ok(())
    })
}

/// Carries a setting that Chat Completions has too. There, labels are for stored answers only.
fn carry(name: &str, value: RawJson<'_>, is_stored: bool, report: &mut Report) {
    match shared(name) {
        Some((feature @ Feature::Metadata, "metadata")) if !is_stored => report.record(feature),
        Some((feature, name)) => carried(report, feature, &[(Dialect::OpenAi, name)], value),
        None => report.record_field(Feature::OtherField, name),
    }
}

fn text(text: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    set(text, |name, value| {
        match name {
            "format" => return others(value, &["type", "name", "schema", "strict"], "text.format", report),
            "verbosity" => carried(report, Feature::Verbosity, &[(Dialect::OpenAi, "verbosity")], value),
            other => report.record_field(Feature::OtherField, format!("text.{other}")),
        }
        Ok(())
    })
}

fn reasoning(reasoning: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    set(reasoning, |name, _| {
        match name {
            "effort" => {}
            "summary" | "generate_summary" => report.record(Feature::ThoughtSummary),
            other => report.record_field(Feature::OtherField, format!("reasoning.{other}")),
        }
        Ok(())
    })
}

fn include(list: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    each(list, |entry| {
        match fields::word(entry).unwrap_or_default() {
            // Thoughts come back signed or sealed from every provider that does so.
            Cow::Borrowed("reasoning.encrypted_content") => {}
            other => report.record_field(Feature::Include, other),
        }
        Ok(())
    })
    .map(drop)
}

/// Surveys an item of the conversation.
fn item(item: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    report.check_stopped()?;
    if !is_object(item) {
        return Ok(());
    }
    let known = Object::read(item, &["type", "role", "id"])?;
    let kind = known.word("type").unwrap_or_default();
    let known: &[&str] = match &*kind {
        "" if known.get("role").is_none() && known.get("id").is_some() => {
            return Err(report.refuse_field(Feature::State, "item_reference"));
        }
        "message" | "" => &["type", "role", "content", "id", "status"],
        "reasoning" => &["type", "id", "summary", "content", "encrypted_content", "status"],
        "function_call" => &["type", "id", "call_id", "name", "namespace", "arguments", "status", "caller"],
        "custom_tool_call" => &["type", "id", "call_id", "name", "namespace", "input", "status", "caller"],
        "function_call_output" | "custom_tool_call_output" => {
            &["type", "id", "call_id", "output", "name", "namespace", "status", "caller"]
        }
        "item_reference" | "compaction" | "compaction_summary" => {
            return Err(report.refuse_field(Feature::State, &kind));
        }
        // The encoder reports the part.
        _ => return Ok(()),
    };
    set(item, |name, value| {
        match name {
            "content" | "output" if is_list(value) && kind != "reasoning" => {
                return each(value, |part| self::part(part, report)).map(drop);
            }
            name if known.contains(&name) => {}
            other => {
                let kind = if kind.is_empty() { "message" } else { &kind };
                report.record_field(Feature::OtherField, format!("{kind}.{other}"));
            }
        }
        Ok(())
    })
}

/// Surveys a part of a message or of a tool's result.
fn part(part: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    if !is_object(part) {
        return Ok(());
    }
    let kind = Object::read(part, &["type"])?.word("type").unwrap_or_default();
    let known: &[&str] = match &*kind {
        "input_text" | "output_text" | "text" => &["text"],
        "refusal" => &["refusal"],
        "input_image" => &["image_url", "file_id"],
        "input_file" => &["file_data", "file_id", "file_url", "filename"],
        // The encoder reports the part.
        _ => return Ok(()),
    };
    set(part, |name, value| {
        match name {
            "type" => {}
            "annotations" => report.record(Feature::Citations),
            "cache_control" | "prompt_cache_breakpoint" => report.record_mark(),
            // The default of both.
            "detail" if fields::word(value).as_deref() == Some("auto") => {}
            // Chat Completions has no such detail.
            "detail" if kind == "input_image" && fields::word(value).as_deref() != Some("original") => {
                report.record(Feature::ImageDetail);
            }
            name if known.contains(&name) => {}
            other => report.record_field(Feature::OtherField, format!("{kind}.{other}")),
        }
        Ok(())
    })
}
