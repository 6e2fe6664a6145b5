//! Prepares a conversation for a dialect's encoder: tool names, ids, pairs and schemas in the form that this target
//! takes, each time from the original.

use std::borrow::Cow;

use super::{
    allowed,
    bare::{self, Bare},
    caches, calls, content, names,
    report::Report,
    restore::Restore,
    root::Unwrap,
    schema::{self, Room, SchemaUse},
    seals,
    survey::survey,
};
use crate::{
    Dialect, LlmError, LlmRequest, Wire,
    chat::{Chat, Json, Media, Part, Tool, ToolChoice},
    fields::{Object, each, word},
    translate::{
        ids::{self, Target},
        rules::Feature,
    },
    wire::WireLimits,
};

/// Returns the request in a form that the target's encoder can write.
///
/// # Errors
///
/// The caller's bytes are no request of their dialect, or a rule refuses a feature.
pub(crate) fn fit<'a>(
    request: &'a LlmRequest,
    target: Target,
    report: &mut Report,
) -> Result<(Cow<'a, Chat>, Restore), LlmError> {
    let wire = request.wire();
    let mut fitted = match wire {
        // A large request is not kept in memory beside its bytes while the provider answers.
        Some(wire) if wire.is_large() && !wire.is_decoded() => Cow::Owned(wire.decode(report.stop())?),
        Some(wire) => Cow::Borrowed(wire.chat_until(report.stop())?),
        None => Cow::Borrowed(request.chat()?),
    };
    let limits = wire.map_or_else(WireLimits::unlimited, |wire| *wire.wire_limits());
    if let Some(wire) = wire.filter(|wire| wire.dialect() != target.dialect)
        && let Ok(body) = serde_json::from_slice(wire.body())
    {
        survey(wire.dialect(), body, report)?;
    }
    report.check_stopped()?;
    if let Some(caller) = fitted.extra.as_ref().map(|extra| extra.dialect).filter(|caller| *caller != target.dialect) {
        ids::restore_results(&mut fitted, caller);
    }
    seals::fit(&mut fitted, target.dialect, report);
    seals::fit_unsigned(&mut fitted, target.dialect, report);
    // A conversation in the target's own dialect is as its caller wants it.
    let own = fitted.extra.as_ref().is_some_and(|extra| extra.dialect == target.dialect);
    if !own {
        content::fit(&mut fitted, target.dialect, report)?;
    }
    if report.is_foreign() && every_part(&fitted).any(is_uploaded) {
        return Err(report.refuse(Feature::UploadedFile));
    }
    if let Some(wire) = wire.filter(|_| report.is_foreign()) {
        older_functions(wire, &mut fitted)?;
    }
    if !own {
        allowed::fit(&mut fitted, report)?;
    }
    tools(&mut fitted, target.dialect, report)?;
    let mut restore = Restore::default();
    if report.is_foreign() && wire.is_some_and(|wire| wire.dialect() == Dialect::Gemini) {
        restore.bare = bare::is_wanted(&fitted).then(Bare::default);
    }
    if target.dialect == Dialect::OpenAi {
        restore.stops.clone_from(&fitted.stop);
    }
    if !own {
        restore.root = schemas(&mut fitted, target.dialect, &limits, report)?;
        if !names::all_fit(&fitted, target.dialect) {
            restore.names = names::fit(fitted.to_mut(), target.dialect, report);
        }
    }
    // Some servers of a dialect take fewer ids than the dialect itself.
    let asked = !own || (target.short_ids && !calls::ids_fit(&fitted.messages, target));
    if asked && !calls::is_paired(&fitted.messages, target) {
        calls::fit(&mut fitted.to_mut().messages, target, report);
    }
    // Behind all that moves parts.
    caches::fit(&mut fitted, target, report)?;
    Ok((fitted, restore))
}

/// Writes client tools as functions, which every dialect but Anthropic's needs, and drops the tools that run at another
/// provider.
///
/// # Errors
///
/// The model must call one of those.
fn tools(chat: &mut Cow<'_, Chat>, dialect: Dialect, report: &mut Report) -> Result<(), LlmError> {
    if dialect != Dialect::Responses {
        content::describe_namespaces(chat);
    }
    for at in 0..chat.tools.len() {
        if let Some(custom) = content::as_responses_tool(&chat.tools[at]).filter(|_| dialect == Dialect::Responses) {
            chat.to_mut().tools[at].extra = Some(custom);
        }
        if let Some(function) = content::as_function(&chat.tools[at]).filter(|_| dialect != Dialect::Anthropic) {
            report.record(Feature::ClientTool);
            chat.to_mut().tools[at] = function;
        }
    }
    let foreign =
        |tool: &Tool| tool.runs_at_provider() && tool.extra.as_ref().is_some_and(|extra| extra.dialect != dialect);
    if chat.tools.iter().any(foreign) {
        report.record_field(Feature::ServerTool, "tools");
        let forced = chat.tools.iter().find(|tool| match &chat.tool_choice {
            Some(ToolChoice::Named(name)) => foreign(tool) && tool.name == *name,
            Some(ToolChoice::Required) => chat.tools.iter().all(foreign),
            _ => false,
        });
        if let Some(tool) = forced {
            return Err(report.refuse_field(Feature::ForcedServerTool, &tool.name));
        }
        let chat = chat.to_mut();
        chat.tools.retain(|tool| !foreign(tool));
        // A choice among them is dropped with them.
        let offered = |name: &String| chat.tools.iter().any(|tool| tool.name == *name);
        if matches!(&chat.tool_choice, Some(ToolChoice::Named(name)) if !offered(name)) {
            chat.tool_choice = None;
        }
    }
    // Other providers refuse a choice among no tools.
    if chat.tools.is_empty() && chat.tool_choice.is_some() {
        chat.to_mut().tool_choice = None;
    }
    Ok(())
}

/// OpenAI's tools from the time when there were only functions.
fn older_functions(wire: &Wire, chat: &mut Cow<'_, Chat>) -> Result<(), LlmError> {
    let fields = match &chat.extra {
        Some(extra) if wire.dialect() == Dialect::OpenAi => extra.fields.clone(),
        _ => return Ok(()),
    };
    let fields = Object::read(fields.raw(), &["functions", "function_call"])?;
    let Some(functions) = fields.get("functions") else { return Ok(()) };
    let chat = chat.to_mut();
    each(functions, |function| {
        let function = Object::read(function, &["name", "parameters", "description"])?;
        let Some(name) = function.text("name")? else { return Ok(()) };
        let mut tool = Tool::new(name, function.get("parameters").map_or_else(Json::null, Json::of));
        tool.description = function.text("description")?;
        chat.tools.push(tool);
        Ok(())
    })?;
    let choice = fields.get("function_call");
    let named = choice.map(|choice| Object::read(choice, &["name"])?.text("name")).transpose()?.flatten();
    chat.tool_choice = match (choice.and_then(word).as_deref(), named) {
        (Some("none"), _) => Some(ToolChoice::None),
        (Some(_), _) => Some(ToolChoice::Auto),
        (None, name) => name.map(ToolChoice::Named),
    };
    Ok(())
}

/// Fits the schemas of tools and of the answer. Returns what takes an object off the answer, if its schema went into
/// one.
fn schemas(
    chat: &mut Cow<'_, Chat>,
    dialect: Dialect,
    limits: &WireLimits,
    report: &mut Report,
) -> Result<Option<Unwrap>, LlmError> {
    let output = chat.output.as_ref().and_then(|output| Some((output.schema.as_ref()?, output.strict)));
    let output = output.map(|(asked, strict)| schema::fit(asked, strict, dialect, SchemaUse::Output, limits));
    let output = output.transpose()?;
    let mut room = Room::default();
    if let Some(output) = &output {
        room.reserve(output.cost);
    }
    for at in 0..chat.tools.len() {
        report.check_stopped()?;
        let tool = &chat.tools[at];
        if tool.extra.as_ref().is_some_and(|extra| extra.dialect == dialect) {
            continue;
        }
        let strict = tool.strict == Some(true);
        let mut fitted = schema::fit(&tool.parameters, strict, dialect, SchemaUse::Tool, limits)?;
        if fitted.strict && dialect == Dialect::Anthropic {
            fitted.strict = room.take(fitted.cost);
        }
        if fitted.moved {
            report.record(Feature::SchemaKeywords);
        }
        if strict && (!fitted.strict || dialect == Dialect::Gemini) {
            report.record(Feature::Strict);
        }
        if let Some(schema) = fitted.schema {
            chat.to_mut().tools[at].parameters = schema;
        }
        if fitted.strict != strict {
            // Claude's older models know no such field.
            let stays = fitted.strict || dialect != Dialect::Anthropic;
            chat.to_mut().tools[at].strict = stays.then_some(fitted.strict);
        }
    }
    let (Some(fitted), Some(output)) = (output, &chat.output) else { return Ok(None) };
    let strict = output.strict;
    if fitted.moved {
        report.record(Feature::SchemaKeywords);
    }
    if strict && !fitted.strict {
        report.record(Feature::Strict);
    }
    if fitted.wrapped {
        report.record(Feature::SchemaRoot);
    }
    let unwrap = fitted.wrapped.then(Unwrap::default);
    let named = names::fit_output(&output.name);
    if (fitted.schema.is_some() || fitted.strict != strict || named.is_some())
        && let Some(output) = &mut chat.to_mut().output
    {
        if fitted.schema.is_some() {
            output.schema = fitted.schema;
        }
        output.strict = fitted.strict;
        if let Some(name) = named {
            output.name = name;
        }
    }
    Ok(unwrap)
}

/// Iterates over the parts of the conversation, including those in tool results.
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
