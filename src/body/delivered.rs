use super::{Frame, Progress, StreamEvent};

/// How much of a streamed answer its reader has had, and no word of it. Tokens are told beside it, where the provider says
/// them.
///
/// Where the answer began anew, it counts what came since: all before was to be discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Frames with something in them: reasoning, text, a tool call. Not pings, nor the provider's words about the answer.
    pub frames: u64,
    /// Characters of what a person reads: text, and words for declining.
    pub characters: u64,
    /// Bytes of all that was said, in UTF-8: that, reasoning, and tool calls with their arguments.
    pub bytes: u64,
    /// Tool calls that had begun. Whether their arguments were whole is not known here.
    pub tool_calls: u32,
    /// How often the answer began anew.
    pub restarts: u32,
}

impl Delivered {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(crate) fn add(&mut self, frame: &Frame) {
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
