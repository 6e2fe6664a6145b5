//! What is done to a conversation before a dialect's own encoder writes it: tool names, ids, pairs and schemas in the form
//! that this target takes, each time from the original.

use std::borrow::Cow;

use super::{
    calls,
    names::{self, Names},
    report::Report,
    schema::{self, For},
    survey::survey,
};
use crate::{
    Dialect, LlmError, LlmRequest,
    chat::{Chat, Media, Part},
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
    schemas(&mut fitted, target.dialect, report);
    let mut given = Names::default();
    if !names::all_fit(chat, target.dialect) {
        given = names::fit(fitted.to_mut(), target.dialect, report);
    }
    if !calls::is_well(&chat.messages, target) {
        calls::fit(&mut fitted.to_mut().messages, target, report);
    }
    Ok((fitted, given))
}

fn schemas(chat: &mut Cow<'_, Chat>, dialect: Dialect, report: &mut Report) {
    for at in 0..chat.tools.len() {
        let tool = &chat.tools[at];
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
