//! The tools of a request, and the choice among them.

use serde_json::value::RawValue;

use super::{
    content::{Turns, cache_point},
    fields::{Fields, is_object, is_text, list},
    notes,
    request::Additional,
};
use crate::LlmError;

/// Anthropic's tools that the caller runs, by the beginnings of their types: the model takes them, Converse has no
/// place for them.
const CLIENT_TOOLS: [&str; 4] = ["bash_", "computer_", "memory_", "text_editor_"];

/// Writes the tools. Those without a place in Converse become additional fields of the model.
pub(super) fn tools(turns: &mut Turns<'_>, additional: &mut Additional, body: &Fields<'_>) -> Result<(), LlmError> {
    let tools = match body.get("tools") {
        Some(tools) => list(tools).ok_or_else(|| notes::invalid("tools", "must be a list"))?,
        None => Vec::new(),
    };
    let choice = body.object("tool_choice");
    let kind = choice.as_ref().and_then(|choice| choice.text("type"));
    let before = turns.out.len();
    turns.out.name("toolConfig").open(b'{').name("tools").open(b'[');
    let empty = turns.out.len();
    let mut of_model = Vec::new();
    for (place, raw) in tools.into_iter().enumerate() {
        let tool = Fields::of(raw);
        let tool =
            tool.ok_or_else(|| notes::invalid(&format!("tools.{place}"), "this is no object, or a field is twice"))?;
        match tool.text("type") {
            None => {}
            Some(kind) if kind == "custom" => {}
            Some(kind) if CLIENT_TOOLS.iter().any(|known| kind.starts_with(known)) => {
                of_model.push(raw);
                continue;
            }
            Some(kind) => {
                turns.notes.record(notes::SERVER_TOOL, Some(&kind));
                continue;
            }
        }
        declared(turns, &tool, place)?;
    }
    if turns.out.len() == empty && (!turns.called.is_empty() || turns.has_results) {
        undeclared(turns);
    }
    let is_empty = turns.out.len() == empty;
    if is_empty {
        turns.out.truncate(before);
    } else {
        turns.out.close("]");
        let chosen = choice.as_ref().and_then(|choice| choice.get("name")).filter(|name| is_text(name));
        match (kind.as_deref(), chosen) {
            (Some(kind @ ("auto" | "any")), _) => {
                turns.out.name("toolChoice").open(b'{').name(kind).json("{}").close("}");
            }
            (Some("tool"), Some(name)) => {
                turns.out.name("toolChoice").open(b'{').name("tool").open(b'{').name("name").raw(name).close("}}");
            }
            _ => {}
        }
        turns.out.close("}");
    }
    if !of_model.is_empty() {
        let list = additional.field("tools").open(b'[');
        of_model.iter().for_each(|tool| {
            list.raw(tool);
        });
        list.close("]");
    }
    // Converse knows neither a choice of no tool nor one call at a time; the model does.
    let is_single = choice.as_ref().and_then(|choice| choice.get("disable_parallel_tool_use"));
    let is_single = is_single.is_some_and(|single| single.get() == "true");
    let has_tools = !is_empty || !of_model.is_empty();
    if let Some(raw) = body.get("tool_choice")
        && has_tools
        && (is_empty || is_single || kind.as_deref() == Some("none"))
    {
        additional.field("tool_choice").raw(raw);
    }
    Ok(())
}

fn declared(turns: &mut Turns<'_>, tool: &Fields<'_>, place: usize) -> Result<(), LlmError> {
    let name = tool.get("name").filter(|name| is_text(name));
    let name = name.ok_or_else(|| notes::invalid(&format!("tools.{place}.name"), "must be a text"))?;
    let description = tool.get("description").filter(|text| is_text(text) && text.get() != "\"\"");
    turns.out.open(b'{').name("toolSpec").open(b'{').field("name", Some(name)).field("description", description);
    schema(turns, tool.get("input_schema"));
    turns.out.field("strict", tool.get("strict").filter(|strict| matches!(strict.get(), "true" | "false")));
    turns.out.close("}}");
    cache_point(&mut turns.out, tool.get("cache_control"));
    const KNOWN: [&str; 6] = ["type", "name", "description", "input_schema", "strict", "cache_control"];
    for (name, _) in tool.iter().filter(|(name, _)| !KNOWN.contains(name)) {
        turns.notes.record(notes::TOOL_SETTING, Some(name));
    }
    Ok(())
}

/// Declares the tools of the history, which Converse wants declared where a turn has calls or results.
fn undeclared(turns: &mut Turns<'_>) {
    let mut names = std::mem::take(&mut turns.called);
    if names.is_empty() {
        names.insert("unknown".to_owned());
    }
    for name in &names {
        turns.notes.record(notes::UNDECLARED, Some(name));
        turns.out.open(b'{').name("toolSpec").open(b'{').name("name").text(name);
        schema(turns, None);
        turns.out.close("}}");
    }
}

fn schema(turns: &mut Turns<'_>, schema: Option<&RawValue>) {
    turns.out.name("inputSchema").open(b'{').name("json");
    match schema.filter(|schema| is_object(schema)) {
        Some(schema) => turns.out.raw(schema),
        None => turns.out.json(r#"{"type":"object"}"#),
    };
    turns.out.close("}");
}
