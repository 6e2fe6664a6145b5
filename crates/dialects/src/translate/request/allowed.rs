//! A tool choice among several named tools: a target gets those tools alone.

use std::{borrow::Cow, collections::HashSet};

use super::report::Report;
use crate::{
    Dialect, LlmError,
    chat::Chat,
    fields::{self, Object, count, each},
    raw_json::RawJson,
    translate::rules::Feature,
    wire::responses::tool_names::ToolNames,
};

/// Leaves the tools out that the caller does not allow.
pub(super) fn fit(chat: &mut Cow<'_, Chat>, report: &mut Report) -> Result<(), LlmError> {
    let Some(names) = names(chat)? else { return Ok(()) };
    if chat.tools.iter().all(|tool| names.contains(&tool.name)) {
        return Ok(());
    }
    report.record(Feature::AllowedTools);
    let chat = chat.to_mut();
    chat.tools.retain(|tool| names.contains(&tool.name));
    if chat.tools.is_empty() {
        chat.tool_choice = None;
    }
    Ok(())
}

/// Returns the neutral names of the allowed tools, if the caller names them.
fn names(chat: &Chat) -> Result<Option<HashSet<String>>, LlmError> {
    let Some(extra) = &chat.extra else { return Ok(None) };
    let settings = Object::read(extra.fields.raw(), &["tool_choice", "toolConfig", "tool_config"])?;
    let choice = settings.object("tool_choice");
    let is_among = |choice: RawJson<'_>| {
        Ok::<_, LlmError>(Object::read(choice, &["type"])?.word("type").as_deref() == Some("allowed_tools"))
    };
    let mut names = HashSet::new();
    match (extra.dialect, choice) {
        (Dialect::Responses, Some(choice)) if is_among(choice)? => {
            let own = ToolNames::of(chat);
            let Some(tools) = Object::read(choice, &["tools"])?.get("tools") else { return Ok(None) };
            each(tools, |tool| {
                let tool = Object::read(tool, &["type", "name", "namespace"])?;
                let name = match (tool.text("namespace")?, tool.text("name")?) {
                    (Some(namespace), Some(name)) => Some(own.neutral(&namespace, &name)),
                    (None, Some(name)) => Some(name),
                    // A tool that runs at the provider is named by its type.
                    (_, None) => tool.text("type")?,
                };
                names.extend(name);
                Ok(())
            })?;
        }
        (Dialect::OpenAi, Some(choice)) if is_among(choice)? => {
            let Some(allowed) = Object::read(choice, &["allowed_tools"])?.object("allowed_tools") else {
                return Ok(None);
            };
            let Some(tools) = Object::read(allowed, &["tools"])?.get("tools") else { return Ok(None) };
            each(tools, |tool| {
                let tool = Object::read(tool, &["function", "custom"])?;
                if let Some(function) = tool.object("function").or_else(|| tool.object("custom")) {
                    names.extend(Object::read(function, &["name"])?.text("name")?);
                }
                Ok(())
            })?;
        }
        (Dialect::Gemini, _) => {
            let Some(config) = settings.either(&["toolConfig", "tool_config"]) else { return Ok(None) };
            let config = Object::read(config, &["functionCallingConfig", "function_calling_config"])?;
            let Some(calling) = config.either(&["functionCallingConfig", "function_calling_config"]) else {
                return Ok(None);
            };
            let calling = Object::read(calling, &["allowedFunctionNames", "allowed_function_names"])?;
            // A single name is a forced tool.
            match calling.either(&["allowedFunctionNames", "allowed_function_names"]) {
                Some(list) if count(list) > 1 => each(list, |name| {
                    names.extend(fields::text(name)?);
                    Ok(())
                })?,
                _ => return Ok(None),
            };
        }
        _ => return Ok(None),
    }
    Ok(Some(names))
}
