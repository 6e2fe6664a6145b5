//! The tokens that a provider says it used, held to what passed.
//!
//! Money and rates are counted by a provider's own figures. A server that errs, or lies, must not close a cap for all
//! with one answer, nor open it for ever. So each figure has bounds that no honest one exceeds; a figure beyond them is
//! replaced by our estimate, reported by [`Event::UsageReplaced`], and the answer's own bytes stay as they are.
//!
//! | figure | at most | at least |
//! |---|---|---|
//! | input, and its parts of the cache | [`PER_BYTE`] for each byte of the body, and [`HIDDEN_PROMPT`]; [`ELSEWHERE`] if the body refers to pictures, files, addresses, stored conversations or the provider's own tools | 1, if the prompt has some |
//! | output | a token for each byte of the answer as it came, [`HIDDEN_OUTPUT`], and the thoughts | a token for [`LONGEST_TOKEN`] bytes of text |
//! | the provider's own cost | [`DEAREST_TOKEN`] for each token, and [`DEAREST_ANSWER`] | |
//! | thoughts that were reported, or that the answer shows a sign of | the model's longest answer | |

use std::sync::Arc;

use memchr::memmem;
use tokio::time::Instant;

use crate::{
    Dialect, Event, Events, LlmRequest, StreamEvent, Wire,
    chat::{Chat, Message, Part, Usage},
    estimate,
    prices::own_cost::HeaderCost,
};

/// The most tokens for a byte of a body. Every token stands for a byte at least; chat templates add a few to each
/// message.
const PER_BYTE: u64 = 4;
/// The tokens that a provider may add to any prompt: its own instructions, and those for tools.
const HIDDEN_PROMPT: u64 = 32_768;
/// The most input tokens of a request that refers to something outside of its body. A search reads many pages, and
/// counts each once for every turn of its own.
const ELSEWHERE: u64 = 10_000_000;
/// The tokens of an answer that show in no byte: marks of roles, channels and the end.
const HIDDEN_OUTPUT: u64 = 1024;
/// The highest cost of a token, in billionths of a dollar. The dearest list price is 600 dollars for a million.
const DEAREST_TOKEN: u64 = 1_000_000;
/// The highest cost of what an answer has beside its tokens: searches, pictures.
const DEAREST_ANSWER: u64 = 10_000_000_000;
/// The bytes of the longest token. The vocabularies in use have runs of some hundred spaces.
const LONGEST_TOKEN: u64 = 256;
/// The tokens of a prompt of which none at all is an error.
const PLENTY: u64 = 256;

/// The amount of an answer that has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    /// Bytes, as they came.
    bytes: u64,
    /// Characters of the model's own words.
    text: u64,
    /// True if there was a thought, or a seal of one.
    thought: bool,
}

impl Passed {
    /// Returns the amount of a whole answer.
    fn whole(bytes: usize, message: &Message) -> Self {
        Self {
            bytes: bytes as u64,
            text: message.content.iter().map(|part| words(part) as u64).sum(),
            thought: message.content.iter().any(|part| matches!(part, Part::Reasoning(_))),
        }
    }

    fn add(&mut self, event: &StreamEvent) {
        self.text += match event {
            StreamEvent::Text { text, .. } | StreamEvent::Refusal { text, .. } => text.len() as u64,
            StreamEvent::Arguments { json, .. } => json.len() as u64,
            StreamEvent::Reasoning { text, .. } => text.len() as u64,
            _ => 0,
        };
        self.thought |= matches!(event, StreamEvent::Reasoning { .. } | StreamEvent::Signature { .. });
    }
}

/// Returns the characters of the model's own words in a part.
fn words(part: &Part) -> usize {
    match part {
        Part::Text(_) | Part::Refusal(_) | Part::Reasoning(_) | Part::ToolCall(_) => estimate::part(part),
        _ => 0,
    }
}

/// The bounds of the figures for one request.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// The estimate of the prompt.
    prompt: u64,
    input: u64,
    /// The model's longest answer.
    longest: u64,
}

impl Bounds {
    /// Returns the bounds of a request that refers to nothing elsewhere.
    fn of(request: &LlmRequest, longest: u64) -> Self {
        let prompt = u64::from(request.glanced_prompt());
        let bytes = match request.wire() {
            Some(wire) => wire.body().len() as u64,
            None => request.chat().map_or(0, typed_bytes),
        };
        Self { prompt, input: bytes.saturating_mul(PER_BYTE).saturating_add(HIDDEN_PROMPT).min(ELSEWHERE), longest }
    }

    /// Returns the figures that count: the reported ones as far as they are within their bounds.
    fn hold(&self, reported: Usage, passed: Passed) -> Usage {
        let of_cache = reported.cache_read.saturating_add(reported.cache_write);
        let mut held = reported;
        if reported.input.max(of_cache) > self.input {
            held = Usage::new(self.prompt, reported.output);
            (held.reasoning, held.service_tier) = (reported.reasoning, reported.service_tier);
        }
        let thoughts = if passed.thought { self.longest } else { reported.reasoning.min(self.longest) };
        let most = passed.bytes.saturating_add(HIDDEN_OUTPUT).saturating_add(thoughts);
        if reported.output > most {
            (held.output, held.reasoning) = (estimate::said(passed.text), 0);
        }
        let dearest = held.total().saturating_mul(DEAREST_TOKEN).saturating_add(DEAREST_ANSWER);
        held.cost = held.cost.filter(|cost| cost.nanos() <= dearest);
        held
    }

    /// As [`hold`](Self::hold), for the figures of an answer that has ended.
    fn hold_last(&self, reported: Usage, passed: Passed) -> Usage {
        let mut held = self.hold(reported, passed);
        if held.input == 0 && held.cache_read == 0 && self.prompt >= PLENTY {
            held.input = self.prompt;
        }
        if held.output < passed.text / LONGEST_TOKEN {
            held.output = estimate::said(passed.text);
        }
        held
    }
}

/// The channel on which a replaced figure is reported, and the names for it.
#[derive(Clone, Debug)]
pub(crate) struct UsageReporter {
    pub(crate) events: Option<Events>,
    pub(crate) provider: Arc<str>,
    pub(crate) model: Option<Arc<str>>,
}

impl UsageReporter {
    #[cold]
    fn report(&self, reported: Usage, counted: Usage) {
        if let Some(events) = &self.events {
            events.send_with(|| Event::UsageReplaced {
                provider: self.provider.clone(),
                model: self.model.clone(),
                reported,
                counted,
                at: Instant::now(),
            });
        }
    }
}

/// Holds the figures of a whole answer, of so many bytes, to their bounds.
pub(crate) fn hold_whole(
    request: &LlmRequest,
    longest: u64,
    bytes: usize,
    message: &mut Message,
    reporter: impl FnOnce() -> UsageReporter,
) {
    let Some(reported) = message.usage else { return };
    let passed = Passed::whole(bytes, message);
    let mut bounds = Bounds::of(request, longest);
    let mut held = bounds.hold_last(reported, passed);
    if held.input != reported.input && refers_elsewhere(request) {
        bounds.input = ELSEWHERE;
        held = bounds.hold_last(reported, passed);
    }
    if held != reported {
        message.usage = Some(held);
        reporter().report(reported, held);
    }
}

/// The watch over the figures of a stream.
#[derive(Clone, Debug)]
pub struct UsageWatch {
    bounds: Bounds,
    /// The part of the cost that the headers tell.
    cost: HeaderCost,
    passed: Passed,
    /// The last figures, as they count.
    last: Option<Usage>,
    reporter: UsageReporter,
    is_reported: bool,
}

impl UsageWatch {
    pub(crate) fn new(request: &LlmRequest, longest: u64, cost: HeaderCost, reporter: UsageReporter) -> Self {
        let mut bounds = Bounds::of(request, longest);
        if bounds.input < ELSEWHERE && refers_elsewhere(request) {
            bounds.input = ELSEWHERE;
        }
        Self { bounds, cost, passed: Passed::default(), last: None, reporter, is_reported: false }
    }

    /// Counts a piece of so many bytes, and holds its figures to their bounds. With the end mark goes the correction of
    /// figures that are too low.
    pub(crate) fn see(&mut self, bytes: usize, events: &mut Vec<StreamEvent>) {
        self.passed.bytes += bytes as u64;
        let mut end = None;
        for (place, event) in events.iter_mut().enumerate() {
            self.passed.add(event);
            match event {
                StreamEvent::Usage(usage) => {
                    self.cost.complete_streamed(usage);
                    let held = self.bounds.hold(*usage, self.passed);
                    if held != *usage {
                        self.report(*usage, held);
                        *usage = held;
                    }
                    self.last = Some(held);
                }
                StreamEvent::End => end = Some(place),
                _ => {}
            }
        }
        if let Some(place) = end
            && let Some(held) = self.correction()
        {
            events.insert(place, StreamEvent::Usage(held));
        }
    }

    /// Returns the figures of the whole answer, if the last ones are too low for it.
    pub(crate) fn correction(&mut self) -> Option<Usage> {
        let last = self.last?;
        let held = self.bounds.hold_last(last, self.passed);
        if held == last {
            return None;
        }
        self.report(last, held);
        Some(held)
    }

    /// Returns the figures of an answer that failed with a piece of so many bytes, held to their bounds.
    pub(crate) fn hold_failed(&mut self, bytes: usize, mut reported: Usage) -> Usage {
        self.cost.complete_streamed(&mut reported);
        self.passed.bytes += bytes as u64;
        let held = self.bounds.hold_last(reported, self.passed);
        if held != reported {
            self.report(reported, held);
        }
        held
    }

    fn report(&mut self, reported: Usage, counted: Usage) {
        if !std::mem::replace(&mut self.is_reported, true) {
            self.reporter.report(reported, counted);
        }
    }
}

/// Returns the bytes that a typed conversation has at least.
fn typed_bytes(chat: &Chat) -> u64 {
    let parts = chat.messages.iter().flat_map(|message| &message.content);
    let text: usize = parts.map(Part::size).sum();
    let system = chat.system.as_ref().map_or(0, String::len);
    let tools: usize = chat.tools.iter().map(|tool| tool.parameters.as_str().len()).sum();
    // The frame of each message, as JSON has it.
    (text + system + tools + 64 * (chat.messages.len() + chat.tools.len())) as u64
}

/// Returns true if a request's prompt may have more in it than the body: pictures, files, addresses, a stored
/// conversation, or what the provider's own tools find.
fn refers_elsewhere(request: &LlmRequest) -> bool {
    match request.wire() {
        Some(wire) => wire_refers(wire),
        None => request.chat().is_ok_and(|chat| {
            let parts = chat.messages.iter().flat_map(|message| &message.content);
            parts.into_iter().any(is_elsewhere)
        }),
    }
}

fn is_elsewhere(part: &Part) -> bool {
    match part {
        Part::Text(_) | Part::Refusal(_) | Part::Reasoning(_) | Part::ToolCall(_) => false,
        Part::ToolResult(result) => result.content.iter().any(is_elsewhere),
        _ => true,
    }
}

fn wire_refers(wire: &Wire) -> bool {
    /// The words of Gemini's parts and tools that are more than text and functions.
    const OF_GEMINI: [&[u8]; 8] = [
        b"Data\"",
        b"_data\"",
        b"achedContent",
        b"ached_content",
        b"oogle",
        b"Context\"",
        b"_context\"",
        b"xecution\"",
    ];
    /// The fields of a Responses request that stand for stored turns.
    const OF_RESPONSES: [&[u8]; 3] = [b"\"previous_response_id\"", b"\"conversation\"", b"\"prompt\""];
    let body = wire.body();
    let has = |words: &[&[u8]]| words.iter().any(|word| memmem::find(body, word).is_some());
    match wire.dialect() {
        Dialect::Gemini => has(&OF_GEMINI),
        Dialect::Responses => has(&OF_RESPONSES) || has_other_type(body),
        _ => has_other_type(body),
    }
}

/// The types of parts, tools and formats that stand for nothing but what they contain. JSON Schema has the latter.
const TYPES: [&[u8]; 41] = [
    b"text",
    b"input_text",
    b"output_text",
    b"summary_text",
    b"reasoning_text",
    b"refusal",
    b"message",
    b"thinking",
    b"redacted_thinking",
    b"reasoning",
    b"tool_use",
    b"tool_result",
    b"function",
    b"function_call",
    b"function_call_output",
    b"custom",
    b"custom_tool_call",
    b"custom_tool_call_output",
    b"grammar",
    b"tool",
    b"auto",
    b"any",
    b"none",
    b"required",
    b"allowed_tools",
    b"ephemeral",
    b"enabled",
    b"disabled",
    b"adaptive",
    b"json_schema",
    b"json_object",
    b"object",
    b"array",
    b"string",
    b"number",
    b"integer",
    b"boolean",
    b"null",
    b"content",
    b"search_result",
    b"predicted_output",
];

/// Returns true if the body has a `type` that is not among [`TYPES`].
fn has_other_type(body: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"type\"";
    memmem::find_iter(body, FIELD).any(|at| {
        let rest = body[at + FIELD.len()..].trim_ascii_start();
        let Some(rest) = rest.strip_prefix(b":") else { return false };
        // A list of types is JSON Schema's.
        let Some(rest) = rest.trim_ascii_start().strip_prefix(b"\"") else { return false };
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
        !TYPES.contains(&&rest[..end])
    })
}
