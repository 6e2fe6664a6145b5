//! `Debug` of callers' and models' content: its kind and length, never the words.

use std::fmt;

use super::{Chat, Document, Media, Opaque, OutputSchema, Part, Reasoning, Tool, ToolCall};

/// The place of a text in the output.
struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat")
            .field("model", &self.model)
            .field("system", &self.system.as_ref().map(|text| Bytes(text.len())))
            .field("messages", &self.messages)
            .field("tools", &self.tools)
            .field("max_tokens", &self.max_tokens)
            .field("thinking", &self.thinking)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&Bytes(text.len())).finish(),
            Self::Refusal(text) => f.debug_tuple("Refusal").field(&Bytes(text.len())).finish(),
            Self::Image(image) => image.fmt(f),
            Self::Document(document) => document.fmt(f),
            Self::ToolCall(call) => call.fmt(f),
            Self::ToolResult(result) => result.fmt(f),
            Self::Reasoning(reasoning) => reasoning.fmt(f),
            Self::Extra { of, extra } => f.debug_tuple("Extra").field(of).field(extra).finish(),
            Self::Other { dialect, .. } => f.debug_struct("Other").field("dialect", dialect).finish_non_exhaustive(),
        }
    }
}

impl fmt::Debug for Media {
    /// An address can hold a key, so it is not written either.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 { media_type, data } => {
                f.debug_struct("Base64").field("media_type", media_type).field("data", &Bytes(data.len())).finish()
            }
            Self::Url(url) => f.debug_tuple("Url").field(&Bytes(url.len())).finish(),
            Self::File(id) => f.debug_tuple("File").field(id).finish(),
        }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("media", &self.media).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reasoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reasoning").field("text", &Bytes(self.text.len())).field("opaque", &self.opaque).finish()
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opaque")
            .field("dialect", &self.dialect)
            .field("token", &Bytes(self.token.len()))
            .field("redacted", &self.redacted)
            .finish()
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).field("strict", &self.strict).finish_non_exhaustive()
    }
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolCall")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("arguments", &Bytes(self.arguments.len()))
            .field("opaque", &self.opaque)
            .finish()
    }
}

impl fmt::Debug for OutputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputSchema").field("name", &self.name).field("strict", &self.strict).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::Dialect;

    #[test]
    fn no_word_of_a_conversation_is_shown() {
        let secret = || "secret".to_owned();
        let opaque = || Some(Opaque { dialect: Dialect::Anthropic, token: secret(), redacted: true });
        let base64 = Media::Base64 { media_type: "image/png".into(), data: secret() };
        let mut call = ToolCall::new("call_1", "weather", secret());
        call.opaque = opaque();
        let parts = vec![
            Part::Text(secret()),
            Part::Refusal(secret()),
            Part::Reasoning(Reasoning { text: secret(), opaque: opaque() }),
            Part::Image(Image { media: base64 }),
            Part::Document(Document { media: Media::Url(secret()), name: Some(secret()) }),
            Part::ToolCall(call),
            Part::ToolResult(ToolResult::new("call_1", secret())),
            Part::Other { dialect: Dialect::OpenAi, value: serde_json::Value::from(secret()).into() },
        ];
        let tool = Tool::new("weather", serde_json::Value::from(secret())).description(secret());
        let mut chat = Chat::new([Message::new(Role::User, parts)]).system(secret()).tool(tool).model("gpt-4o");
        chat.stop = vec![secret()];
        chat.output = Some(OutputSchema {
            name: "answer".into(),
            schema: Some(serde_json::Value::from(secret()).into()),
            strict: true,
        });
        let mut whole = crate::body::Accumulator::default();
        whole.push(&crate::StreamEvent::Text { index: 0, text: secret() });

        let shown = format!("{chat:#?} {:?} {whole:?}", chat.output);
        assert!(!shown.contains("secret"), "{shown}");
        for what in ["gpt-4o", "weather", "call_1", "Text(", "6 bytes", "answer"] {
            assert!(shown.contains(what), "{what} in {shown}");
        }
    }
}
