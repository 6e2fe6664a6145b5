use std::borrow::Cow;

use bytes::Bytes;

use super::{Frame, StreamEvent};
use crate::{
    Dialect,
    chat::{FinishReason, Message, Part, Usage},
    estimate,
};

/// A complete answer. Small: every layer moves it on.
pub(super) enum Complete {
    Text(Cow<'static, str>),
    Message(Box<Whole>),
}

/// A message and, if a provider sent it, the provider's own bytes.
pub(super) struct Whole {
    pub(super) message: Message,
    pub(super) wire: Option<(Dialect, Bytes)>,
}

impl Complete {
    /// The provider's own bytes, with their dialect.
    pub(super) fn wire(&self) -> Option<(Dialect, &Bytes)> {
        match self {
            Self::Text(_) => None,
            Self::Message(whole) => whole.wire.as_ref().map(|(dialect, raw)| (*dialect, raw)),
        }
    }

    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Message(whole) => whole.message.model.as_deref(),
        }
    }

    #[inline]
    pub(super) fn usage(&self) -> Option<&Usage> {
        match self {
            Self::Text(_) => None,
            Self::Message(whole) => whole.message.usage.as_ref(),
        }
    }

    /// The number of characters, as estimates of tokens count them.
    pub(super) fn characters(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Message(whole) => whole.message.content.iter().map(|part| estimate::part(part) as u64).sum(),
        }
    }

    /// Returns true if the message has nothing in it that a reader could use.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Message(whole) => whole.message.is_empty(),
        }
    }

    pub(super) fn message(&self) -> Cow<'_, Message> {
        match self {
            Self::Text(text) => Cow::Owned(message_of(text.clone())),
            Self::Message(whole) => Cow::Borrowed(&whole.message),
        }
    }

    pub(super) fn into_message(self) -> Message {
        match self {
            Self::Text(text) => message_of(text),
            Self::Message(whole) => whole.message,
        }
    }

    /// Returns the whole answer as one frame.
    pub(super) fn frame(&self) -> Frame {
        let mut events = Vec::new();
        match self {
            Self::Text(text) => {
                events.push(StreamEvent::Start { id: None, model: None });
                events.push(StreamEvent::Text { index: 0, text: text.as_ref().to_owned() });
                events.push(StreamEvent::Finish(FinishReason::Stop));
            }
            Self::Message(whole) => {
                let message = &whole.message;
                events.push(StreamEvent::Start { id: message.id.clone(), model: message.model.clone() });
                for (index, part) in (0..).zip(&message.content) {
                    push_part(&mut events, index, part);
                }
                events.extend(message.usage.map(StreamEvent::Usage));
                events.extend(message.finish.clone().map(StreamEvent::Finish));
            }
        }
        events.push(StreamEvent::End);
        let frame = Frame::events_of(events);
        match self.wire() {
            Some((dialect, raw)) => frame.with_raw(dialect, raw.clone()),
            None => frame,
        }
    }
}

fn message_of(text: Cow<'static, str>) -> Message {
    let mut message = Message::assistant(text);
    message.finish = Some(FinishReason::Stop);
    message
}

fn push_part(events: &mut Vec<StreamEvent>, index: u32, part: &Part) {
    match part {
        Part::Text(text) => events.push(StreamEvent::Text { index, text: text.clone() }),
        Part::Refusal(text) => events.push(StreamEvent::Refusal { index, text: text.clone() }),
        Part::Reasoning(reasoning) => {
            events.push(StreamEvent::Reasoning { index, text: reasoning.text.clone() });
            events.extend(reasoning.opaque.clone().map(|opaque| StreamEvent::Signature { index, opaque }));
        }
        Part::ToolCall(call) => {
            events.push(StreamEvent::ToolCall {
                index,
                id: call.id.clone(),
                name: call.name.clone(),
                opaque: call.opaque.clone(),
            });
            events.push(StreamEvent::Arguments { index, json: call.arguments.clone() });
        }
        other => events.push(StreamEvent::Part { index, part: other.clone() }),
    }
}
