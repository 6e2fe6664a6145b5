use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    Dialect, ErrorKind,
    chat::{FinishReason, Opaque, Part, Usage},
    estimate,
};

/// A piece of a streamed answer: the provider's own bytes, and their meaning.
#[derive(Clone)]
pub struct Frame {
    dialect: Option<Dialect>,
    raw: Bytes,
    events: Events,
}

/// Most frames carry one event, which is stored without an allocation.
#[derive(Clone)]
enum Events {
    One(StreamEvent),
    Many(Vec<StreamEvent>),
}

impl Frame {
    /// Creates a frame without a provider's bytes.
    pub fn event(event: StreamEvent) -> Self {
        Self { dialect: None, raw: Bytes::new(), events: Events::One(event) }
    }

    /// Creates a frame of several events without a provider's bytes.
    pub fn events_of(events: Vec<StreamEvent>) -> Self {
        Self { dialect: None, raw: Bytes::new(), events: Events::Many(events) }
    }

    /// Creates a frame of text.
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

    /// The provider's own bytes, framing included, and their dialect; `None` without any.
    pub fn raw(&self) -> Option<(Dialect, &Bytes)> {
        self.dialect.map(|dialect| (dialect, &self.raw))
    }

    /// The meaning of the bytes, in order.
    pub fn events(&self) -> &[StreamEvent] {
        match &self.events {
            Events::One(event) => std::slice::from_ref(event),
            Events::Many(events) => events,
        }
    }

    /// The progress of the answer with this frame: that of its furthest event.
    pub fn progress(&self) -> Progress {
        self.events().iter().map(StreamEvent::progress).max().unwrap_or(Progress::KeepAlive)
    }

    /// The approximate size in memory, in bytes.
    #[doc(hidden)]
    pub fn size(&self) -> usize {
        let events = self.events();
        size_of::<Self>()
            + self.raw.len()
            + size_of_val(events)
            + events.iter().map(StreamEvent::text_len).sum::<usize>()
    }
}

impl fmt::Debug for Frame {
    /// Writes the kind and the length, and nothing of the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("bytes", &self.raw.len())
            .field("events", &self.events().len())
            .field("progress", &self.progress())
            .finish()
    }
}

/// The progress of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// The connection is alive: a ping or a comment.
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

/// The meaning of a piece of a stream, the same for every provider.
///
/// `index` distinguishes parts of an answer that grow side by side; parts appear in the order of their first event.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The answer has begun.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers, by the provider's name for it.
        model: Option<String>,
    },
    /// More text.
    #[allow(missing_docs, reason = "said above")]
    Text { index: u32, text: String },
    /// More of a readable thought.
    #[allow(missing_docs, reason = "said above")]
    Reasoning { index: u32, text: String },
    /// The provider's opaque token that belongs to the thought and goes back with it.
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
    /// The reason that the model stopped. The end is still to come.
    Finish(FinishReason),
    /// The provider's own end mark: the answer is whole.
    End,
    /// The connection is alive, no more: a ping or a comment.
    KeepAlive,
    /// The stream broke, and the answer begins again with another tier: discard what came before.
    Restarted {
        /// The failure that broke the stream.
        reason: ErrorKind,
    },
    /// The stream broke, and another call goes on where its text ended: what came before stays.
    Continued(Box<Continued>),
    /// An event that only the provider's own dialect knows. It is in the frame's bytes.
    Other,
    /// A piece of the answer to a call that is no conversation. It is in the frame's bytes.
    Bytes,
}

/// The place in a stream where another call goes on with it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Continued {
    /// The failure that broke the stream.
    pub reason: ErrorKind,
    /// The tier that goes on.
    pub tier: Option<Arc<str>>,
    /// The model that goes on.
    pub model: Option<Arc<str>>,
    /// The text before it.
    pub so_far: Arc<str>,
    /// The index of that text.
    pub index: u32,
    /// The id and the model of the answer as they stood at its beginning.
    #[allow(missing_docs, reason = "said above")]
    pub begun_as: (Option<String>, Option<String>),
}

impl Continued {
    /// Creates the place after this text, where a stream broke for this reason.
    pub fn new(reason: ErrorKind, so_far: impl Into<Arc<str>>, index: u32) -> Self {
        Self { reason, tier: None, model: None, so_far: so_far.into(), index, begun_as: (None, None) }
    }
}

impl fmt::Debug for Continued {
    /// Writes the length of the text, never the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continued")
            .field("reason", &self.reason)
            .field("tier", &self.tier)
            .field("model", &self.model)
            .field("bytes", &self.so_far.len())
            .finish_non_exhaustive()
    }
}

impl StreamEvent {
    pub(super) fn progress(&self) -> Progress {
        match self {
            Self::KeepAlive => Progress::KeepAlive,
            Self::Start { .. }
            | Self::Usage(_)
            | Self::Other
            | Self::Restarted { .. }
            | Self::Continued(_)
            | Self::Finish(_) => Progress::Lifecycle,
            Self::Reasoning { text, .. } if text.is_empty() => Progress::Lifecycle,
            Self::Reasoning { .. } | Self::Signature { .. } => Progress::Reasoning,
            Self::Text { text, .. } | Self::Refusal { text, .. } if text.is_empty() => Progress::Lifecycle,
            Self::Part { part: Part::Extra { .. }, .. } => Progress::Lifecycle,
            Self::Arguments { json, .. } if json.is_empty() => Progress::Lifecycle,
            Self::Text { .. }
            | Self::Refusal { .. }
            | Self::ToolCall { .. }
            | Self::Arguments { .. }
            | Self::Part { .. }
            | Self::Bytes => Progress::Content,
            Self::End => Progress::End,
        }
    }

    /// Returns true if a reader or a program could use the event.
    #[doc(hidden)]
    pub fn is_content(&self) -> bool {
        self.progress() == Progress::Content
    }

    /// Returns true if the event says no more than that the provider is alive, so that dropping it loses nothing.
    #[doc(hidden)]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::KeepAlive | Self::Other => true,
            Self::Text { text, .. } | Self::Refusal { text, .. } | Self::Reasoning { text, .. } => text.is_empty(),
            Self::Arguments { json, .. } => json.is_empty(),
            _ => false,
        }
    }

    /// The approximate size in the memory of a whole message, in bytes.
    #[doc(hidden)]
    pub fn size(&self) -> usize {
        match self {
            // Most deltas extend a part.
            Self::Text { .. } | Self::Reasoning { .. } | Self::Refusal { .. } | Self::Arguments { .. } => {
                self.text_len()
            }
            _ => size_of::<Self>() + self.text_len(),
        }
    }

    /// The number of characters of the model's own words, as estimates of tokens count them.
    pub(super) fn characters(&self) -> usize {
        match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text, .. } => text.len(),
            Self::Arguments { json, .. } => json.len(),
            Self::ToolCall { name, .. } => name.len(),
            Self::Part { part, .. } => estimate::part(part),
            // A signature is not the model's text, but stands for its thoughts.
            _ => 0,
        }
    }

    /// The number of bytes of text.
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
            Self::Usage(_) | Self::Finish(_) | Self::End | Self::KeepAlive | Self::Restarted { .. } => 0,
            Self::Continued(place) => place.so_far.len(),
            Self::Other | Self::Bytes => 0,
        }
    }
}

impl fmt::Debug for StreamEvent {
    /// Writes the event's kind and the length of its text, never the text.
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
            Self::Continued(place) => return f.debug_tuple("Continued").field(place).finish(),
            Self::Other => "Other",
            Self::Bytes => "Bytes",
        };
        match self.text_len() {
            0 => f.write_str(name),
            bytes => write!(f, "{name}({bytes} bytes)"),
        }
    }
}
