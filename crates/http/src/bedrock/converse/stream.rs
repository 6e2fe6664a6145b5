//! The events of `ConverseStream` as those of Messages.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use serde_json::value::RawValue;
use tower::BoxError;

use super::{
    AnswerHead,
    block::{citation, extras, image, redacted, stop, usage},
    fields::{Fields, is_text},
    writer::Writer,
};
use crate::{
    LlmError,
    bedrock::{
        event_stream::Message,
        messages_stream::{MessagesStream, Rewrite, event, malformed},
    },
    internal::base64,
};

/// Rewrites the body of `ConverseStream` as the server-sent events of Messages.
///
/// Blocks get the beginnings that Converse leaves out, and indices without gaps. The last events wait for `metadata`,
/// which has the usage; a stream that is cut behind `messageStop` ends without it. An exception within the stream
/// becomes an `error` event of the closest type. Unknown events are passed over.
///
/// The returned stream fails if the body is damaged, or is cut before `messageStop`.
pub fn sse<S>(body: S, head: AnswerHead) -> impl Stream<Item = Result<Bytes, BoxError>> + Unpin + use<S>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Unpin,
{
    MessagesStream::new(body, Events { head, ..Events::default() })
}

#[derive(Default)]
struct Events {
    head: AnswerHead,
    has_begun: bool,
    /// The blocks under way, by Converse's indices.
    open: BTreeMap<u64, Block>,
    /// The open text or thinking, by Converse's index: another block ends it, as Messages has one after the other.
    prose: Option<u64>,
    /// The index of the next block of Messages.
    next: u32,
    /// The payload of `messageStop`.
    stopped: Option<Bytes>,
    /// The payload of `metadata`, which may come first.
    metadata: Option<Bytes>,
    /// True behind `message_stop`.
    is_complete: bool,
}

struct Block {
    index: u32,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Text,
    Thinking,
    Call,
    /// Redacted thinking, which Messages has in one event: its bytes so far.
    Redacted(Vec<u8>),
    /// A picture, in one event too: its format and its bytes so far.
    Image(String, Vec<u8>),
}

impl Rewrite for Events {
    fn message(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), LlmError> {
        let kind = message.event_type().unwrap_or_default();
        // A future event may have any payload.
        if !EVENTS.contains(&kind) || self.is_complete {
            return Ok(());
        }
        let payload = message.payload();
        let fields = read(payload).ok_or_else(|| malformed("an event of the stream is no JSON object"))?;
        let index = fields.count("contentBlockIndex").unwrap_or_default();
        match kind {
            "messageStart" => self.begin(out),
            "contentBlockStart" => {
                self.begin(out);
                self.start(index, &fields, out);
            }
            "contentBlockDelta" => {
                self.begin(out);
                let delta = fields.object("delta").unwrap_or_default();
                for (kind, value) in delta.iter() {
                    self.delta(index, kind, value, out)?;
                }
            }
            "contentBlockStop" => self.close(index, out),
            "messageStop" => {
                self.begin(out);
                self.stopped = Some(payload.clone());
            }
            _ => self.metadata = Some(payload.clone()),
        }
        if self.stopped.is_some() && self.metadata.is_some() {
            self.finish(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut BytesMut) -> bool {
        if let Some(stopped) = self.stopped.take() {
            while let Some((index, _)) = self.open.first_key_value() {
                let index = *index;
                self.close(index, out);
            }
            let metadata = self.metadata.take();
            last(&stopped, metadata.as_deref(), out);
            self.is_complete = true;
        }
        self.is_complete
    }
}

const EVENTS: [&str; 6] =
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"];

fn read(payload: &[u8]) -> Option<Fields<'_>> {
    serde_json::from_str(str::from_utf8(payload).ok()?).ok()
}

/// Writes `message_delta` and `message_stop`.
fn last(stopped: &[u8], metadata: Option<&[u8]>, out: &mut BytesMut) {
    let stopped = read(stopped).unwrap_or_default();
    let metadata = metadata.and_then(read).unwrap_or_default();
    let mut json = Writer::default();
    json.open(b'{').name("type").text("message_delta").name("delta").open(b'{');
    stop(&mut json, stopped.text("stopReason").as_deref(), &stopped);
    json.close("}").name("usage");
    match metadata.object("usage") {
        Some(counts) => usage(&mut json, &counts),
        None => {
            json.json("{}");
        }
    }
    extras(&mut json, &metadata);
    extras(&mut json, &stopped);
    json.close("}");
    event(out, Some("message_delta"), json.as_bytes());
    event(out, Some("message_stop"), br#"{"type":"message_stop"}"#);
}

impl Events {
    fn begin(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let mut json = Writer::default();
        json.open(b'{').name("type").text("message_start").name("message");
        self.head.write(&mut json);
        json.name("content").json("[]").name("stop_reason").json("null").name("stop_sequence").json("null");
        // The counts come at the end.
        json.name("usage").json(r#"{"input_tokens":0,"output_tokens":0}"#).close("}}");
        event(out, Some("message_start"), json.as_bytes());
    }

    /// A block that announces itself: a tool call, or a picture. Any other begins with its first delta.
    fn start(&mut self, index: u64, fields: &Fields<'_>, out: &mut BytesMut) {
        let start = fields.object("start").unwrap_or_default();
        if let Some(tool) = start.object("toolUse") {
            self.close(index, out);
            let mut block = Writer::default();
            self.head.call(&mut block, &tool);
            self.open(index, Kind::Call, block.as_bytes(), out);
        } else if let Some(picture) = start.object("image") {
            self.close(index, out);
            let format = picture.text("format").unwrap_or_default().into_owned();
            self.open.insert(index, Block { index: 0, kind: Kind::Image(format, Vec::new()) });
        }
    }

    fn delta(&mut self, index: u64, kind: &str, value: &RawValue, out: &mut BytesMut) -> Result<(), LlmError> {
        match kind {
            // An empty text begins no block: it would be refused in the next request.
            "text" if is_text(value) && (value.get() != "\"\"" || self.is(index, &Kind::Text)) => {
                let at = self.at(index, Kind::Text, br#"{"type":"text","text":""}"#, out);
                grow(out, at, "text_delta", "text", value);
            }
            "toolUse" => {
                let Some(input) = Fields::of(value).and_then(|tool| tool.get("input")) else { return Ok(()) };
                let open = self.open.get(&index).filter(|open| open.kind == Kind::Call);
                let at = open.ok_or_else(|| malformed("a tool's input comes before its call"))?.index;
                if is_text(input) {
                    grow(out, at, "input_json_delta", "partial_json", input);
                }
            }
            "reasoningContent" => {
                let reasoning = Fields::of(value).unwrap_or_default();
                const BLOCK: &[u8] = br#"{"type":"thinking","thinking":"","signature":""}"#;
                if let Some(text) = reasoning.get("text").filter(|text| is_text(text)) {
                    let at = self.at(index, Kind::Thinking, BLOCK, out);
                    grow(out, at, "thinking_delta", "thinking", text);
                }
                if let Some(signature) = reasoning.get("signature").filter(|signature| is_text(signature)) {
                    let at = self.at(index, Kind::Thinking, BLOCK, out);
                    grow(out, at, "signature_delta", "signature", signature);
                }
                if let Some(more) = reasoning.text("redactedContent") {
                    let more = base64::decode(&more).ok_or_else(|| malformed("redacted thinking is not base64"))?;
                    match self.open.get_mut(&index) {
                        Some(Block { kind: Kind::Redacted(data), .. }) => data.extend(more),
                        _ => {
                            self.close(index, out);
                            self.open.insert(index, Block { index: 0, kind: Kind::Redacted(more) });
                        }
                    }
                }
            }
            "citation" => {
                let at = self.at(index, Kind::Text, br#"{"type":"text","text":""}"#, out);
                let mut json = Writer::default();
                delta_of(&mut json, at, "citations_delta");
                citation(json.name("citation"), value);
                json.close("}}");
                event(out, Some("content_block_delta"), json.as_bytes());
            }
            "image" => {
                if let Some(Block { kind: Kind::Image(_, data), .. }) = self.open.get_mut(&index) {
                    let source = Fields::of(value).and_then(|image| image.object("source")).unwrap_or_default();
                    let more = base64::decode(&source.text("bytes").unwrap_or_default());
                    data.extend(more.ok_or_else(|| malformed("a picture of the stream is not base64"))?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is(&self, index: u64, kind: &Kind) -> bool {
        self.open.get(&index).is_some_and(|open| open.kind == *kind)
    }

    /// Returns the index of the block of this kind, which begins if it has not.
    fn at(&mut self, index: u64, kind: Kind, block: &[u8], out: &mut BytesMut) -> u32 {
        match self.open.get(&index) {
            Some(open) if open.kind == kind => open.index,
            _ => {
                self.close(index, out);
                self.open(index, kind, block, out)
            }
        }
    }

    fn open(&mut self, index: u64, kind: Kind, block: &[u8], out: &mut BytesMut) -> u32 {
        if let Some(prose) = self.prose.take() {
            self.close(prose, out);
        }
        let at = self.next;
        self.next = at.saturating_add(1);
        self.prose = matches!(kind, Kind::Text | Kind::Thinking).then_some(index);
        self.open.insert(index, Block { index: at, kind });
        let mut json = Writer::default();
        json.open(b'{').name("type").text("content_block_start").name("index").json(&at.to_string());
        json.name("content_block").json(&String::from_utf8_lossy(block)).close("}");
        event(out, Some("content_block_start"), json.as_bytes());
        at
    }

    fn close(&mut self, index: u64, out: &mut BytesMut) {
        let Some(Block { index: at, kind }) = self.open.remove(&index) else { return };
        self.prose = self.prose.filter(|prose| *prose != index);
        let mut block = Writer::default();
        match kind {
            Kind::Text | Kind::Thinking | Kind::Call => return stop_block(out, at),
            Kind::Redacted(data) => {
                block.open(b'{').name("type").text("redacted_thinking").name("data").text(&redacted(data)).close("}");
            }
            Kind::Image(format, data) => {
                image(&mut block, &format, |out| {
                    out.text(&base64::encode(&data));
                });
            }
        }
        self.open(index, Kind::Text, block.as_bytes(), out);
        self.close(index, out);
    }
}

fn stop_block(out: &mut BytesMut, at: u32) {
    let json = format!(r#"{{"type":"content_block_stop","index":{at}}}"#);
    event(out, Some("content_block_stop"), json.as_bytes());
}

fn delta_of(json: &mut Writer, at: u32, kind: &str) {
    json.open(b'{').name("type").text("content_block_delta").name("index").json(&at.to_string());
    json.name("delta").open(b'{').name("type").text(kind);
}

/// Writes a delta with one value, as it is spelled.
fn grow(out: &mut BytesMut, at: u32, kind: &str, field: &str, value: &RawValue) {
    let mut json = Writer::default();
    delta_of(&mut json, at, kind);
    json.name(field).raw(value).close("}}");
    event(out, Some("content_block_delta"), json.as_bytes());
}
