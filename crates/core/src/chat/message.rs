use serde::{Deserialize, Serialize};

use super::{Extra, ExtraOf, FinishReason, Json, ToolCall, ToolResult, Usage};
use crate::Dialect;

/// The speaker of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator, in the middle of a conversation. The leading system prompt is
    /// [`Chat::system`](super::Chat::system).
    System,
    /// The person or program that asks. Tool results are sent in this role too.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation: a caller's, or a model's whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// The content, in order.
    pub content: Vec<Part>,
    /// The reason that the model stopped; `None` in a caller's turn.
    pub finish: Option<FinishReason>,
    /// The tokens of the answer, if the provider reported them.
    pub usage: Option<Usage>,
    /// The provider's own id of the answer.
    pub id: Option<String>,
    /// The model that answered, by the provider's name for it.
    pub model: Option<String>,
}

impl Message {
    /// Creates a turn of `role` with this content.
    pub fn new(role: Role, content: Vec<Part>) -> Self {
        Self { role, content, finish: None, usage: None, id: None, model: None }
    }

    /// Creates a user's turn of text.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, vec![Part::Text(text.into())])
    }

    /// Creates a model's turn of text.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, vec![Part::Text(text.into())])
    }

    /// Returns the text of the turn: its text parts joined, without reasoning and refusals.
    pub fn text(&self) -> String {
        self.content.iter().filter_map(Part::as_text).collect()
    }

    /// Returns the tool calls of the turn, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// Returns true if the turn has nothing in it that a reader or a program could use.
    pub fn is_empty(&self) -> bool {
        self.content.iter().all(|part| match part {
            Part::Text(text) | Part::Refusal(text) => text.is_empty(),
            Part::Reasoning(_) | Part::Extra { .. } => true,
            _ => false,
        })
    }
}

/// A piece of a turn.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(Image),
    /// A document, such as a PDF.
    Document(Document),
    /// The model's request to call a tool.
    ToolCall(ToolCall),
    /// A tool's result.
    ToolResult(ToolResult),
    /// The model's reasoning before its answer.
    Reasoning(Reasoning),
    /// The model's own words for declining.
    Refusal(String),
    /// A part that only one dialect knows, as its own JSON.
    Other {
        /// The dialect that knows it.
        dialect: Dialect,
        /// The part as on that dialect's wire.
        value: Json,
    },
    /// Fields that only one dialect knows, of the part before it, of the turn, or of the answer.
    Extra {
        /// The owner of the fields.
        of: ExtraOf,
        /// The fields.
        extra: Extra,
    },
}

impl Part {
    /// The approximate number of bytes of text.
    pub fn size(&self) -> usize {
        let media = |media: &Media| match media {
            Media::Base64 { data, .. } => data.len(),
            Media::Url(text) | Media::File(text) => text.len(),
        };
        let opaque = |opaque: &Option<Opaque>| opaque.as_ref().map_or(0, |opaque| opaque.token.len());
        match self {
            Self::Text(text) | Self::Refusal(text) => text.len(),
            Self::Image(image) => media(&image.media),
            Self::Document(document) => media(&document.media),
            Self::ToolCall(call) => call.name.len() + call.arguments.len() + opaque(&call.opaque),
            Self::ToolResult(result) => result.content.iter().map(Self::size).sum(),
            Self::Reasoning(reasoning) => reasoning.text.len() + opaque(&reasoning.opaque),
            Self::Other { value, .. } => value.as_str().len(),
            Self::Extra { extra, .. } => extra.fields.as_str().len(),
        }
    }

    /// Returns the fields beside the part before this one, if it is such and `dialect` knows them.
    #[doc(hidden)]
    pub fn as_extra(&self, whose: ExtraOf, dialect: Dialect) -> Option<&Extra> {
        match self {
            Self::Extra { of, extra } if *of == whose && extra.dialect == dialect => Some(extra),
            _ => None,
        }
    }

    /// Returns the text of a text part.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The location of the bytes of a picture or a document.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// In the request itself, as base64 text.
    Base64 {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// At an address that the provider fetches. This crate never does.
    Url(String),
    /// At the provider, by the id that it gave the uploaded file.
    File(String),
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The location of its bytes.
    pub media: Media,
}

/// A document.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The location of its bytes.
    pub media: Media,
    /// Its file name or title.
    pub name: Option<String>,
}

/// A model's reasoning, and the provider's token that goes back with it in the next turn.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The readable thought; empty if the provider shows none.
    pub text: String,
    /// The provider's signature or encrypted form of the thought. Another provider cannot read it, so it is omitted
    /// there.
    pub opaque: Option<Opaque>,
}

/// A token that only its own dialect understands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// The dialect that made it.
    pub dialect: Dialect,
    /// The token's text.
    pub token: String,
    /// True if the token stands for the whole thought (encrypted, redacted); false if it signs the text beside it.
    pub redacted: bool,
}
