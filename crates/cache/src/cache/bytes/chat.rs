//! The binary form of a message.

use super::pieces::{DecodeError, Reader, Writer};
use crate::chat::{
    Document, Extra, ExtraOf, FinishReason, Image, Json, Media, Message, Opaque, Part, Reasoning, Role, ToolCall,
    ToolResult, Usage,
};

impl Writer {
    pub(super) fn message(&mut self, message: &Message) {
        let Message { role, content, finish, usage, id, model, .. } = message;
        self.tag(match role {
            Role::System => 0,
            Role::User => 1,
            Role::Assistant => 2,
        });
        self.list(content, Self::part);
        self.optional(finish.as_ref(), Self::finish_reason);
        self.optional(usage.as_ref(), Self::usage);
        self.optional_text(id.as_deref());
        self.optional_text(model.as_deref());
    }

    #[warn(clippy::wildcard_enum_match_arm, reason = "each part has its tag")]
    pub(super) fn part(&mut self, part: &Part) {
        match part {
            Part::Text(text) => {
                self.tag(0);
                self.text(text);
            }
            Part::Image(Image { media }) => {
                self.tag(1);
                self.media(media);
            }
            Part::Document(Document { media, name }) => {
                self.tag(2);
                self.media(media);
                self.optional_text(name.as_deref());
            }
            Part::ToolCall(ToolCall { id, name, arguments, opaque, .. }) => {
                self.tag(3);
                [id, name, arguments].into_iter().for_each(|text| self.text(text));
                self.optional(opaque.as_ref(), Self::opaque);
            }
            Part::ToolResult(ToolResult { call_id, name, content, is_error, .. }) => {
                self.tag(4);
                self.text(call_id);
                self.optional_text(name.as_deref());
                self.list(content, Self::part);
                self.flag(*is_error);
            }
            Part::Reasoning(Reasoning { text, opaque }) => {
                self.tag(5);
                self.text(text);
                self.optional(opaque.as_ref(), Self::opaque);
            }
            Part::Refusal(text) => {
                self.tag(6);
                self.text(text);
            }
            // JSON text preserves numbers. Up to version 1 they were pieces with tags of their own.
            Part::Other { dialect, value } => {
                self.tag(9);
                self.dialect(*dialect);
                self.text(value.as_str());
            }
            Part::Extra { of, extra: Extra { dialect, fields } } => {
                self.tag(10);
                self.tag(match of {
                    ExtraOf::Part => 0,
                    ExtraOf::Turn => 1,
                    ExtraOf::Answer => 2,
                });
                self.dialect(*dialect);
                self.text(fields.as_str());
            }
            _ => unreachable!("steadfast-core has no other part"),
        }
    }

    fn media(&mut self, media: &Media) {
        match media {
            Media::Base64 { media_type, data } => {
                self.tag(0);
                self.text(media_type);
                self.text(data);
            }
            Media::Url(url) => {
                self.tag(1);
                self.text(url);
            }
            Media::File(id) => {
                self.tag(2);
                self.text(id);
            }
        }
    }

    pub(super) fn opaque(&mut self, Opaque { dialect, token, redacted }: &Opaque) {
        self.dialect(*dialect);
        self.text(token);
        self.flag(*redacted);
    }

    pub(super) fn usage(&mut self, usage: &Usage) {
        let Usage { input, cache_read, cache_write, output, reasoning, .. } = usage;
        [input, cache_read, cache_write, output, reasoning].into_iter().for_each(|tokens| self.number(*tokens));
    }

    #[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its tag")]
    pub(super) fn finish_reason(&mut self, reason: &FinishReason) {
        match reason {
            FinishReason::Stop => self.tag(0),
            FinishReason::ToolUse => self.tag(1),
            FinishReason::Length => self.tag(2),
            FinishReason::ContextFull => self.tag(3),
            FinishReason::Filtered => self.tag(4),
            FinishReason::Refusal => self.tag(5),
            FinishReason::Paused => self.tag(6),
            FinishReason::ModelError(said) => {
                self.tag(7);
                self.text(said);
            }
            FinishReason::Other(said) => {
                self.tag(8);
                self.text(said);
            }
            _ => unreachable!("steadfast-core has no other reason"),
        }
    }
}

impl Reader<'_> {
    pub(super) fn message(&mut self) -> Result<Message, DecodeError> {
        let role = match self.tag()? {
            0 => Role::System,
            1 => Role::User,
            2 => Role::Assistant,
            _ => return Err(DecodeError),
        };
        let mut message = Message::new(role, self.list(Self::part)?);
        message.finish = self.optional(Self::finish_reason)?;
        message.usage = self.optional(Self::usage)?;
        message.id = self.optional(Self::text)?;
        message.model = self.optional(Self::text)?;
        Ok(message)
    }

    pub(super) fn part(&mut self) -> Result<Part, DecodeError> {
        Ok(match self.tag()? {
            0 => Part::Text(self.text()?),
            1 => Part::Image(Image { media: self.media()? }),
            2 => Part::Document(Document { media: self.media()?, name: self.optional(Self::text)? }),
            3 => {
                let mut call = ToolCall::new(self.text()?, self.text()?, self.text()?);
                call.opaque = self.optional(Self::opaque)?;
                Part::ToolCall(call)
            }
            4 => {
                let mut result = ToolResult::new(self.text()?, "");
                result.name = self.optional(Self::text)?;
                result.content = self.inside(|reader| reader.list(Self::part))?;
                result.is_error = self.flag()?;
                Part::ToolResult(result)
            }
            5 => Part::Reasoning(Reasoning { text: self.text()?, opaque: self.optional(Self::opaque)? }),
            6 => Part::Refusal(self.text()?),
            7 => Part::Other { dialect: self.dialect()?, value: self.value()?.into() },
            8 => Part::Extra { of: self.extra_of()?, extra: Extra::new(self.dialect()?, self.fields()?) },
            9 => Part::Other { dialect: self.dialect()?, value: self.json()? },
            10 => Part::Extra { of: self.extra_of()?, extra: Extra::new(self.dialect()?, self.json()?) },
            _ => return Err(DecodeError),
        })
    }

    fn extra_of(&mut self) -> Result<ExtraOf, DecodeError> {
        Ok(match self.tag()? {
            0 => ExtraOf::Part,
            1 => ExtraOf::Turn,
            2 => ExtraOf::Answer,
            _ => return Err(DecodeError),
        })
    }

    fn json(&mut self) -> Result<Json, DecodeError> {
        Json::parse(self.text()?).map_err(|_| DecodeError)
    }

    fn media(&mut self) -> Result<Media, DecodeError> {
        Ok(match self.tag()? {
            0 => Media::Base64 { media_type: self.text()?, data: self.text()? },
            1 => Media::Url(self.text()?),
            2 => Media::File(self.text()?),
            _ => return Err(DecodeError),
        })
    }

    pub(super) fn opaque(&mut self) -> Result<Opaque, DecodeError> {
        Ok(Opaque { dialect: self.dialect()?, token: self.text()?, redacted: self.flag()? })
    }

    pub(super) fn usage(&mut self) -> Result<Usage, DecodeError> {
        let mut usage = Usage::default();
        usage.input = self.number()?;
        usage.cache_read = self.number()?;
        usage.cache_write = self.number()?;
        usage.output = self.number()?;
        usage.reasoning = self.number()?;
        Ok(usage)
    }

    pub(super) fn finish_reason(&mut self) -> Result<FinishReason, DecodeError> {
        Ok(match self.tag()? {
            0 => FinishReason::Stop,
            1 => FinishReason::ToolUse,
            2 => FinishReason::Length,
            3 => FinishReason::ContextFull,
            4 => FinishReason::Filtered,
            5 => FinishReason::Refusal,
            6 => FinishReason::Paused,
            7 => FinishReason::ModelError(self.text()?),
            8 => FinishReason::Other(self.text()?),
            _ => return Err(DecodeError),
        })
    }
}
