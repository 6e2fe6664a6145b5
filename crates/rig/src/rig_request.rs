//! A [`Chat`] as a request of rig.

use std::collections::HashMap;

use rig_core::{
    completion::{CompletionRequest, Effort as RigEffort, GenerationOptions, OnUnsupported, Reasoning, ToolDefinition},
    message::{
        AssistantContent, AssistantMessage, CallId, Document as RigDocument, DocumentMediaType, DocumentSourceKind,
        Image as RigImage, ImageMediaType, Message as RigMessage, MimeType, Text, ToolCall as RigCall,
        ToolChoice as RigChoice, ToolFunction, ToolName, ToolResult as RigResult, ToolResultContent, UserContent,
    },
    schemars::Schema,
};
use serde_json::Value;
use steadfast::{
    Chat, ErrorKind, LlmError,
    chat::{Document, Effort, Image, Media, OutputSchema, Part, Role, Thinking, Tool, ToolChoice, ToolResult},
};

/// Returns the conversation and its settings.
///
/// A part that rig's types lack is an [`ErrorKind::UnsupportedFeature`], so that another tier takes the request.
/// Thoughts and the fields of one dialect stay behind.
pub(crate) fn completion_request(chat: &Chat) -> Result<CompletionRequest, LlmError> {
    let mut history: Vec<_> = chat.system.iter().map(RigMessage::system).collect();
    let mut names = HashMap::new();
    for message in &chat.messages {
        names.extend(message.tool_calls().map(|call| (&*call.id, &*call.name)));
        let message = match message.role {
            Role::System => RigMessage::system(message.text()),
            Role::User => RigMessage::User { content: parts(&message.content, |part| user_part(part, &names))? },
            Role::Assistant => RigMessage::Assistant(AssistantMessage::new(parts(&message.content, assistant_part)?)),
        };
        history.extend(Some(message).filter(|message| !is_empty(message)));
    }
    let mut request = CompletionRequest::new("");
    request.chat_history = history;
    request.tools = chat.tools.iter().map(tool).collect::<Result<_, _>>()?;
    request.tool_choice = chat.tool_choice.as_ref().map(tool_choice).transpose()?;
    request.temperature = chat.temperature;
    request.max_tokens = chat.max_tokens.map(u64::from);
    request.output_schema = chat.output.as_ref().map(output_schema).transpose()?;
    request.options.parallel_tool_calls = chat.parallel_tool_calls;
    request.options.top_p = chat.top_p;
    request.options.stop.clone_from(&chat.stop);
    request.options.reasoning = chat.thinking.and_then(reasoning);
    if request.options != GenerationOptions::default() {
        request.options.on_unsupported = Some(OnUnsupported::Ignore);
    }
    Ok(request)
}

/// Returns the parts that have a form in rig, without those that are only for another reader.
fn parts<C>(content: &[Part], part: impl Fn(&Part) -> Result<Option<C>, LlmError>) -> Result<Vec<C>, LlmError> {
    content.iter().filter_map(|content| part(content).transpose()).collect()
}

fn is_empty(message: &RigMessage) -> bool {
    match message {
        RigMessage::System { content } => content.is_empty(),
        RigMessage::User { content } => content.is_empty(),
        RigMessage::Assistant(turn) => turn.content.is_empty(),
    }
}

fn user_part(part: &Part, names: &HashMap<&str, &str>) -> Result<Option<UserContent>, LlmError> {
    Ok(Some(match part {
        Part::Text(text) => UserContent::text(text),
        Part::Image(part) => UserContent::Image(image(part)?),
        Part::Document(part) => UserContent::Document(document(part)?),
        Part::ToolResult(result) => UserContent::ToolResult(tool_result(result, names)?),
        Part::Extra { .. } => return Ok(None),
        _ => return Err(unsupported("a part of a user's turn that rig does not know")),
    }))
}

fn assistant_part(part: &Part) -> Result<Option<AssistantContent>, LlmError> {
    Ok(Some(match part {
        Part::Text(text) | Part::Refusal(text) => AssistantContent::text(text),
        Part::ToolCall(call) => {
            let function = ToolFunction::parse(tool_name(&call.name)?, &call.arguments);
            AssistantContent::ToolCall(RigCall::from_wire(&*call.id, function))
        }
        Part::Reasoning(_) | Part::Extra { .. } => return Ok(None),
        _ => return Err(unsupported("a part of a model's turn that rig does not know")),
    }))
}

fn tool_result(result: &ToolResult, names: &HashMap<&str, &str>) -> Result<RigResult, LlmError> {
    let name = result.name.as_deref().or_else(|| names.get(&*result.call_id).copied()).unwrap_or("tool");
    let content = parts(&result.content, |part| {
        Ok(Some(match part {
            Part::Text(text) => ToolResultContent::Text(Text::new(text)),
            Part::Image(part) => ToolResultContent::Image(image(part)?),
            Part::Extra { .. } => return Ok(None),
            _ => return Err(unsupported("a part of a tool's result that rig does not know")),
        }))
    })?;
    let call = CallId::from_wire(&*result.call_id);
    Ok(RigResult { call, name: tool_name(name)?, content, is_error: result.is_error })
}

fn image(image: &Image) -> Result<RigImage, LlmError> {
    let (data, media_type) = source(&image.media, ImageMediaType::from_mime_type)?;
    Ok(RigImage { data, media_type, ..RigImage::default() })
}

fn document(document: &Document) -> Result<RigDocument, LlmError> {
    let (data, media_type) = source(&document.media, DocumentMediaType::from_mime_type)?;
    Ok(RigDocument { data, media_type, additional_params: None })
}

fn source<T>(media: &Media, of: fn(&str) -> Option<T>) -> Result<(DocumentSourceKind, Option<T>), LlmError> {
    Ok(match media {
        Media::Base64 { media_type, data } => {
            let known = of(media_type).ok_or_else(|| unsupported("a media type that rig does not know"))?;
            (DocumentSourceKind::base64(data), Some(known))
        }
        Media::Url(url) => (DocumentSourceKind::url(url), None),
        Media::File(id) => (DocumentSourceKind::file_id(id), None),
    })
}

fn tool(tool: &Tool) -> Result<ToolDefinition, LlmError> {
    if tool.runs_at_provider() {
        return Err(unsupported("a tool that runs at another provider"));
    }
    let parameters =
        tool.parameters.value().map_err(|error| invalid("a tool's schema is unreadable").with_source(error))?;
    Ok(ToolDefinition::new(tool_name(&tool.name)?, tool.description.as_deref().unwrap_or_default(), parameters))
}

fn tool_choice(choice: &ToolChoice) -> Result<RigChoice, LlmError> {
    Ok(match choice {
        ToolChoice::Auto => RigChoice::Auto,
        ToolChoice::Required => RigChoice::Required,
        ToolChoice::Named(name) => RigChoice::Specific { function_names: vec![tool_name(name)?] },
        ToolChoice::None => RigChoice::None,
    })
}

fn tool_name(name: &str) -> Result<ToolName, LlmError> {
    ToolName::new(name).map_err(|error| invalid("a tool has no name").with_source(error))
}

/// Returns the schema, whose title is its name in rig.
fn output_schema(output: &OutputSchema) -> Result<Schema, LlmError> {
    let schema = output.schema.as_ref().ok_or_else(|| unsupported("JSON of any shape"))?;
    let unreadable = |error| invalid("the output's schema is unreadable").with_source(error);
    let mut schema = schema.value().map_err(unreadable)?;
    if let Value::Object(fields) = &mut schema {
        fields.insert("title".to_owned(), output.name.clone().into());
    }
    Schema::try_from(schema).map_err(unreadable)
}

fn reasoning(thinking: Thinking) -> Option<Reasoning> {
    Some(match thinking {
        Thinking::Off => Reasoning::Off,
        Thinking::Budget(tokens) => Reasoning::Budget { tokens },
        Thinking::Effort(effort) => Reasoning::Effort(match effort {
            Effort::Minimal => RigEffort::Minimal,
            Effort::Low => RigEffort::Low,
            Effort::Medium => RigEffort::Medium,
            Effort::High => RigEffort::High,
            Effort::XHigh => RigEffort::XHigh,
            Effort::Max => RigEffort::Max,
        }),
        _ => return None,
    })
}

fn unsupported(what: &'static str) -> LlmError {
    LlmError::new(ErrorKind::UnsupportedFeature, what)
}

fn invalid(what: &'static str) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, what)
}
