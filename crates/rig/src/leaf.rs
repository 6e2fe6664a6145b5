//! A model of rig as a leaf.

use futures_util::{Stream, StreamExt, stream};
use rig_core::{
    DynModel,
    completion::{CompletionResponse, FinishReason as RigFinish, Usage as RigUsage},
    error::ProviderError,
    message::{AssistantContent, DocumentSourceKind, LocalCallId, MimeType},
    operation::Completion,
    streaming::{CompletionStream, Item, PartKind, StreamEvent as RigEvent},
};
use serde_json::Value;
use steadfast::{
    BoxLlmService, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{FinishReason, Image, Media, Message, Part, Reasoning, Role, ToolCall, Usage},
    provider_fn,
};

use crate::{error::llm_error, rig_request::completion_request};

/// Returns a leaf that answers by a model of rig: a tier for a provider that only rig has.
///
/// It answers like steadfast's own leaves: a stream is held back until its first token, an empty answer is an error,
/// and a failure has the kind of [`llm_error`]. The model is the leaf's own, whatever a request names.
///
/// ```
/// use rig_core::providers::openai::OpenAIConfig;
/// use steadfast::{FallbackLayer, LlmRequest, providers::simulated::{Fault, Simulated}};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), steadfast::LlmError> {
/// # let http = steadfast_rig::http_client(Simulated::new("command-r").reply("It rains."));
/// let rig = OpenAIConfig::new("sk-..").connect(http).chat("command-r");
/// let gpt = Simulated::new("gpt-4o");
/// gpt.handle().fail(Fault::ServerError);
/// let stack = ServiceBuilder::new().layer(FallbackLayer::new("gpt").tier("rig", steadfast_rig::leaf(rig))).service(gpt);
///
/// let answer = stack.oneshot(LlmRequest::prompt("How is the weather?")).await?;
/// assert_eq!(answer.served_by().tier, Some("rig"));
/// assert_eq!(answer.text().await?, "It rains.");
/// # Ok(()) }
/// ```
///
/// # Limits of the types
///
/// - A request with a part that rig lacks (a tool that runs at its provider, JSON of any shape, another dialect's own
///   part), or with a schema for a model that rig gives none, is an [`ErrorKind::UnsupportedFeature`], so that another
///   tier takes it. Beside tools, rig's chat completions have a schema only once a tool has answered.
/// - The fields of one dialect ([`Chat::extra`](steadfast::Chat::extra)), a document's name and earlier thoughts are
///   omitted, and so are settings that the model's provider lacks.
/// - rig's streams name a tool call's id at its end. The leaf gives a streamed call an id of its own at its start, so
///   that its arguments arrive as they are written. A whole answer's calls keep theirs.
/// - A thought's signature is rig's own, and is omitted.
pub fn leaf(model: impl Into<DynModel<Completion>>) -> BoxLlmService {
    let model = model.into();
    BoxLlmService::new(provider_fn(move |request| answer(model.clone(), request)))
}

async fn answer(model: DynModel<Completion>, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let id = model.id().unwrap_or_default();
    let failed = |error| llm_error(error).with_model(model.name(), id);
    let chat = request.chat()?;
    // Without it, rig's wires omit a schema.
    if chat.output.is_some() && !model.capabilities().completion.composes_native_output_with_tools {
        let words = "rig's model does not hold its answer to a schema";
        return Err(LlmError::new(ErrorKind::UnsupportedFeature, words).with_model(model.name(), id));
    }
    let asked = completion_request(chat)?;
    let body = if request.is_stream() {
        LlmBody::from_frames(frames(model.stream(asked).map_err(failed)?, id.to_owned()))
    } else {
        LlmBody::from_message(message(model.call(asked).await.map_err(failed)?))
    };
    Ok(LlmResponse::new(body).with_model(model.name(), id))
}

/// Returns a stream's frames, with the end of the answer where rig has the provider's.
fn frames(stream: CompletionStream, model: String) -> impl Stream<Item = Result<Frame, LlmError>> {
    let start = Frame::event(StreamEvent::Start { id: None, model: Some(model) });
    let rest = stream::unfold(Some((stream, false)), |state| async {
        let (mut stream, mut has_begun) = state?;
        Some(match stream.next().await {
            Some(Ok(item)) => {
                let event = event(item);
                has_begun |= matches!(event, StreamEvent::Text { .. } | StreamEvent::ToolCall { .. });
                (Ok(Frame::event(event)), Some((stream, has_begun)))
            }
            Some(Err(error)) => (Err(broken(error, has_begun)), None),
            None => (stream.finish().await.map(end).map_err(|error| broken(error, has_begun)), None),
        })
    });
    stream::iter([Ok(start)]).chain(rest)
}

/// Returns the failure of a stream. A connection that fails after the answer has begun has broken the stream.
fn broken(error: ProviderError, has_begun: bool) -> LlmError {
    match llm_error(error) {
        error if has_begun && error.kind() == ErrorKind::Connect => {
            LlmError::new(ErrorKind::StreamBroken, error.message().to_owned()).with_source(error)
        }
        error => error,
    }
}

fn event(item: Item<RigEvent>) -> StreamEvent {
    let index = |part: rig_core::streaming::Part| u32::try_from(part.index()).unwrap_or(u32::MAX);
    let Item::Event(event) = item else { return StreamEvent::Other };
    match event {
        RigEvent::Start { part, kind: PartKind::ToolCall, name: Some(name) } => {
            let id = LocalCallId::new().to_string();
            StreamEvent::ToolCall { index: index(part), id, name: name.into(), opaque: None }
        }
        RigEvent::Text { part, text } => StreamEvent::Text { index: index(part), text },
        RigEvent::Reasoning { part, text } => StreamEvent::Reasoning { index: index(part), text },
        RigEvent::Arguments { part, json } => StreamEvent::Arguments { index: index(part), json },
        RigEvent::End { part, content: content @ AssistantContent::Image(_) } => match self::part(content) {
            Some(image) => StreamEvent::Part { index: index(part), part: image },
            None => StreamEvent::KeepAlive,
        },
        RigEvent::Start { .. } | RigEvent::End { .. } => StreamEvent::KeepAlive,
    }
}

fn end(response: CompletionResponse) -> Frame {
    let mut events: Vec<_> = usage(&response.usage).map(StreamEvent::Usage).into_iter().collect();
    events.extend([StreamEvent::Finish(finish(&response)), StreamEvent::End]);
    Frame::events_of(events)
}

fn message(response: CompletionResponse) -> Message {
    let (finish, usage) = (finish(&response), usage(&response.usage));
    let (id, model) = (response.response_id().map(str::to_owned), response.model().map(str::to_owned));
    let mut message = Message::new(Role::Assistant, response.choice.into_iter().filter_map(part).collect());
    (message.finish, message.usage, message.id, message.model) = (Some(finish), usage, id, model);
    message
}

fn part(content: AssistantContent) -> Option<Part> {
    Some(match content {
        AssistantContent::Text(text) => Part::Text(text.text),
        AssistantContent::Reasoning(reasoning) if reasoning.redacted => return None,
        AssistantContent::Reasoning(reasoning) => Part::Reasoning(Reasoning { text: reasoning.text, opaque: None }),
        AssistantContent::ToolCall(call) => {
            let function = call.function;
            let arguments = function.invalid_arguments.unwrap_or_else(|| Value::from(function.arguments).to_string());
            Part::ToolCall(ToolCall::new(call.id.wire(), function.name, arguments))
        }
        AssistantContent::Image(image) => Part::Image(Image {
            media: match image.data {
                DocumentSourceKind::Base64(data) => {
                    Media::Base64 { media_type: image.media_type?.to_mime_type().to_owned(), data }
                }
                DocumentSourceKind::Url(url) => Media::Url(url),
                _ => return None,
            },
        }),
        _ => return None,
    })
}

fn usage(usage: &RigUsage) -> Option<Usage> {
    let mut made = Usage::new(usage.input_tokens.unwrap_or_default(), usage.output_tokens.unwrap_or_default());
    made.cache_read = usage.cached_input_tokens.unwrap_or_default();
    made.cache_write = usage.cache_creation_input_tokens.unwrap_or_default();
    made.reasoning = usage.reasoning_tokens.unwrap_or_default();
    usage.is_reported().then_some(made)
}

fn finish(response: &CompletionResponse) -> FinishReason {
    match (response.finish_reason(), &response.error) {
        (Some(RigFinish::ContentFilter), Some(_)) => FinishReason::Refusal,
        (_, Some(error)) => FinishReason::ModelError(error.clone()),
        (Some(RigFinish::ContentFilter), None) => FinishReason::Filtered,
        (Some(RigFinish::ToolCalls), None) => FinishReason::ToolUse,
        (Some(RigFinish::Length), None) => FinishReason::Length,
        (Some(RigFinish::Other(word)), None) => FinishReason::Other(word),
        _ if response.tool_calls().next().is_some() => FinishReason::ToolUse,
        _ => FinishReason::Stop,
    }
}
