use super::{Message, Part, Reasoning, Role, ToolCall, Usage};
use crate::body::StreamEvent;

/// Puts a stream's events together into the whole [`Message`].
///
/// Events of the same kind and index extend one part; parts keep the order in which they began.
#[derive(Debug)]
pub struct Accumulator {
    message: Message,
    /// For each part of the message, the stream's own index of it.
    indexes: Vec<u32>,
}

impl Default for Accumulator {
    fn default() -> Self {
        Self { message: Message::new(Role::Assistant, Vec::new()), indexes: Vec::new() }
    }
}

impl Accumulator {
    /// Takes one event in.
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
            StreamEvent::Text { index, text } => {
                match self.part(*index, |part| matches!(part, Part::Text(_)), || Part::Text(String::new())) {
                    Part::Text(so_far) => so_far.push_str(text),
                    _ => unreachable!("`part` gives what it was asked for"),
                }
            }
            StreamEvent::Reasoning { index, text } => self.reasoning(*index).text.push_str(text),
            StreamEvent::Signature { index, opaque } => self.reasoning(*index).opaque = Some(opaque.clone()),
            StreamEvent::Refusal { index, text } => {
                match self.part(*index, |part| matches!(part, Part::Refusal(_)), || Part::Refusal(String::new())) {
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
                let call = self.part(
                    *index,
                    |part| matches!(part, Part::ToolCall(_)),
                    || Part::ToolCall(ToolCall::new("", "", "")),
                );
                match call {
                    Part::ToolCall(call) => call.arguments.push_str(json),
                    _ => unreachable!("`part` gives what it was asked for"),
                }
            }
            StreamEvent::Part { index, part } => self.add(*index, part.clone()),
            StreamEvent::Usage(usage) => self.message.usage = Some(*usage),
            StreamEvent::Finish(reason) => self.message.finish = Some(reason.clone()),
            // The answer begins anew with another model: what was collected is not part of it.
            StreamEvent::Restarted { .. } => *self = Self::default(),
            StreamEvent::KeepAlive | StreamEvent::Other | StreamEvent::End => {}
        }
    }

    /// The tokens counted so far, where the provider said so.
    pub fn usage(&self) -> Option<Usage> {
        self.message.usage
    }

    /// The message so far.
    pub fn finish(self) -> Message {
        self.message
    }

    fn reasoning(&mut self, index: u32) -> &mut Reasoning {
        let part =
            self.part(index, |part| matches!(part, Part::Reasoning(_)), || Part::Reasoning(Reasoning::default()));
        match part {
            Part::Reasoning(reasoning) => reasoning,
            _ => unreachable!("`part` gives what it was asked for"),
        }
    }

    fn add(&mut self, index: u32, part: Part) {
        self.indexes.push(index);
        self.message.content.push(part);
    }

    /// The newest part of this index and kind, or a new one. Deltas nearly always extend the newest part of all.
    fn part(&mut self, index: u32, is: impl Fn(&Part) -> bool, new: impl FnOnce() -> Part) -> &mut Part {
        let found = self.indexes.iter().zip(&self.message.content).rposition(|(at, part)| *at == index && is(part));
        let place = found.unwrap_or_else(|| {
            self.add(index, new());
            self.indexes.len() - 1
        });
        &mut self.message.content[place]
    }
}
