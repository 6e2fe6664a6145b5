use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};

use super::leaf::{ChatCompletions, Flavour};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Effort, Media, Message, OutputSchema, Part, Role, Thinking, Tool, ToolChoice, ToolResult},
};

type Notes = Vec<Cow<'static, str>>;

/// The body of a request.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Definition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Turn<'a> {
    System {
        content: Cow<'a, str>,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        content: Option<Content<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        refusal: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: Cow<'a, str>,
        content: Cow<'a, str>,
    },
}

/// A text alone, which every server takes, or a list of parts.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Block<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    File {
        file: File<'a>,
    },
    #[serde(untagged)]
    Own(&'a Value),
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum File<'a> {
    Data { filename: &'a str, file_data: String },
    Id { file_id: &'a str },
}

#[derive(Serialize)]
struct Call<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Definition<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Signature<'a>,
}

#[derive(Serialize)]
struct Signature<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: JsonSchema<'a> },
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    schema: &'a Value,
    strict: bool,
}

impl<'a> Body<'a> {
    pub(super) fn of(
        protocol: &ChatCompletions,
        chat: &'a Chat,
        model: &'a str,
        stream: bool,
        notes: &mut Notes,
    ) -> Result<Self, LlmError> {
        let own = protocol.flavour == Flavour::Own;
        let mistral = protocol.flavour == Flavour::Mistral;
        let mut stop: Vec<&str> = chat.stop.iter().map(String::as_str).filter(|stop| !stop.is_empty()).collect();
        if stop.len() > MOST_STOPS {
            notes.push("only the first four stop texts were sent".into());
            stop.truncate(MOST_STOPS);
        }
        Ok(Self {
            model,
            messages: turns(chat, mistral, notes)?,
            tools: chat.tools.iter().map(Definition::of).collect(),
            tool_choice: chat.tool_choice.as_ref().map(|choice| match choice {
                ToolChoice::Auto => json!("auto"),
                ToolChoice::Required if mistral => json!("any"),
                ToolChoice::Required => json!("required"),
                ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
                ToolChoice::None => json!("none"),
            }),
            // Refused without tools.
            parallel_tool_calls: chat.parallel_tool_calls.filter(|_| !chat.tools.is_empty()),
            max_completion_tokens: chat.max_tokens.filter(|_| own),
            max_tokens: chat.max_tokens.filter(|_| !own),
            temperature: chat.temperature,
            top_p: chat.top_p,
            stop,
            response_format: chat.output.as_ref().map(|output| match output {
                OutputSchema { schema: None, .. } => ResponseFormat::JsonObject,
                OutputSchema { name, schema: Some(schema), strict } => {
                    ResponseFormat::JsonSchema { json_schema: JsonSchema { name, schema, strict: *strict } }
                }
            }),
            reasoning_effort: chat.thinking.and_then(effort),
            stream,
            stream_options: (stream && protocol.stream_usage).then_some(StreamOptions { include_usage: true }),
        })
    }
}

/// OpenAI refuses more.
const MOST_STOPS: usize = 4;

/// The effort nearest to what is asked.
fn effort(thinking: Thinking) -> Option<&'static str> {
    Some(match thinking {
        Thinking::Auto => return None,
        Thinking::Off => "none",
        Thinking::Effort(Effort::Minimal) => "minimal",
        Thinking::Effort(Effort::Low) => "low",
        Thinking::Effort(Effort::Medium) => "medium",
        Thinking::Effort(Effort::High) => "high",
        Thinking::Effort(Effort::XHigh) => "xhigh",
        Thinking::Effort(Effort::Max) => "max",
        Thinking::Budget(0) => "none",
        Thinking::Budget(1..=1024) => "low",
        Thinking::Budget(1025..=2048) => "medium",
        Thinking::Budget(_) => "high",
    })
}

impl<'a> Definition<'a> {
    fn of(tool: &'a Tool) -> Self {
        Self {
            kind: "function",
            function: Signature {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: &tool.parameters,
                strict: tool.strict,
            },
        }
    }
}

fn turns<'a>(chat: &'a Chat, mistral: bool, notes: &mut Notes) -> Result<Vec<Turn<'a>>, LlmError> {
    let mut turns = Vec::with_capacity(chat.messages.len() + 1);
    if let Some(system) = chat.system.as_deref().filter(|system| !system.is_empty()) {
        turns.push(Turn::System { content: system.into() });
    }
    for message in &chat.messages {
        match message.role {
            Role::System => turns.push(Turn::System { content: message.text().into() }),
            Role::User => user(message, mistral, notes, &mut turns)?,
            Role::Assistant => turns.extend(assistant(message, mistral, notes)),
        }
    }
    if turns.is_empty() {
        return Err(LlmError::new(ErrorKind::InvalidRequest, "the conversation has no content"));
    }
    Ok(turns)
}

/// A user's turn: the results of tools as turns of their own, which come first, then the rest.
fn user<'a>(message: &'a Message, mistral: bool, notes: &mut Notes, turns: &mut Vec<Turn<'a>>) -> Result<(), LlmError> {
    let mut rest = Vec::new();
    for part in &message.content {
        if let Part::ToolResult(result) = part {
            turns.push(tool_result(result, mistral, notes, &mut rest)?);
        }
    }
    for part in &message.content {
        if !matches!(part, Part::ToolResult(_)) {
            rest.extend(block(part, notes)?);
        }
    }
    if let Some(content) = shortest(rest) {
        turns.push(Turn::User { content });
    }
    Ok(())
}

/// A tool's turn is a text: pictures go into the user's turn after it, a failure is said in words.
fn tool_result<'a>(
    result: &'a ToolResult,
    mistral: bool,
    notes: &mut Notes,
    rest: &mut Vec<Block<'a>>,
) -> Result<Turn<'a>, LlmError> {
    let mut texts = Vec::new();
    for part in &result.content {
        match part {
            Part::Text(text) => texts.push(text.as_str()),
            other => {
                notes.push("what a tool gave back beside text went into a user's turn".into());
                rest.extend(block(other, notes)?);
            }
        }
    }
    let text: Cow<'a, str> = match texts.as_slice() {
        [one] => Cow::Borrowed(*one),
        many => many.join("\n").into(),
    };
    let content = if result.is_error { format!("Error: {text}").into() } else { text };
    Ok(Turn::Tool { tool_call_id: call_id(&result.call_id, mistral), content })
}

fn assistant<'a>(message: &'a Message, mistral: bool, notes: &mut Notes) -> Option<Turn<'a>> {
    let (mut blocks, mut refusals, mut tool_calls) = (Vec::new(), Vec::new(), Vec::new());
    for part in &message.content {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => blocks.push(Block::Text { text }),
            Part::Refusal(text) => refusals.push(text.as_str()),
            Part::ToolCall(call) => tool_calls.push(Call {
                id: call_id(&call.id, mistral),
                kind: "function",
                function: Function {
                    name: &call.name,
                    arguments: if call.arguments.trim().is_empty() { "{}" } else { &call.arguments },
                },
            }),
            Part::Reasoning(_) => notes.push("reasoning was left out: the provider takes none back".into()),
            Part::Other { dialect, .. } => {
                notes.push(format!("a part of a model's turn that only {dialect} knows was left out").into());
            }
            _ => notes.push("a part of a model's turn was left out: the provider takes only text there".into()),
        }
    }
    let refusal = (!refusals.is_empty()).then(|| refusals.join("\n").into());
    let content = shortest(blocks);
    if content.is_none() && refusal.is_none() && tool_calls.is_empty() {
        return None;
    }
    Some(Turn::Assistant { content, refusal, tool_calls })
}

fn shortest(blocks: Vec<Block<'_>>) -> Option<Content<'_>> {
    match blocks.as_slice() {
        [] => None,
        [Block::Text { text }] => Some(Content::Text(text)),
        _ => Some(Content::Parts(blocks)),
    }
}

fn block<'a>(part: &'a Part, notes: &mut Notes) -> Result<Option<Block<'a>>, LlmError> {
    let unsupported = |what: &'static str| Err(LlmError::new(ErrorKind::UnsupportedFeature, what));
    Ok(Some(match part {
        Part::Text(text) | Part::Refusal(text) => Block::Text { text },
        Part::Image(image) => match &image.media {
            Media::Url(url) => Block::ImageUrl { image_url: ImageUrl { url: url.into() } },
            Media::Base64 { media_type, data } => {
                Block::ImageUrl { image_url: ImageUrl { url: format!("data:{media_type};base64,{data}").into() } }
            }
            Media::File(_) => return unsupported("a picture that was uploaded to another provider"),
        },
        Part::Document(document) => match &document.media {
            Media::Base64 { media_type, data } => Block::File {
                file: File::Data {
                    filename: document.name.as_deref().unwrap_or("document.pdf"),
                    file_data: format!("data:{media_type};base64,{data}"),
                },
            },
            Media::File(id) => Block::File { file: File::Id { file_id: id } },
            Media::Url(_) => return unsupported("a document at a URL"),
        },
        Part::Other { dialect: Dialect::OpenAi, value } => Block::Own(value),
        Part::Other { dialect, .. } => {
            notes.push(format!("a part that only {dialect} knows was left out").into());
            return Ok(None);
        }
        _ => return unsupported("a part that does not belong into a user's turn"),
    }))
}

/// Mistral wants nine letters and digits; any other id becomes such a one, always the same.
fn call_id(id: &str, mistral: bool) -> Cow<'_, str> {
    if !mistral || (id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return Cow::Borrowed(id);
    }
    // FNV-1a: short, and the same in every process.
    let mut hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let text = (0..9).map(|_| {
        let digit = digits[(hash % 36) as usize];
        hash /= 36;
        char::from(digit)
    });
    Cow::Owned(text.collect())
}
