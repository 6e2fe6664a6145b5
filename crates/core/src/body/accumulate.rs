use std::collections::HashMap;

use super::StreamEvent;
use crate::chat::{Message, Part, Reasoning, Role, ToolCall, Usage};

/// Joins a stream's events to the whole [`Message`].
///
/// Events of the same kind and index extend one part; parts keep the order in which they began.
#[derive(Debug)]
pub struct Accumulator {
    message: Message,
    /// The newest part of each index and kind, by its position in the message: a search through all parts for each
    /// event would take quadratic time.
    newest: HashMap<(u32, Kind), usize>,
    /// The last entry of `newest`: deltas nearly always extend the same part.
    last: Option<((u32, Kind), usize)>,
}

impl Default for Accumulator {
    fn default() -> Self {
        Self { message: Message::new(Role::Assistant, Vec::new()), newest: HashMap::new(), last: None }
    }
}

impl Accumulator {
    /// Adds one event.
    pub fn push(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model } => {
                if id.is_some() {
                    self.message.id.clone_from(id);
                }
                if model.is_some() {
                    self.message.model.clone_from(model);
                }
            }
            StreamEvent::Text { index, text } => match self.part(*index, Kind::Text, || Part::Text(String::new())) {
                Part::Text(so_far) => so_far.push_str(text),
                _ => unreachable!("`part` gives what it was asked for"),
            },
            StreamEvent::Reasoning { index, text } => self.reasoning(*index).text.push_str(text),
            StreamEvent::Signature { index, opaque } => self.reasoning(*index).opaque = Some(opaque.clone()),
            StreamEvent::Refusal { index, text } => {
                match self.part(*index, Kind::Refusal, || Part::Refusal(String::new())) {
                    Part::Refusal(so_far) => so_far.push_str(text),
                    _ => unreachable!("`part` gives what it was asked for"),
                }
            }
            StreamEvent::ToolCall { index, id, name, opaque } => {
                let mut call = ToolCall::new(id.clone(), name.clone(), "");
                call.opaque.clone_from(opaque);
                self.add(*index, Part::ToolCall(call));
            }
            StreamEvent::Arguments { index, json } => {
                let call = self.part(*index, Kind::ToolCall, || Part::ToolCall(ToolCall::new("", "", "")));
                match call {
                    Part::ToolCall(call) => call.arguments.push_str(json),
                    _ => unreachable!("`part` gives what it was asked for"),
                }
            }
            StreamEvent::Part { index, part } => self.add(*index, part.clone()),
            StreamEvent::Usage(usage) => self.message.usage = Some(*usage),
            StreamEvent::Finish(reason) => self.message.finish = Some(reason.clone()),
            // The answer begins again with another model, and contains nothing collected so far.
            StreamEvent::Restarted { .. } => *self = Self::default(),
            StreamEvent::KeepAlive
            | StreamEvent::Continued(_)
            | StreamEvent::Other
            | StreamEvent::Bytes
            | StreamEvent::End => {}
        }
    }

    /// The tokens counted so far, if the provider reported them.
    pub fn usage(&self) -> Option<Usage> {
        self.message.usage
    }

    /// Returns the message so far.
    pub fn finish(self) -> Message {
        self.message
    }

    fn reasoning(&mut self, index: u32) -> &mut Reasoning {
        let part = self.part(index, Kind::Reasoning, || Part::Reasoning(Reasoning::default()));
        match part {
            Part::Reasoning(reasoning) => reasoning,
            _ => unreachable!("`part` gives what it was asked for"),
        }
    }

    fn add(&mut self, index: u32, part: Part) {
        let place = self.message.content.len();
        if let Some(kind) = Kind::of(&part) {
            self.newest.insert((index, kind), place);
            self.last = Some(((index, kind), place));
        }
        self.message.content.push(part);
    }

    /// Returns the newest part of this index and kind, or a new one.
    fn part(&mut self, index: u32, kind: Kind, new: impl FnOnce() -> Part) -> &mut Part {
        let key = (index, kind);
        let known = self.last.filter(|(last, _)| *last == key).map(|(_, place)| place);
        let place = known.or_else(|| self.newest.get(&key).copied()).unwrap_or_else(|| {
            self.add(index, new());
            self.message.content.len() - 1
        });
        self.last = Some((key, place));
        &mut self.message.content[place]
    }
}

/// The kinds of parts that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Text,
    Reasoning,
    Refusal,
    ToolCall,
}

impl Kind {
    fn of(part: &Part) -> Option<Self> {
        match part {
            Part::Text(_) => Some(Self::Text),
            Part::Reasoning(_) => Some(Self::Reasoning),
            Part::Refusal(_) => Some(Self::Refusal),
            Part::ToolCall(_) => Some(Self::ToolCall),
            _ => None,
        }
    }
}
