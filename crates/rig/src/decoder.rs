//! A stack's frames as the events of rig's streams.

use std::{collections::HashSet, mem};

use rig_core::{
    completion::{FinishReason as RigFinish, Usage as RigUsage},
    error::ProviderError,
    message::{DocumentSourceKind, Image as RigImage, ImageMediaType, MimeType},
    operation::{Block, CallFragment, Completion, Finish},
    wire::{Decoder, Flow, Out, WireEvent},
};
use serde_json::Value;
use steadfast::{
    ErrorKind, Frame, LlmError, StreamEvent,
    chat::{FinishReason, Image, Media, Part, Usage},
};

use crate::error::provider_error;

/// The decoder of one answer's frames.
#[derive(Default)]
pub(crate) struct FrameDecoder {
    open: HashSet<usize>,
    finish: Finish,
    refusal: String,
}

impl<'id> Decoder<'id, Completion, Frame> for FrameDecoder {
    type Event = Frame;

    fn classify(&self, frame: Frame) -> WireEvent<Frame> {
        WireEvent::Known(frame)
    }

    fn decode(&mut self, frame: Frame, mut out: Out<'id, Completion>) -> Result<Flow, ProviderError> {
        for event in frame.events() {
            if *event == StreamEvent::End {
                out.finish_open()?;
                if !self.refusal.is_empty() {
                    self.finish.reason = Some(RigFinish::ContentFilter);
                    self.finish.error = Some(mem::take(&mut self.refusal));
                }
                return Ok(out.end(mem::take(&mut self.finish)));
            }
            self.write(event, &mut out)?;
        }
        Ok(Flow::More)
    }
}

impl FrameDecoder {
    fn write(&mut self, event: &StreamEvent, out: &mut Out<'_, Completion>) -> Result<(), ProviderError> {
        match event {
            StreamEvent::Start { id, model } => {
                (self.finish.response_id, self.finish.model) = (id.clone(), model.clone());
            }
            StreamEvent::Text { index, text } => {
                let at = self.open(*index, Block::Text, out)?;
                out.push(at, text)?;
            }
            StreamEvent::Reasoning { index, text } => {
                let at = self.open(*index, Block::Reasoning { redacted: false }, out)?;
                out.push(at, text)?;
            }
            StreamEvent::Signature { index, opaque } => {
                let at = self.open(*index, Block::Reasoning { redacted: opaque.redacted }, out)?;
                let own = serde_json::to_value(opaque)?;
                out.edit(at, |item| *item = own)?;
            }
            StreamEvent::Refusal { text, .. } => self.refusal.push_str(text),
            StreamEvent::ToolCall { index, id, name, opaque } => {
                let at = place(*index, Kind::ToolCall);
                out.fragment(Some(at), CallFragment { id: Some(id), name: Some(name), arguments: None })?;
                if let Some(opaque) = opaque {
                    let own = serde_json::to_value(opaque)?;
                    out.edit(at, |item| *item = own)?;
                }
            }
            StreamEvent::Arguments { index, json } => {
                let arguments = CallFragment { arguments: Some(json), ..CallFragment::default() };
                out.fragment(Some(place(*index, Kind::ToolCall)), arguments)?;
            }
            // Sources and the like are for the reader.
            StreamEvent::Part { part: Part::Extra { .. }, .. } => {}
            StreamEvent::Part { part: Part::Image(Image { media: Media::Base64 { media_type, data } }), .. } => {
                let at = out.fresh_index();
                let source = DocumentSourceKind::Base64(String::new());
                let media_type = ImageMediaType::from_mime_type(media_type);
                let image = RigImage { data: source, media_type, ..RigImage::default() };
                out.whole(at, Block::Image(image), Value::Null, data)?;
            }
            StreamEvent::Part { part, .. } => {
                let at = out.fresh_index();
                out.whole(at, Block::Opaque { replay: true }, serde_json::to_value(part)?, "")?;
            }
            StreamEvent::Usage(used) => self.finish.usage = usage(used),
            StreamEvent::Finish(reason) => {
                let (reason, error) = finish(reason);
                (self.finish.reason, self.finish.error) = (Some(reason), error);
            }
            StreamEvent::Restarted { .. } => {
                let words =
                    "the stream broke, and the stack began the answer again, which rig's streams cannot express";
                let error = LlmError::new(ErrorKind::StreamBroken, words);
                return Err(provider_error(&error));
            }
            _ => {}
        }
        Ok(())
    }

    /// Opens a part at its first event, and returns its place.
    fn open(&mut self, index: u32, block: Block, out: &mut Out<'_, Completion>) -> Result<usize, ProviderError> {
        let kind = if block == Block::Text { Kind::Text } else { Kind::Reasoning };
        let at = place(index, kind);
        if self.open.insert(at) {
            out.open(at, block, Value::Null)?;
        }
        Ok(at)
    }
}

/// The kinds of parts that grow: those of one index are parts of their own.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Reasoning,
    ToolCall,
}

fn place(index: u32, kind: Kind) -> usize {
    index as usize * 3 + kind as usize
}

fn usage(usage: &Usage) -> RigUsage {
    let some = |tokens: u64| (tokens > 0).then_some(tokens);
    RigUsage::new()
        .input_tokens(usage.input)
        .output_tokens(usage.output)
        .total_tokens(usage.total())
        .cached_input_tokens(some(usage.cache_read))
        .cache_creation_input_tokens(some(usage.cache_write))
        .reasoning_tokens(some(usage.reasoning))
}

/// Returns rig's reason, and the failure of the turn if it is one.
fn finish(reason: &FinishReason) -> (RigFinish, Option<String>) {
    match reason {
        FinishReason::ToolUse => (RigFinish::ToolCalls, None),
        FinishReason::Length | FinishReason::ContextFull => (RigFinish::Length, None),
        FinishReason::Filtered => (RigFinish::ContentFilter, None),
        FinishReason::Refusal => (RigFinish::ContentFilter, Some("the model declined".to_owned())),
        FinishReason::ModelError(words) => (RigFinish::Stop, Some(format!("the model failed: {words}"))),
        FinishReason::Other(word) => (RigFinish::Other(word.clone()), None),
        // A paused turn goes back as it is.
        _ => (RigFinish::Stop, None),
    }
}
