//! The tools of a request, and the choice among them.

use serde_json::value::RawValue;
use steadfast_dialects::anthropic::is_client_tool;

use super::{
    content::{Turns, cache_point},
    fields::{Fields, is_object, is_text, list},
    notes,
    request::Additional,
};
use crate::LlmError;

/// A tool of a request.
pub(super) struct RequestTool<'a> {
    raw: &'a RawValue,
    pub(super) fields: Fields<'a>,
}

/// Returns the tools of a request.
pub(super) fn declared<'a>(body: &Fields<'a>) -> Result<Vec<RequestTool<'a>>, LlmError> {
    let Some(tools) = body.get("tools") else { return Ok(Vec::new()) };
    let tools = list(tools).ok_or_else(|| notes::invalid("tools", "must be a list"))?;
    let read = |(place, raw): (usize, &'a RawValue)| {
        let wrong = || notes::invalid(&format!("tools.{place}"), "this is no object, or a field is twice");
        Fields::of(raw).map(|fields| RequestTool { raw, fields }).ok_or_else(wrong)
    };
    tools.into_iter().enumerate().map(read).collect()
}

/// Writes the tools. Those without a place in Converse become additional fields of the model.
pub(super) fn tools(
    turns: &mut Turns<'_>,
    additional: &mut Additional,
    body: &Fields<'_>,
    tools: Vec<RequestTool<'_>>,
) -> Result<(), LlmError> {
    let choice = body.object("tool_choice");
    let kind = choice.as_ref().and_then(|choice| choice.text("type"));
    let chosen = choice.as_ref().and_then(|choice| choice.text("name")).filter(|_| kind.as_deref() == Some("tool"));
    let before = turns.out.len();
    turns.out.name("toolConfig").open(b'{').name("tools").open(b'[');
    let empty = turns.out.len();
    let mut of_model = Vec::new();
    let (mut is_chosen_there, mut is_of_model, mut first_gone) = (false, false, None);
    for (place, RequestTool { raw, fields: tool }) in tools.into_iter().enumerate() {
        let is_chosen = chosen.is_some() && tool.text("name") == chosen;
        match tool.text("type") {
            None => {}
            Some(kind) if kind == "custom" => {}
            Some(kind) if is_client_tool(&kind) => {
                (is_chosen_there, is_of_model) = (is_chosen_there | is_chosen, is_of_model | is_chosen);
                of_model.push(raw);
                continue;
            }
            Some(kind) => {
                turns.notes.record(notes::SERVER_TOOL, Some(&kind));
                first_gone.get_or_insert(kind);
                continue;
            }
        }
        is_chosen_there |= is_chosen;
        self::tool(turns, &tool, place)?;
    }
    if let Some(gone) = first_gone {
        let is_any = kind.as_deref() == Some("any") && turns.out.len() == empty && of_model.is_empty();
        let forced = chosen.as_deref().filter(|_| !is_chosen_there).or_else(|| is_any.then_some(&*gone));
        if let Some(forced) = forced {
            return Err(notes::refused(
                "forced_server_tool",
                forced,
                "Bedrock does not run the tool that the model must call",
            ));
        }
    }
    if turns.out.len() == empty && (!turns.called.is_empty() || turns.has_results) {
        undeclared(turns);
    }
    let is_empty = turns.out.len() == empty;
    if is_empty {
        turns.out.truncate(before);
    } else {
        turns.out.close("]");
        match (kind.as_deref(), &chosen) {
            (Some(kind @ ("auto" | "any")), _) => {
                turns.out.name("toolChoice").open(b'{').name(kind).json("{}").close("}");
            }
            (Some("tool"), Some(name)) if !is_of_model => {
                let name = turns.tool_names.of(name);
                turns.out.name("toolChoice").open(b'{').name("tool").open(b'{').name("name").text(name).close("}}");
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
        && (is_empty || is_single || is_of_model || kind.as_deref() == Some("none"))
    {
        additional.field("tool_choice").raw(raw);
    }
    Ok(())
}

fn tool(turns: &mut Turns<'_>, tool: &Fields<'_>, place: usize) -> Result<(), LlmError> {
    let name = tool.text("name");
    let name = name.ok_or_else(|| notes::invalid(&format!("tools.{place}.name"), "must be a text"))?;
    let name = turns.tool_names.of(&name);
    let description = tool.get("description").filter(|text| is_text(text) && text.get() != "\"\"");
    turns.out.open(b'{').name("toolSpec").open(b'{').name("name").text(name);
    turns.out.field("description", description);
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
