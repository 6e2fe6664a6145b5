//! A request of rig as a [`Chat`].

use rig_core::{
    completion::{CompletionRequest, Effort as RigEffort, Reasoning as RigReasoning, ToolDefinition},
    error::EncodeError,
    message::{
        AssistantContent, AssistantMessage, DocumentSourceKind, Message as RigMessage, MimeType,
        ToolChoice as RigChoice,
    },
    message::{ToolResult as RigResult, ToolResultContent, UserContent},
};
use serde_json::Value;
use steadfast::{
    Chat, Dialect,
    chat::{
        Document, Effort, Extra, Image, Media, Message, OutputSchema, Part, Reasoning, Role, Thinking, Tool, ToolCall,
        ToolChoice, ToolResult,
    },
};

/// Returns the request's conversation and settings.
pub(crate) fn chat(request: CompletionRequest) -> Result<Chat, EncodeError> {
    let name = request.output_schema_name();
    let mut chat = Chat::default();
    for message in request.chat_history {
        match message {
            RigMessage::System { content } if chat.messages.is_empty() => {
                let before = chat.system.take().map(|before| before + "\n\n").unwrap_or_default();
                chat.system = Some(before + &content);
            }
            RigMessage::System { content } => chat.messages.push(Message::new(Role::System, vec![Part::Text(content)])),
            RigMessage::User { content } => chat.messages.push(turn(Role::User, content, user_part)?),
            RigMessage::Assistant(AssistantMessage { content, .. }) => {
                chat.messages.push(turn(Role::Assistant, content, assistant_part)?);
            }
        }
    }
    chat.model = request.model;
    chat.tools = request.tools.into_iter().map(tool).collect();
    chat.tool_choice = request.tool_choice.map(tool_choice).transpose()?;
    chat.parallel_tool_calls = request.options.parallel_tool_calls;
    chat.max_tokens = request.max_tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    chat.temperature = request.temperature;
    chat.top_p = request.options.top_p;
    chat.stop = request.options.stop;
    chat.thinking = request.options.reasoning.map(thinking);
    chat.output = name.zip(request.output_schema).map(|(name, schema)| OutputSchema {
        name: schema_name(&name),
        schema: Some(schema.to_value().into()),
        strict: true,
    });
    chat.extra = match request.additional_params {
        None | Some(Value::Null) => None,
        Some(Value::Object(fields)) => Some(Extra::new(Dialect::OpenAi, fields)),
        Some(_) => return Err(EncodeError::request("`additional_params` is no JSON object")),
    };
    Ok(chat)
}

fn turn<C>(role: Role, content: Vec<C>, part: fn(C) -> Result<Part, EncodeError>) -> Result<Message, EncodeError> {
    Ok(Message::new(role, content.into_iter().map(part).collect::<Result<_, _>>()?))
}

fn user_part(content: UserContent) -> Result<Part, EncodeError> {
    Ok(match content {
        UserContent::Text(text) => Part::Text(text.text),
        UserContent::Image(part) => image(part)?,
        UserContent::Document(document) => {
            let media_type = document.media_type.as_ref().map(MimeType::to_mime_type);
            let name = document.additional_params.as_ref().and_then(|params| params["title"].as_str());
            Part::Document(Document { media: media(document.data, media_type)?, name: name.map(str::to_owned) })
        }
        UserContent::ToolResult(result) => Part::ToolResult(tool_result(result)?),
        UserContent::Audio(_) | UserContent::Video(_) => {
            return Err(EncodeError::request("a stack takes neither audio nor video"));
        }
    })
}

/// Returns a part of an earlier answer, with the data that only its provider reads if that answer came from a stack.
fn assistant_part(content: AssistantContent) -> Result<Part, EncodeError> {
    let own = content.native_item().cloned();
    let opaque = || own.and_then(|item| serde_json::from_value(item).ok());
    Ok(match content {
        AssistantContent::Text(text) => Part::Text(text.text),
        AssistantContent::Reasoning(reasoning) => Part::Reasoning(Reasoning { text: reasoning.text, opaque: opaque() }),
        AssistantContent::ToolCall(call) => {
            let function = call.function;
            let arguments = function.invalid_arguments.unwrap_or_else(|| Value::from(function.arguments).to_string());
            let mut part = ToolCall::new(call.id.wire(), String::from(function.name), arguments);
            part.opaque = opaque();
            Part::ToolCall(part)
        }
        AssistantContent::Image(part) => image(part)?,
        AssistantContent::Opaque(opaque) => serde_json::from_value(opaque.item)?,
        _ => return Err(EncodeError::request("the history has a part that is unknown here")),
    })
}

fn image(image: rig_core::message::Image) -> Result<Part, EncodeError> {
    let media_type = image.media_type.as_ref().map(MimeType::to_mime_type);
    Ok(Part::Image(Image { media: media(image.data, media_type)? }))
}

fn media(source: DocumentSourceKind, media_type: Option<&str>) -> Result<Media, EncodeError> {
    Ok(match (source, media_type) {
        (DocumentSourceKind::Base64(data), Some(media_type)) => {
            Media::Base64 { media_type: media_type.to_owned(), data }
        }
        (DocumentSourceKind::Url(url), _) => Media::Url(url),
        (DocumentSourceKind::FileId(id), _) => Media::File(id),
        _ => return Err(EncodeError::request("an image or a document is neither base64 with a media type, nor a URL")),
    })
}

fn tool_result(result: RigResult) -> Result<ToolResult, EncodeError> {
    let mut made = ToolResult::new(result.call.wire(), "");
    made.name = Some(result.name.into());
    made.is_error = result.is_error;
    let part = |content| {
        Ok(match content {
            ToolResultContent::Text(text) => Part::Text(text.text),
            ToolResultContent::Json { value } => Part::Text(value.to_string()),
            ToolResultContent::Image(part) => image(part)?,
        })
    };
    made.content = result.content.into_iter().map(part).collect::<Result<_, EncodeError>>()?;
    Ok(made)
}

fn tool(definition: ToolDefinition) -> Tool {
    Tool::new(definition.name, definition.parameters).description(definition.description)
}

fn tool_choice(choice: RigChoice) -> Result<ToolChoice, EncodeError> {
    Ok(match choice {
        RigChoice::Auto => ToolChoice::Auto,
        RigChoice::None => ToolChoice::None,
        RigChoice::Required => ToolChoice::Required,
        RigChoice::Specific { function_names } => match <[_; 1]>::try_from(function_names) {
            Ok([name]) => ToolChoice::Named(name.into()),
            Err(_) => return Err(EncodeError::request("a stack can require one tool or any, not one of several")),
        },
    })
}

fn thinking(reasoning: RigReasoning) -> Thinking {
    match reasoning {
        RigReasoning::Off => Thinking::Off,
        RigReasoning::Budget { tokens } => Thinking::Budget(tokens),
        RigReasoning::Effort(effort) => Thinking::Effort(match effort {
            RigEffort::Minimal => Effort::Minimal,
            RigEffort::Low => Effort::Low,
            RigEffort::High => Effort::High,
            RigEffort::XHigh => Effort::XHigh,
            RigEffort::Max => Effort::Max,
            _ => Effort::Medium,
        }),
        _ => Thinking::Auto,
    }
}

/// Returns the name of a Rust type as providers take it.
fn schema_name(name: &str) -> String {
    let fitting = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    name.chars().take(64).map(fitting).collect()
}
