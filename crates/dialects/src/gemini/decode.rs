use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::partial_args::{Arguments, PartialArg};
use crate::{
    Dialect, ErrorKind, LlmError, StreamEvent,
    body::Accumulator,
    chat::{Extra, ExtraOf, FinishReason, Image, Json, Media, Message, Opaque, Part, ServiceTier, Usage},
    json::{Count, lenient, object, parse, raw, read, service_tier, text},
    protocol::{Fault, OtherField, OtherMeaning, StreamDecoder, TextFields, TextShape},
    sse::SseEvent,
    tool_calls::call_id,
};

/// A whole answer, or a chunk of a streamed one: both have this form.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    candidates: Option<Vec<Candidate<'a>>>,
    #[serde(default, rename = "promptFeedback", deserialize_with = "object")]
    prompt_feedback: Option<Feedback>,
    #[serde(default, rename = "usageMetadata", deserialize_with = "object")]
    usage: Option<Tokens>,
    #[serde(default, rename = "modelVersion", deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, rename = "responseId", deserialize_with = "text")]
    id: Option<String>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Feedback {
    #[serde(default, rename = "blockReason", deserialize_with = "text")]
    block_reason: Option<String>,
}

#[derive(Deserialize)]
struct Candidate<'a> {
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    /// A name; a number at some gateways.
    #[serde(borrow, default, rename = "finishReason")]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "citationMetadata")]
    citations: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "groundingMetadata")]
    grounding: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "urlContextMetadata")]
    urls: Option<&'a RawValue>,
}

impl Candidate<'_> {
    /// Returns the sources of the answer.
    fn sources(&self) -> Option<Part> {
        let of = [
            ("citationMetadata", self.citations),
            ("groundingMetadata", self.grounding),
            ("urlContextMetadata", self.urls),
        ];
        let known = of.into_iter().filter_map(|(name, raw)| Some((name.to_owned(), read(raw?)?)));
        let fields: Map<String, Value> = known.collect();
        (!fields.is_empty()).then(|| Part::Extra { of: ExtraOf::Answer, extra: Extra::new(Dialect::Gemini, fields) })
    }
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    thought: Option<bool>,
    #[serde(default, rename = "thoughtSignature", deserialize_with = "text")]
    signature: Option<String>,
    #[serde(borrow, default, rename = "functionCall")]
    call: Option<Call<'a>>,
    #[serde(default, rename = "inlineData", deserialize_with = "lenient")]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    name: Option<String>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    /// Pieces of the arguments, if the request asks for these.
    #[serde(borrow, default, rename = "partialArgs")]
    pieces: Option<Vec<PartialArg<'a>>>,
    /// True if more of this call follows.
    #[serde(default, rename = "willContinue", deserialize_with = "lenient")]
    goes_on: Option<bool>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "mimeType")]
    media_type: String,
    data: String,
}

/// Decodes a whole answer: an object, or the list of chunks that a stream without SSE is.
pub(super) fn message(body: &[u8]) -> Result<Message, Fault> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    if body.trim_ascii_start().starts_with(b"[") {
        let chunks: Vec<&RawValue> = parse(body)?;
        for chunk in chunks {
            decoder.chunk(chunk.get().as_bytes(), &mut events)?;
        }
    } else {
        decoder.chunk(body, &mut events)?;
    }
    if !decoder.has_candidate {
        return Err(LlmError::new(ErrorKind::EmptyAnswer, "the answer has no candidates").into());
    }
    let mut whole = Accumulator::default();
    events.iter().for_each(|event| whole.push(event));
    Ok(whole.finish())
}

/// Returns the tokens of a whole answer, or of a chunk. Of a list of chunks the last count is the whole one.
pub(super) fn usage(answer: &[u8]) -> Option<Usage> {
    let of_chunk = |chunk: &[u8]| parse::<Answer<'_>>(chunk).ok()?.usage.map(Tokens::usage);
    if !answer.trim_ascii_start().starts_with(b"[") {
        return of_chunk(answer);
    }
    let chunks: Vec<&RawValue> = parse(answer).ok()?;
    chunks.into_iter().rev().find_map(|chunk| of_chunk(chunk.get().as_bytes()))
}

/// Decodes the chunks of a stream. The only end mark is the `finishReason`: the end of the body after it is the end.
#[derive(Default)]
pub struct Decoder {
    pub(crate) shape: TextShape,
    started: bool,
    id: Option<String>,
    has_candidate: bool,
    finished: bool,
    calls: usize,
    /// The index and kind of the part that grows.
    part: u32,
    growing: Option<GrowingPart>,
    /// The call whose arguments arrive in pieces.
    partial_call: Option<PartialCall>,
}

impl fmt::Debug for Decoder {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("part", &self.part).field("calls", &self.calls).finish_non_exhaustive()
    }
}

struct PartialCall {
    index: u32,
    name: String,
    arguments: Arguments,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GrowingPart {
    Text,
    Thought,
}

impl StreamDecoder for Decoder {
    fn event(&mut self, event: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let data = event.data();
        if let Some((text, tokens)) = self.shape.read(data, &TEXT_FIELDS) {
            out.push(text);
            out.extend(tokens);
            return Ok(());
        }
        // Some compatible gateways add OpenAI's mark.
        if data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let before = out.len();
        self.chunk(data, out)?;
        self.shape.learn(data, &TEXT_FIELDS, &out[before..]);
        Ok(())
    }

    fn is_whole(&self, clean: bool) -> bool {
        // Some models write a finish reason into every chunk, so that only a clean end proves the answer complete.
        // Chunks without any candidate are an answer without content.
        clean && (self.finished || (self.started && !self.has_candidate))
    }
}

const TEXT_FIELDS: TextFields = TextFields {
    text: "text",
    thought: Some("text"),
    other: Some(OtherField { name: "\"usageMetadata\":", meaning: tokens }),
};

/// Returns what the field with the tokens so far means.
fn tokens(value: &[u8]) -> Option<OtherMeaning> {
    let TokensField(tokens) = serde_json::from_slice(value).ok()?;
    Some(tokens.map(|tokens| StreamEvent::Usage(tokens.usage())))
}

impl Decoder {
    fn chunk(&mut self, json: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let chunk: Answer<'_> = parse(json)?;
        if chunk.error.is_some_and(|error| error.get() != "null") {
            return Err(Fault::Reported(serde_json::from_slice(json)?));
        }
        if let Some(reason) = chunk.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            let error = LlmError::new(ErrorKind::ContentPolicy, "the prompt was blocked").with_code(reason);
            return Err(error.into());
        }
        if !self.started {
            self.started = true;
            self.id.clone_from(&chunk.id);
            out.push(StreamEvent::Start { id: chunk.id, model: chunk.model });
        }
        // Of several candidates the first one is the answer; the others are in the bytes.
        if let Some(candidate) = chunk.candidates.into_iter().flatten().next() {
            self.has_candidate = true;
            let sources = candidate.sources();
            for raw in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
                self.piece(raw, out)?;
            }
            // At the index of the part that grows, so that this part may grow on.
            out.extend(sources.map(|part| StreamEvent::Part { index: self.part, part }));
            if let Some(reason) = candidate.finish_reason.filter(|reason| reason.get() != "null") {
                self.finished = true;
                let reason = finish(reason, self.calls > 0);
                // With any other reason the call was cut off, and is no JSON.
                if reason == FinishReason::ToolUse {
                    self.end_partial_call(String::new(), out);
                }
                out.push(StreamEvent::Finish(reason));
            }
        }
        out.extend(chunk.usage.map(|tokens| StreamEvent::Usage(tokens.usage())));
        Ok(())
    }

    fn piece(&mut self, raw: &RawValue, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let piece: Piece<'_> = serde_json::from_str(raw.get())?;
        let opaque = |token| Opaque { dialect: Dialect::Gemini, token, redacted: false };
        if let Some(mut call) = piece.call {
            let goes_on = call.goes_on == Some(true);
            let named = call.name.as_deref().filter(|name| !name.is_empty());
            if self.partial_call.as_ref().is_some_and(|open| named.is_none_or(|name| name == open.name)) {
                return self.more(&call, goes_on, out);
            }
            if named.is_none() && call.args.is_none_or(is_nothing) {
                return Ok(());
            }
            let index = self.next(None);
            // Calls have an id at some servers only; a result refers to its call by it.
            let id =
                call.id.take().filter(|id| !id.is_empty()).unwrap_or_else(|| call_id(self.id.as_deref(), self.calls));
            self.calls += 1;
            let name = call.name.take().unwrap_or_default();
            let partial_call = goes_on || call.pieces.is_some();
            if partial_call {
                self.partial_call = Some(PartialCall { index, name: name.clone(), arguments: Arguments::default() });
            }
            out.push(StreamEvent::ToolCall { index, id, name, opaque: piece.signature.map(opaque) });
            if partial_call {
                return self.more(&call, goes_on, out);
            }
            let json = call.args.map_or("{}", RawValue::get).to_owned();
            out.push(StreamEvent::Arguments { index, json });
            return Ok(());
        }
        if let Some(text) = piece.text {
            let thought = piece.thought == Some(true);
            let index = self.next(Some(if thought { GrowingPart::Thought } else { GrowingPart::Text }));
            out.push(match thought {
                true => StreamEvent::Reasoning { index, text },
                false => StreamEvent::Text { index, text },
            });
            if let Some(token) = piece.signature {
                out.push(StreamEvent::Signature { index, opaque: opaque(token) });
                // The next part may have a signature of its own.
                self.growing = None;
            }
            return Ok(());
        }
        let index = self.next(None);
        if let Some(Data { media_type, data }) = piece.data {
            let part = Part::Image(Image { media: Media::Base64 { media_type, data } });
            out.push(StreamEvent::Part { index, part });
            return Ok(());
        }
        let value: Value = serde_json::from_str(raw.get())?;
        if value.as_object().is_some_and(|fields| !fields.is_empty()) {
            out.push(StreamEvent::Part { index, part: Part::Other { dialect: Dialect::Gemini, value: Json::of(raw) } });
        }
        Ok(())
    }

    /// Adds more of the call whose arguments arrive in pieces.
    fn more(&mut self, call: &Call<'_>, goes_on: bool, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let Some(open) = &mut self.partial_call else { return Ok(()) };
        let mut json = String::new();
        if let Some(args) = call.args {
            open.arguments.extend(args, &mut json)?;
        }
        for piece in call.pieces.iter().flatten() {
            open.arguments.push(piece, &mut json)?;
        }
        if !goes_on {
            self.end_partial_call(json, out);
        } else if !json.is_empty() {
            out.push(StreamEvent::Arguments { index: open.index, json });
        }
        Ok(())
    }

    fn end_partial_call(&mut self, mut json: String, out: &mut Vec<StreamEvent>) {
        if let Some(mut open) = self.partial_call.take() {
            open.arguments.finish(&mut json);
            out.push(StreamEvent::Arguments { index: open.index, json });
        }
    }

    /// Returns the index of the next piece: the same while texts or thoughts follow each other.
    fn next(&mut self, growing: Option<GrowingPart>) -> u32 {
        if growing.is_none() || growing != self.growing {
            self.part = self.part.saturating_add(1);
        }
        self.growing = growing;
        self.part
    }
}

/// Returns true for empty arguments.
fn is_nothing(args: &RawValue) -> bool {
    args.get().bytes().all(|byte| matches!(byte, b'{' | b'}') || byte.is_ascii_whitespace())
}

fn finish(raw: &RawValue, called: bool) -> FinishReason {
    let name: String = serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
    match name.as_str() {
        "STOP" | "1" if called => FinishReason::ToolUse,
        "STOP" | "1" => FinishReason::Stop,
        "MAX_TOKENS" | "2" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "ESCALATION"
        | "MODEL_ARMOR" => FinishReason::Filtered,
        image if image.starts_with("IMAGE_") => FinishReason::Filtered,
        "CONTINUATION" => FinishReason::Paused,
        "MALFORMED_FUNCTION_CALL"
        | "MALFORMED_RESPONSE"
        | "UNEXPECTED_TOOL_CALL"
        | "MISSING_THOUGHT_SIGNATURE"
        | "TOO_MANY_TOOL_CALLS" => FinishReason::ModelError(name),
        _ => FinishReason::Other(name),
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    #[serde(default)]
    prompt_token_count: Count,
    #[serde(default)]
    cached_content_token_count: Count,
    #[serde(default)]
    candidates_token_count: Count,
    #[serde(default)]
    thoughts_token_count: Count,
    #[serde(default)]
    tool_use_prompt_token_count: Count,
    #[serde(default)]
    total_token_count: Count,
    /// Vertex AI's word for the service tier.
    #[serde(default, deserialize_with = "service_tier")]
    traffic_type: ServiceTier,
}

/// The tokens alone, as a field of an answer has them.
#[derive(Deserialize)]
#[serde(transparent)]
struct TokensField(#[serde(deserialize_with = "object")] Option<Tokens>);

impl Tokens {
    fn usage(self) -> Usage {
        let input = self.prompt_token_count.get().saturating_add(self.tool_use_prompt_token_count.get());
        let (said, thought) = (self.candidates_token_count.get(), self.thoughts_token_count.get());
        // Thoughts are normally counted apart; if the sum is right without them, they are included already.
        let apart = input.saturating_add(said) != self.total_token_count.get();
        let mut usage = Usage::new(input, if apart { said.saturating_add(thought) } else { said });
        usage.cache_read = self.cached_content_token_count.get();
        (usage.reasoning, usage.service_tier) = (thought, self.traffic_type);
        usage
    }
}
