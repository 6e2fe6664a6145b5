//! A client that stands for the one that you have, such as async-openai: its types are serde types of OpenAI's
//! protocol, and its stream ends in the same way after a whole answer and after a cut.

use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub(crate) struct ChatRequest {
    messages: Vec<RequestMessage>,
}

#[derive(Deserialize)]
struct RequestMessage {
    content: String,
}

#[derive(Serialize)]
pub(crate) struct ChatResponse {
    choices: [Choice; 1],
}

/// A chunk of a streamed answer.
#[derive(Serialize)]
pub(crate) struct ChatChunk {
    choices: [ChunkChoice; 1],
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Content,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: u32,
    delta: Content,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Content {
    content: &'static str,
}

/// The fields of an error body, with the status of its answer.
#[derive(Serialize)]
pub(crate) struct ApiError {
    #[serde(skip)]
    pub(crate) status: u16,
    message: &'static str,
    r#type: &'static str,
    code: Option<&'static str>,
}

#[derive(Clone, Copy)]
pub(crate) struct Client;

impl Client {
    pub(crate) async fn create(self, _: ChatRequest) -> Result<ChatResponse, ApiError> {
        let message = Content { content: "A function that remembers." };
        Ok(ChatResponse { choices: [Choice { index: 0, message, finish_reason: "stop" }] })
    }

    pub(crate) async fn create_stream(
        self,
        request: ChatRequest,
    ) -> Result<impl Stream<Item = Result<ChatChunk, ApiError>> + Send + 'static, ApiError> {
        let chunk = |content, finish_reason| {
            Ok(ChatChunk { choices: [ChunkChoice { index: 0, delta: Content { content }, finish_reason }] })
        };
        Ok(stream::iter(match &*request.messages[0].content {
            "busy" => {
                let message = "Our servers are full.";
                return Err(ApiError { status: 503, message, r#type: "overloaded_error", code: None });
            }
            "cut" => vec![chunk("A function", None), chunk(" that", None)],
            _ => vec![chunk("A function", None), chunk(" that remembers.", None), chunk("", Some("stop"))],
        }))
    }
}
