//! The binary form of a stream's frames.

use super::pieces::{DecodeError, Reader, Writer};
use crate::{Frame, StreamEvent, body::Continued};

impl Writer {
    pub(super) fn frame(&mut self, frame: &Frame) {
        self.optional(frame.raw(), |writer, (dialect, raw)| {
            writer.dialect(dialect);
            writer.bytes(raw);
        });
        self.list(frame.events(), Self::event);
    }

    #[warn(clippy::wildcard_enum_match_arm, reason = "each event has its tag")]
    fn event(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model } => {
                self.tag(0);
                self.optional_text(id.as_deref());
                self.optional_text(model.as_deref());
            }
            StreamEvent::Text { index, text } => self.grows(1, *index, text),
            StreamEvent::Reasoning { index, text } => self.grows(2, *index, text),
            StreamEvent::Refusal { index, text } => self.grows(3, *index, text),
            StreamEvent::Arguments { index, json } => self.grows(4, *index, json),
            StreamEvent::Signature { index, opaque } => {
                self.at(5, *index);
                self.opaque(opaque);
            }
            StreamEvent::ToolCall { index, id, name, opaque } => {
                self.at(6, *index);
                self.text(id);
                self.text(name);
                self.optional(opaque.as_ref(), Self::opaque);
            }
            StreamEvent::Part { index, part } => {
                self.at(7, *index);
                self.part(part);
            }
            StreamEvent::Usage(usage) => {
                self.tag(8);
                self.usage(usage);
            }
            StreamEvent::Finish(reason) => {
                self.tag(9);
                self.finish_reason(reason);
            }
            StreamEvent::End => self.tag(10),
            StreamEvent::KeepAlive => self.tag(11),
            StreamEvent::Restarted { reason } => {
                self.tag(12);
                self.kind(*reason);
            }
            StreamEvent::Continued(place) => {
                self.at(14, place.index);
                self.kind(place.reason);
                self.text(&place.so_far);
                let (id, model) = &place.begun_as;
                for name in [place.tier.as_deref(), place.model.as_deref(), id.as_deref(), model.as_deref()] {
                    self.optional_text(name);
                }
            }
            // No answer to a call that is no conversation is kept.
            StreamEvent::Other | StreamEvent::Bytes => self.tag(13),
            _ => unreachable!("steadfast-core has no other event"),
        }
    }

    fn at(&mut self, tag: u8, index: u32) {
        self.tag(tag);
        self.number(index.into());
    }

    fn grows(&mut self, tag: u8, index: u32, text: &str) {
        self.at(tag, index);
        self.text(text);
    }
}

impl Reader<'_> {
    pub(super) fn frame(&mut self) -> Result<Frame, DecodeError> {
        let raw = self.optional(|reader| Ok((reader.dialect()?, reader.raw()?)))?;
        let mut events = self.list(Self::event)?;
        let frame = match (events.len(), events.pop()) {
            (1, Some(event)) => Frame::event(event),
            (_, last) => {
                events.extend(last);
                Frame::events_of(events)
            }
        };
        Ok(match raw {
            Some((dialect, raw)) => frame.with_raw(dialect, raw),
            None => frame,
        })
    }

    fn event(&mut self) -> Result<StreamEvent, DecodeError> {
        Ok(match self.tag()? {
            0 => StreamEvent::Start { id: self.optional(Self::text)?, model: self.optional(Self::text)? },
            1 => StreamEvent::Text { index: self.small()?, text: self.text()? },
            2 => StreamEvent::Reasoning { index: self.small()?, text: self.text()? },
            3 => StreamEvent::Refusal { index: self.small()?, text: self.text()? },
            4 => StreamEvent::Arguments { index: self.small()?, json: self.text()? },
            5 => StreamEvent::Signature { index: self.small()?, opaque: self.opaque()? },
            6 => StreamEvent::ToolCall {
                index: self.small()?,
                id: self.text()?,
                name: self.text()?,
                opaque: self.optional(Self::opaque)?,
            },
            7 => StreamEvent::Part { index: self.small()?, part: self.part()? },
            8 => StreamEvent::Usage(self.usage()?),
            9 => StreamEvent::Finish(self.finish_reason()?),
            10 => StreamEvent::End,
            11 => StreamEvent::KeepAlive,
            12 => StreamEvent::Restarted { reason: self.kind()? },
            13 => StreamEvent::Other,
            14 => {
                let index = self.small()?;
                let mut place = Continued::new(self.kind()?, self.text()?, index);
                let mut name = || self.optional(Self::text);
                (place.tier, place.model) = (name()?.map(Into::into), name()?.map(Into::into));
                place.begun_as = (name()?, name()?);
                StreamEvent::Continued(Box::new(place))
            }
            _ => return Err(DecodeError),
        })
    }
}
