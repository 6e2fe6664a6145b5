use std::fmt;

use bytes::Bytes;

use crate::{
    Dialect, ErrorKind,
    chat::{FinishReason, Opaque, Part, Usage},
    estimate,
};

/// A piece of a streamed answer: the provider's own bytes, and what they mean.
#[derive(Clone)]
pub struct Frame {
    dialect: Option<Dialect>,
    raw: Bytes,
    events: Events,
}

/// Most frames carry one event, so that one is kept without an allocation.
#[derive(Clone)]
enum Events {
    One(StreamEvent),
    Many(Vec<StreamEvent>),
}

impl Frame {
    /// A frame that no provider's bytes stand behind.
    pub fn event(event: StreamEvent) -> Self {
        Self { dialect: None, raw: Bytes::new(), events: Events::One(event) }
    }

    /// A frame of several events that no provider's bytes stand behind.
    pub fn events_of(events: Vec<StreamEvent>) -> Self {
        Self { dialect: None, raw: Bytes::new(), events: Events::Many(events) }
    }

    /// A frame of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::event(StreamEvent::Text { index: 0, text: text.into() })
    }

    /// Sets the provider's own bytes, framing included, in their dialect.
    #[must_use]
    pub fn with_raw(mut self, dialect: Dialect, raw: Bytes) -> Self {
        self.dialect = Some(dialect);
        self.raw = raw;
        self
    }

    /// The provider's own bytes, framing included, and their dialect; `None` where there are none.
    pub fn raw(&self) -> Option<(Dialect, &Bytes)> {
        self.dialect.map(|dialect| (dialect, &self.raw))
    }

    /// What the bytes mean, in order.
    pub fn events(&self) -> &[StreamEvent] {
        match &self.events {
            Events::One(event) => std::slice::from_ref(event),
            Events::Many(events) => events,
        }
    }

    /// How far this frame brings the answer: the furthest of its events.
    pub fn progress(&self) -> Progress {
        self.events().iter().map(StreamEvent::progress).max().unwrap_or(Progress::KeepAlive)
    }

    /// The bytes that it holds in memory, about.
    pub(crate) fn size(&self) -> usize {
        let events = self.events();
        size_of::<Self>()
            + self.raw.len()
            + size_of_val(events)
            + events.iter().map(StreamEvent::text_len).sum::<usize>()
    }
}

impl fmt::Debug for Frame {
    /// Says how much is in it and what kind, and nothing of the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("bytes", &self.raw.len())
            .field("events", &self.events().len())
            .field("progress", &self.progress())
            .finish()
    }
}

/// How far a frame brings an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// The connection lives: a ping or a comment.
    KeepAlive,
    /// The provider has begun: `message_start`, a role without content, an empty delta.
    Lifecycle,
    /// The model reasons.
    Reasoning,
    /// The model answers: text, a tool call, a refusal.
    Content,
    /// The answer has ended, by the provider's own mark.
    End,
}

/// What a piece of a stream means, the same at every provider.
///
/// `index` tells apart the parts of an answer that grow side by side; parts appear in the order of their first event.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The answer has begun.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers, as the provider names it.
        model: Option<String>,
    },
    /// More text.
    #[allow(missing_docs, reason = "said above")]
    Text { index: u32, text: String },
    /// More of a readable thought.
    #[allow(missing_docs, reason = "said above")]
    Reasoning { index: u32, text: String },
    /// What the provider wants to see again beside the thought.
    #[allow(missing_docs, reason = "said above")]
    Signature { index: u32, opaque: Opaque },
    /// More of the model's words for declining.
    #[allow(missing_docs, reason = "said above")]
    Refusal { index: u32, text: String },
    /// A tool call begins.
    #[allow(missing_docs, reason = "said above")]
    ToolCall { index: u32, id: String, name: String, opaque: Option<Opaque> },
    /// More of a tool call's arguments, as JSON text.
    #[allow(missing_docs, reason = "said above")]
    Arguments { index: u32, json: String },
    /// A whole part of another kind.
    #[allow(missing_docs, reason = "said above")]
    Part { index: u32, part: Part },
    /// The tokens used so far: a running figure, the last one counts.
    Usage(Usage),
    /// Why the model stopped. The end is still to come.
    Finish(FinishReason),
    /// The provider's own end mark: the answer is whole.
    End,
    /// The connection lives, no more: a ping or a comment.
    KeepAlive,
    /// The stream broke and the answer begins anew with another tier: discard what came before.
    Restarted {
        /// What broke the stream.
        reason: ErrorKind,
    },
    /// Something that only the provider's own dialect knows. It is in the frame's bytes.
    Other,
}

impl StreamEvent {
    pub(super) fn progress(&self) -> Progress {
        match self {
            Self::KeepAlive => Progress::KeepAlive,
            Self::Start { .. } | Self::Usage(_) | Self::Other | Self::Restarted { .. } | Self::Finish(_) => {
                Progress::Lifecycle
            }
            Self::Reasoning { text, .. } if text.is_empty() => Progress::Lifecycle,
            Self::Reasoning { .. } | Self::Signature { .. } => Progress::Reasoning,
            Self::Text { text, .. } | Self::Refusal { text, .. } if text.is_empty() => Progress::Lifecycle,
            Self::Part { part: Part::Extra { .. }, .. } => Progress::Lifecycle,
            Self::Arguments { json, .. } if json.is_empty() => Progress::Lifecycle,
            Self::Text { .. }
            | Self::Refusal { .. }
            | Self::ToolCall { .. }
            | Self::Arguments { .. }
            | Self::Part { .. } => Progress::Content,
            Self::End => Progress::End,
        }
    }

    /// Whether a reader or a program could use it.
    pub(crate) fn is_content(&self) -> bool {
        self.progress() == Progress::Content
    }

    /// Whether nothing is lost with it: it says no more than that the provider lives.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::KeepAlive | Self::Other => true,
            Self::Text { text, .. } | Self::Refusal { text, .. } | Self::Reasoning { text, .. } => text.is_empty(),
            Self::Arguments { json, .. } => json.is_empty(),
            _ => false,
        }
    }

    /// How many characters of the model's own words are in it, as estimates of tokens count them.
    pub(super) fn said(&self) -> usize {
        match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text, .. } => text.len(),
            Self::Arguments { json, .. } => json.len(),
            Self::ToolCall { name, .. } => name.len(),
            Self::Part { part, .. } => estimate::part(part),
            // A signature is no word of the model's, but stands for its thoughts.
            _ => 0,
        }
    }

    /// The bytes of text in it.
    pub(super) fn text_len(&self) -> usize {
        match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text, .. } => text.len(),
            Self::Arguments { json, .. } => json.len(),
            Self::Signature { opaque, .. } => opaque.token.len(),
            Self::ToolCall { id, name, opaque, .. } => {
                id.len() + name.len() + opaque.as_ref().map_or(0, |opaque| opaque.token.len())
            }
            Self::Part { part, .. } => part.size(),
            Self::Start { id, model } => [id, model].into_iter().flatten().map(String::len).sum(),
            Self::Usage(_) | Self::Finish(_) | Self::End | Self::KeepAlive | Self::Restarted { .. } | Self::Other => 0,
        }
    }
}

impl fmt::Debug for StreamEvent {
    /// The event's kind and the length of its text, never the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Start { .. } => "Start",
            Self::Text { .. } => "Text",
            Self::Reasoning { .. } => "Reasoning",
            Self::Signature { .. } => "Signature",
            Self::Refusal { .. } => "Refusal",
            Self::ToolCall { .. } => "ToolCall",
            Self::Arguments { .. } => "Arguments",
            Self::Part { .. } => "Part",
            Self::Usage(usage) => return f.debug_tuple("Usage").field(usage).finish(),
            Self::Finish(reason) => return f.debug_tuple("Finish").field(reason).finish(),
            Self::End => "End",
            Self::KeepAlive => "KeepAlive",
            Self::Restarted { reason } => return f.debug_tuple("Restarted").field(reason).finish(),
            Self::Other => "Other",
        };
        match self.text_len() {
            0 => f.write_str(name),
            bytes => write!(f, "{name}({bytes} bytes)"),
        }
    }
}
