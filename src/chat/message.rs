use serde::{Deserialize, Serialize};

use super::{Extra, ExtraOf, FinishReason, Json, ToolCall, ToolResult, Usage};
use crate::Dialect;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator, in the middle of a conversation. The leading system prompt is [`Chat::system`](super::Chat::system).
    System,
    /// The person or program that asks. Tool results are theirs too.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation: a caller's, or a model's whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Part>,
    /// Why the model stopped; `None` in a caller's turn.
    pub finish: Option<FinishReason>,
    /// The tokens that the answer took, where the provider said so.
    pub usage: Option<Usage>,
    /// The provider's own id of the answer.
    pub id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
}

impl Message {
    /// A turn of `role` with this content.
    pub fn new(role: Role, content: Vec<Part>) -> Self {
        Self { role, content, finish: None, usage: None, id: None, model: None }
    }

    /// A user's turn of text.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, vec![Part::Text(text.into())])
    }

    /// A model's turn of text.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, vec![Part::Text(text.into())])
    }

    /// The text of the turn: its text parts put together, without reasoning and refusals.
    pub fn text(&self) -> String {
        self.content.iter().filter_map(Part::as_text).collect()
    }

    /// The tool calls of the turn, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|part| match part {
            Part::ToolCall(call) => Some(call),
            _ => None,
        })
    }

    /// Whether there is nothing in it that a reader or a program could use.
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
    /// The model asks for a tool to be called.
    ToolCall(ToolCall),
    /// What a tool gave back.
    ToolResult(ToolResult),
    /// What the model thought before it answered.
    Reasoning(Reasoning),
    /// The model's own words for declining.
    Refusal(String),
    /// A part that only one dialect knows, as its own JSON.
    Other {
        /// The dialect that knows it.
        dialect: Dialect,
        /// The part as it stands on that dialect's wire.
        value: Json,
    },
    /// Fields that only one dialect knows, of the part before it, of the turn, or of the answer.
    Extra {
        /// Whose fields they are.
        of: ExtraOf,
        /// The fields.
        extra: Extra,
    },
}

impl Part {
    /// The bytes of text in it, about.
    pub(crate) fn size(&self) -> usize {
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

    /// The fields beside the part before it, if it is such and `dialect` knows them.
    pub(crate) fn as_extra(&self, whose: ExtraOf, dialect: Dialect) -> Option<&Extra> {
        match self {
            Self::Extra { of, extra } if *of == whose && extra.dialect == dialect => Some(extra),
            _ => None,
        }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Where the bytes of a picture or a document are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Media {
    /// In the request itself, as base64 text.
    Base64 {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The bytes in base64.
        data: String,
    },
    /// At an address that the provider fetches. Nothing in this crate ever does.
    Url(String),
    /// At the provider, uploaded before, by its id there.
    File(String),
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where its bytes are.
    pub media: Media,
}

/// A document.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Where its bytes are.
    pub media: Media,
    /// Its file name or title.
    pub name: Option<String>,
}

/// What a model thought, and what its provider wants to see again in the next turn.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The readable thought; empty where the provider shows none.
    pub text: String,
    /// The provider's signature or encrypted form of it. It means nothing to another provider and is left out there.
    pub opaque: Option<Opaque>,
}

/// A token that only the dialect that made it understands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opaque {
    /// The dialect that made it.
    pub dialect: Dialect,
    /// Its text.
    pub token: String,
    /// Whether it stands for the whole thought (encrypted, redacted), rather than signing the text beside it.
    pub redacted: bool,
}
