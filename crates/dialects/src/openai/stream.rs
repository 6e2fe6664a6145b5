use std::{collections::HashMap, fmt};

use serde_json::{Map, Value, value::RawValue};

use super::{
    decode::{self, Turn, finish},
    thoughts::{self, Thoughts},
};
use crate::{
    ErrorKind, LlmError, StreamEvent,
    chat::{ExtraOf, FinishReason, Part},
    protocol::{Fault, StreamDecoder, TextFields, TextShape},
    sse::SseEvent,
    tool_calls::call_id,
};

/// Decodes a Chat Completions stream. The end mark is `[DONE]` after a `finish_reason`. Many servers omit the `[DONE]`,
/// so the end of the body is an end too, once every begun choice has finished.
#[derive(Default)]
pub struct Decoder {
    pub(crate) shape: TextShape,
    started: bool,
    id: Option<String>,
    /// The choices that have begun, and those that have finished.
    begun: Vec<u32>,
    finished: Vec<u32>,
    declined: bool,
    /// True once any of the answer has come.
    said: bool,
    /// True once the tokens used have come.
    counted: bool,
    /// The tool calls so far.
    calls: Vec<CallState>,
    /// The newest of them, by the stream's own index.
    newest: HashMap<u32, usize>,
    /// The next part's index.
    parts: u32,
    /// The sources as last sent: some servers repeat them in every chunk.
    sources: [Box<str>; 2],
    /// The thoughts that are not sealed yet, and the index of their part.
    thoughts: Thoughts,
    thought: u32,
}

impl fmt::Debug for Decoder {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("begun", &self.begun).field("finished", &self.finished).finish_non_exhaustive()
    }
}

/// A tool call: the index of its part, and its id.
#[derive(Debug)]
struct CallState {
    index: u32,
    id: Option<String>,
    /// True once any of its arguments have come.
    any: bool,
    /// Its arguments so far, while its name is missing.
    nameless: Option<String>,
}

impl StreamDecoder for Decoder {
    fn event(&mut self, sse: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let data = sse.data().trim_ascii();
        if let Some((event, _)) = self.shape.read(data, &TEXT_FIELDS) {
            out.push(event);
            return Ok(());
        }
        let before = out.len();
        self.parsed(data, out)?;
        self.shape.learn(data, &TEXT_FIELDS, &out[before..]);
        Ok(())
    }

    fn is_whole(&self, clean: bool) -> bool {
        // An error may follow a finish reason: a connection that breaks in between proves nothing.
        clean && !self.begun.is_empty() && self.begun.iter().all(|index| self.finished.contains(index))
    }
}

/// A thought's text is kept for the token that goes back with it.
const TEXT_FIELDS: TextFields = TextFields { text: "content", thought: None, other: None };

/// Parts of an answer also differ by their kind, so that text and reasoning may share an index.
const TEXT: u32 = 0;

/// OpenAI's own limit of `n`.
const MOST_CHOICES: usize = 128;

/// More than any API takes as parallel calls.
const MOST_CALLS: usize = 1024;

impl Decoder {
    fn parsed(&mut self, data: &[u8], out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        if data == b"[DONE]" {
            // Some servers send it after an error too, so that alone it is no mark. Without a finish reason, the count
            // of tokens, which comes last, proves that nothing was cut off.
            if !self.finished.is_empty() || self.counted || !self.said {
                out.push(StreamEvent::End);
                return Ok(());
            }
            return Err(LlmError::new(ErrorKind::StreamBroken, "[DONE] came without a finish reason before it").into());
        }
        let chunk = decode::answer(data)?;
        if !self.started && chunk.is_before_the_answer() {
            return Ok(());
        }
        if !self.started {
            self.started = true;
            self.id = chunk.id();
            out.push(StreamEvent::Start { id: chunk.id(), model: chunk.model() });
        }
        for (place, name, raw) in [(0, "citations", chunk.citations), (1, "search_results", chunk.search_results)] {
            if let Some(raw) = raw.filter(|raw| *raw.get() != *self.sources[place]) {
                self.sources[place] = raw.get().into();
                self.extra(ExtraOf::Answer, name, raw, out);
            }
        }
        let mut in_choice = None;
        for mut choice in chunk.choices.into_iter().flatten() {
            in_choice = choice.usage.take().or(in_choice);
            self.choice(choice, out)?;
        }
        let usage = chunk.usage.or_else(|| chunk.x_groq.and_then(|groq| groq.usage)).or(in_choice);
        self.counted |= usage.is_some();
        out.extend(usage.map(|tokens| StreamEvent::Usage(tokens.usage(chunk.cost, chunk.service_tier))));
        Ok(())
    }

    /// Reads a choice of a chunk. The first choice is the answer; the others are in the bytes.
    #[inline]
    fn choice(&mut self, choice: decode::Choice<'_>, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let index = choice.index.unwrap_or(0);
        if !self.begun.contains(&index) {
            if self.begun.len() >= MOST_CHOICES {
                return Err(Fault::Malformed(serde::de::Error::custom("too many choices")));
            }
            self.begun.push(index);
        }
        choice.fault()?;
        let reason = choice.finish_reason.as_deref().filter(|reason| !reason.is_empty());
        if index == 0 {
            let matched_stop = reason.and_then(|_| choice.matched_stop());
            if let Some(turn) = choice.delta {
                self.turn(*turn, out)?;
            }
            if let Some(reason) = reason {
                self.send_nameless_calls(out);
                // A call of a tool without parameters may come without any arguments.
                for call in self.calls.iter_mut().filter(|call| !call.any && call.nameless.is_none()) {
                    call.any = true;
                    out.push(StreamEvent::Arguments { index: call.index, json: "{}".to_owned() });
                }
                if self.said {
                    self.seal(out);
                }
                let finish = finish(reason, self.declined);
                if let Some(part) = matched_stop.filter(|_| finish == FinishReason::Stop) {
                    self.parts += 1;
                    out.push(StreamEvent::Part { index: self.parts, part });
                }
                out.push(StreamEvent::Finish(finish));
            }
        }
        if reason.is_some() && !self.finished.contains(&index) {
            self.finished.push(index);
        }
        Ok(())
    }

    fn turn(&mut self, mut turn: Turn<'_>, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let before = out.len();
        if let Some(text) = self.thoughts.add(&mut turn) {
            out.push(StreamEvent::Reasoning { index: self.thought, text });
        }
        for part in turn.content.map(decode::content).transpose()?.unwrap_or_default() {
            if let Part::Reasoning(reasoning) = part {
                self.thoughts.think(&reasoning.text);
                out.push(StreamEvent::Reasoning { index: self.thought, text: reasoning.text });
                continue;
            }
            self.seal(out);
            out.push(match part {
                Part::Text(text) => StreamEvent::Text { index: TEXT, text },
                Part::Refusal(text) => StreamEvent::Refusal { index: TEXT, text },
                part => {
                    self.parts += 1;
                    StreamEvent::Part { index: self.parts, part }
                }
            });
        }
        if let Some(text) = turn.refusal.filter(|text| !text.is_empty()) {
            self.declined = true;
            self.seal(out);
            out.push(StreamEvent::Refusal { index: TEXT, text });
        }
        for (place, mut call) in turn.tool_calls.unwrap_or_default().into_iter().enumerate() {
            let Some(function) = call.called() else { continue };
            let named = function.name.as_deref().is_some_and(|name| !name.is_empty());
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let key = call.index.unwrap_or(place);
            if function.is_call() || call.id.is_some() || self.newest.contains_key(&key) {
                let kept = thoughts::of_call(&call);
                self.call(key, named, call.id, &function, kept, out)?;
            }
        }
        if let Some(function) = turn.function_call.filter(|function| function.is_call() || !self.calls.is_empty()) {
            self.call(0, function.name.is_some(), None, &function, None, out)?;
        }
        self.said |= out.len() > before;
        if let Some(raw) = turn.annotations {
            self.extra(ExtraOf::Answer, "annotations", raw, out);
        }
        if !self.finished.is_empty() {
            self.seal(out);
        }
        Ok(())
    }

    fn extra(&mut self, of: ExtraOf, name: &'static str, raw: &RawValue, out: &mut Vec<StreamEvent>) {
        if let Some(part) = decode::extra(of, [(name, Some(raw))]) {
            self.parts += 1;
            out.push(StreamEvent::Part { index: self.parts, part });
        }
    }

    /// Ends the thought before other content, with the token that goes back with it.
    fn seal(&mut self, out: &mut Vec<StreamEvent>) {
        if self.thoughts.is_any()
            && let Some(opaque) = self.thoughts.take()
        {
            out.push(StreamEvent::Signature { index: self.thought, opaque });
            self.thought += 1;
        }
    }

    /// Adds a tool call's beginning (with a name), more of its arguments, or both.
    fn call(
        &mut self,
        key: u32,
        named: bool,
        id: Option<String>,
        function: &decode::Function<'_>,
        kept: Option<Map<String, Value>>,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), Fault> {
        let id = id.filter(|id| !id.is_empty());
        let known = self.newest.get(&key).copied();
        let place = match known {
            // Servers that omit the index send each call whole: another id with a name begins a new one.
            Some(place) if !named || id.is_none() || id == self.calls[place].id => {
                if let (Some(kept), Some(id)) = (kept, &self.calls[place].id) {
                    self.thoughts.add_to_call(id, kept);
                }
                place
            }
            _ => {
                if self.calls.len() >= MOST_CALLS {
                    return Err(Fault::Malformed(serde::de::Error::custom("too many tool calls")));
                }
                self.parts += 1;
                let index = self.parts;
                let name = function.name.clone().unwrap_or_default();
                let given = id.clone().unwrap_or_else(|| call_id(self.id.as_deref(), self.calls.len()));
                // Some servers send the id first, and the name in the next chunk.
                let nameless = (!named && id.is_some()).then(String::new);
                self.seal(out);
                if nameless.is_none() {
                    let opaque = kept.map(|fields| thoughts::opaque(fields, false));
                    out.push(StreamEvent::ToolCall { index, id: given, name, opaque });
                } else if let Some(kept) = kept {
                    self.thoughts.add_to_call(&given, kept);
                }
                self.calls.push(CallState { index, id, any: false, nameless });
                self.newest.insert(key, self.calls.len() - 1);
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[place];
        let mut json = function.arguments();
        if let Some(so_far) = &mut call.nameless {
            so_far.push_str(&json);
            if !named {
                return Ok(());
            }
            json = call.nameless.take().unwrap_or_default();
            let (id, name) = (call.id.clone().unwrap_or_default(), function.name.clone().unwrap_or_default());
            out.push(StreamEvent::ToolCall { index: call.index, id, name, opaque: None });
        }
        if !json.is_empty() {
            call.any = true;
            out.push(StreamEvent::Arguments { index: call.index, json });
        }
        Ok(())
    }

    /// Sends the calls whose names have not come, if they have arguments: their caller may judge them.
    fn send_nameless_calls(&mut self, out: &mut Vec<StreamEvent>) {
        for call in &mut self.calls {
            let Some(json) = call.nameless.take_if(|json| !json.is_empty()) else { continue };
            let (index, id) = (call.index, call.id.clone().unwrap_or_default());
            call.any = true;
            out.push(StreamEvent::ToolCall { index, id, name: String::new(), opaque: None });
            out.push(StreamEvent::Arguments { index, json });
        }
    }
}
