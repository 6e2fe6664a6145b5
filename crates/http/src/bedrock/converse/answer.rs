//! An answer of Converse as one of Messages.

use serde_json::value::RawValue;

use super::{
    block::{call, citation, extras, image, redacted, stop, usage},
    content::BYTES,
    fields::{Fields, is_text},
    names::ToolNames,
    writer::Writer,
};
use crate::{LlmError, bedrock::messages_stream::malformed, internal::base64};

/// The facts about an answer that are not in its body.
#[derive(Clone, Debug, Default)]
pub struct AnswerHead {
    id: Option<String>,
    model: Option<String>,
    tool_names: ToolNames,
}

impl AnswerHead {
    /// Sets the answer's id: `x-amzn-requestid`. Without it, a random one is made.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the model's name, which the path of the request has.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the tools that the request had under other names: calls come back under their own.
    #[must_use]
    pub fn tool_names(mut self, names: ToolNames) -> Self {
        self.tool_names = names;
        self
    }

    /// Writes a tool call, or its beginning in a stream.
    pub(super) fn call(&self, out: &mut Writer, tool: &Fields<'_>) {
        let sent = (!self.tool_names.is_empty()).then(|| tool.text("name")).flatten();
        call(out, tool, sent.as_deref().and_then(|name| self.tool_names.own(name)));
    }

    /// Writes the first fields of a message.
    pub(super) fn write(&self, out: &mut Writer) {
        out.open(b'{').name("id");
        match &self.id {
            Some(id) => out.text(id),
            None => out.text(&format!("msg_{:016x}", fastrand::u64(..))),
        };
        out.name("type").text("message").name("role").text("assistant");
        out.name("model").text(self.model.as_deref().unwrap_or_default());
    }
}

/// Converts the body of an answer of Converse into the body of an answer of Messages.
///
/// The trace of a guardrail, the metrics and other fields that Messages lacks stay, under Converse's names. A block of
/// an unknown kind stays too, with its kind as the type.
///
/// # Errors
///
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the body is no answer of Converse.
pub fn answer(body: &[u8], head: &AnswerHead) -> Result<Vec<u8>, LlmError> {
    let text = str::from_utf8(body).map_err(|_| malformed("the answer is not UTF-8"))?;
    let answer: Fields<'_> = serde_json::from_str(text).map_err(|_| malformed("the answer is no JSON object"))?;
    let output = answer.object("output").ok_or_else(|| malformed("the answer has no `output`"))?;
    let message = output.object("message").ok_or_else(|| malformed("the answer's `output` has no `message`"))?;
    let content = message.list("content").ok_or_else(|| malformed("the answer's message has no `content`"))?;
    let mut out = Writer::with_capacity(text.len() + 256);
    head.write(&mut out);
    out.name("content").open(b'[');
    for raw in content {
        let fields = Fields::of(raw).ok_or_else(|| malformed("a block of the answer is no object"))?;
        block(&mut out, &fields, head);
    }
    out.close("]");
    stop(&mut out, answer.text("stopReason").as_deref(), &answer);
    out.name("usage");
    usage(&mut out, &answer.object("usage").unwrap_or_default());
    extras(&mut out, &answer);
    out.close("}");
    Ok(out.into_bytes())
}

fn block(out: &mut Writer, block: &Fields<'_>, head: &AnswerHead) {
    if let Some(text) = block.get("text").filter(|text| is_text(text)) {
        out.open(b'{').name("type").text("text").name("text").raw(text).close("}");
    } else if let Some(tool) = block.object("toolUse") {
        head.call(out, &tool);
    } else if let Some(reasoning) = block.object("reasoningContent") {
        thought(out, &reasoning);
    } else if let Some(cited) = block.object("citationsContent") {
        let texts = cited.list("content").unwrap_or_default();
        let texts: Vec<_> = texts.into_iter().filter_map(|part| Fields::of(part)?.text("text")).collect();
        out.open(b'{').name("type").text("text").name("text").text(&texts.concat()).name("citations").open(b'[');
        cited.list("citations").unwrap_or_default().into_iter().for_each(|raw| citation(out, raw));
        out.close("]}");
    } else if let Some(picture) = block.object("image") {
        let source = picture.object("source").unwrap_or_default();
        image(out, &picture.text("format").unwrap_or_default(), |out| {
            match source.get("bytes").filter(|bytes| is_text(bytes)) {
                Some(bytes) => out.raw(bytes),
                None => out.text(""),
            };
        });
    } else if let Some((kind, value)) = block.iter().find(|(kind, _)| *kind != "type") {
        other(out, kind, value);
    }
}

fn thought(out: &mut Writer, reasoning: &Fields<'_>) {
    if let Some(data) = reasoning.text("redactedContent") {
        let data = base64::decode(&data).map_or_else(|| format!("{BYTES}{data}"), redacted);
        out.open(b'{').name("type").text("redacted_thinking").name("data").text(&data).close("}");
        return;
    }
    let text = reasoning.object("reasoningText").unwrap_or_default();
    out.open(b'{').name("type").text("thinking");
    for (from, to) in [("text", "thinking"), ("signature", "signature")] {
        out.name(to);
        match text.get(from).filter(|text| is_text(text)) {
            Some(text) => out.raw(text),
            None => out.text(""),
        };
    }
    out.close("}");
}

/// Writes a block that Messages has no form for.
fn other(out: &mut Writer, kind: &str, value: &RawValue) {
    out.open(b'{').name("type").text(kind);
    // A kind by the name of `type` would be twice.
    if kind != "type" {
        out.name(kind).raw(value);
    }
    out.close("}");
}
