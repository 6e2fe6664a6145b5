use super::{Frame, Progress, StreamEvent};

/// The amount of a streamed answer that its reader has received, without any of the text. The provider's count of
/// tokens stands beside it, if there is one.
///
/// After a restart it counts only what came since: the reader was to discard everything before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Frames with content: reasoning, text, a tool call. Pings and the provider's words about the answer do not count.
    pub frames: u64,
    /// Characters of text for a person: the answer, and words for declining.
    pub characters: u64,
    /// Bytes of all content in UTF-8: text, reasoning, and tool calls with their arguments.
    pub bytes: u64,
    /// Tool calls that had begun; their arguments may be incomplete.
    pub tool_calls: u32,
    /// The number of restarts.
    pub restarts: u32,
}

impl Delivery {
    /// Returns true if nothing was delivered.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Counts a frame that the caller received.
    pub fn add(&mut self, frame: &Frame) {
        let mut said = false;
        for event in frame.events() {
            match event {
                StreamEvent::Text { text, .. } | StreamEvent::Refusal { text, .. } => {
                    self.characters = self.characters.saturating_add(text.chars().count() as u64);
                }
                StreamEvent::ToolCall { .. } => self.tool_calls = self.tool_calls.saturating_add(1),
                StreamEvent::Restarted { .. } => {
                    *self = Self { restarts: self.restarts.saturating_add(1), ..Self::default() };
                    said = false;
                }
                _ => {}
            }
            if matches!(event.progress(), Progress::Reasoning | Progress::Content) {
                self.bytes = self.bytes.saturating_add(event.text_len() as u64);
                said = true;
            }
        }
        self.frames = self.frames.saturating_add(said.into());
    }
}
