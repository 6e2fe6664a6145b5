//! What is done to a conversation before a dialect's own encoder writes it: tool names, ids, pairs and schemas in the form
//! that this target takes, each time from the original.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    calls,
    names::{self, Names},
    report::Report,
    schema::{self, For},
    survey::survey,
};
use crate::{
    Dialect, LlmError, LlmRequest, Wire,
    chat::{Chat, Media, Part, Tool, ToolChoice},
    translate::{ids::Target, rules::Feature},
};

/// The request as the target's encoder may write it.
///
/// # Errors
///
/// When the caller's bytes are no request of their dialect, or a rule refuses a feature.
pub(crate) fn fit<'a>(
    request: &'a LlmRequest,
    target: Target,
    report: &mut Report,
) -> Result<(Cow<'a, Chat>, Names), LlmError> {
    let chat = request.chat()?;
    if let Some(wire) = request.wire().filter(|wire| wire.dialect() != target.dialect)
        && let Ok(body) = serde_json::from_slice(wire.body())
    {
        survey(wire.dialect(), &body, report);
    }
    if report.is_foreign() && every_part(chat).any(is_uploaded) {
        return Err(report.refuse(Feature::UploadedFile));
    }
    let mut fitted = Cow::Borrowed(chat);
    if let Some(wire) = request.wire().filter(|_| report.is_foreign()) {
        older_functions(wire, &mut fitted);
    }
    let foreign = |tool: &Tool| {
        tool.runs_at_provider() && tool.extra.as_ref().is_some_and(|extra| extra.dialect != target.dialect)
    };
    if chat.tools.iter().any(foreign) {
        report.say_in(Feature::ServerTool, "tools");
        let chat = fitted.to_mut();
        chat.tools.retain(|tool| !foreign(tool));
        // A choice among them goes with them.
        let offered = |name: &String| chat.tools.iter().any(|tool| tool.name == *name);
        if chat.tools.is_empty() || matches!(&chat.tool_choice, Some(ToolChoice::Named(name)) if !offered(name)) {
            chat.tool_choice = None;
        }
    }
    // What was read from the target's own dialect is as its caller wants it.
    let own = fitted.extra.as_ref().is_some_and(|extra| extra.dialect == target.dialect);
    let mut given = Names::default();
    if !own {
        schemas(&mut fitted, target.dialect, report);
        if !names::all_fit(&fitted, target.dialect) {
            given = names::fit(fitted.to_mut(), target.dialect, report);
        }
    }
    // Not every server of a dialect takes the ids that the dialect takes.
    let asked = !own || (target.short_ids && !calls::ids_fit(&chat.messages, target));
    if asked && !calls::is_well(&chat.messages, target) {
        calls::fit(&mut fitted.to_mut().messages, target, report);
    }
    Ok((fitted, given))
}

/// What OpenAI's tools were before there were others than functions.
fn older_functions(wire: &Wire, chat: &mut Cow<'_, Chat>) {
    let fields = match &chat.extra {
        Some(extra) if wire.dialect() == Dialect::OpenAi && extra.fields.contains_key("functions") => {
            extra.fields.clone()
        }
        _ => return,
    };
    let chat = chat.to_mut();
    for function in fields.get("functions").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = function.get("name").and_then(Value::as_str) else { continue };
        let schema = function.get("parameters").cloned().unwrap_or_default();
        let mut tool = Tool::new(name, schema);
        tool.description = function.get("description").and_then(Value::as_str).map(str::to_owned);
        chat.tools.push(tool);
    }
    let choice = fields.get("function_call");
    chat.tool_choice = match (choice.and_then(Value::as_str), choice.and_then(|choice| choice.get("name"))) {
        (Some("none"), _) => Some(ToolChoice::None),
        (Some(_), _) => Some(ToolChoice::Auto),
        (None, Some(Value::String(name))) => Some(ToolChoice::Named(name.clone())),
        _ => None,
    };
}

fn schemas(chat: &mut Cow<'_, Chat>, dialect: Dialect, report: &mut Report) {
    for at in 0..chat.tools.len() {
        let tool = &chat.tools[at];
        if tool.extra.as_ref().is_some_and(|extra| extra.dialect == dialect) {
            continue;
        }
        let strict = tool.strict == Some(true);
        let fitted = schema::fit(&tool.parameters, strict, dialect, For::Tool);
        if fitted.moved {
            report.say(Feature::SchemaKeywords);
        }
        if strict && (!fitted.strict || dialect == Dialect::Gemini) {
            report.say(Feature::Strict);
        }
        if fitted.schema != tool.parameters || fitted.strict != strict {
            let tool = &mut chat.to_mut().tools[at];
            tool.parameters = fitted.schema;
            if strict {
                tool.strict = Some(fitted.strict);
            }
        }
    }
    let Some(output) = &chat.output else { return };
    let Some(asked) = &output.schema else { return };
    let strict = output.strict;
    let fitted = schema::fit(asked, strict, dialect, For::Output);
    if fitted.moved {
        report.say(Feature::SchemaKeywords);
    }
    if strict && !fitted.strict {
        report.say(Feature::Strict);
    }
    let named = names::fit_output(&output.name);
    if (fitted.schema != *asked || fitted.strict != strict || named.is_some())
        && let Some(output) = &mut chat.to_mut().output
    {
        output.schema = Some(fitted.schema);
        output.strict = fitted.strict;
        if let Some(name) = named {
            output.name = name;
        }
    }
}

/// The parts of the conversation, those that tools gave back included.
fn every_part(chat: &Chat) -> impl Iterator<Item = &Part> {
    chat.messages.iter().flat_map(|message| &message.content).flat_map(|part| {
        let inner = match part {
            Part::ToolResult(result) => result.content.as_slice(),
            _ => &[],
        };
        std::iter::once(part).chain(inner)
    })
}

fn is_uploaded(part: &Part) -> bool {
    match part {
        Part::Image(image) => matches!(image.media, Media::File(_)),
        Part::Document(document) => matches!(document.media, Media::File(_)),
        _ => false,
    }
}
