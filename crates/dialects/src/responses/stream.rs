use std::{borrow::Cow, collections::HashMap, fmt};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::answer::{Answer, Content, Item, ItemKind, Paragraph, is_error, sources, text_of};
use crate::{
    Dialect, ErrorKind, LlmError, StreamEvent,
    chat::{Extra, ExtraOf, Json, Opaque, Part},
    internal::fnv::{OFFSET_BASIS, fnv1a},
    json::{index, parse, raw, word},
    protocol::{Fault, OtherField, StreamDecoder, TextFields, TextShape, number_without_meaning},
    sse::SseEvent,
    tool_calls::call_id,
    wire::responses::sealed,
};

/// Decodes a stream of Responses. The end mark is `response.completed` or `response.incomplete`, and nothing else.
///
/// Events with `.done`, and the last response, repeat the deltas. Of their text the part counts that has not come
/// before: some servers send no deltas, or end them early, and ChatGPT's last response has no output. Arguments that
/// are not those of the deltas are a failure: nobody knows which of the two calls was meant.
#[derive(Default)]
pub struct Decoder {
    started: bool,
    id: Option<String>,
    /// The items so far, by the output's index: some servers give an item another id in each event.
    items: HashMap<u32, ItemState>,
    /// The parts of messages so far, by the indices of output and content.
    contents: HashMap<(u32, u32), Said>,
    /// The next part's index.
    parts: u32,
    /// The number of tool calls so far.
    calls: usize,
    declined: bool,
    /// The shape of the last event with a text, and the indices of output and content in it.
    pub(crate) shape: TextShape,
    shaped: (u32, u32),
}

/// An item of the output, as far as it has come.
#[derive(Debug)]
struct ItemState {
    kind: ItemKind,
    /// The index of the part that a call or a thought is.
    part: Option<u32>,
    /// The arguments that have come.
    said: String,
    /// The number of its contents of which something has come.
    contents: usize,
    /// The newest paragraph of its thought.
    paragraph: Option<Paragraph>,
    /// The fields to keep behind its first part.
    beside: Option<Part>,
    /// True once all of it has come.
    done: bool,
}

/// The text of a message's part, as far as it has come.
#[derive(Debug)]
struct Said {
    /// The part's index.
    part: u32,
    length: usize,
    hash: u64,
}

impl Said {
    fn add(&mut self, text: &str) {
        self.length += text.len();
        self.hash = fnv1a(self.hash, text);
    }

    /// Returns the rest of a whole text that begins with this one.
    fn rest<'a>(&self, whole: &'a str) -> Option<&'a str> {
        let (begun, rest) = whole.split_at_checked(self.length)?;
        (fnv1a(OFFSET_BASIS, begun) == self.hash).then_some(rest)
    }
}

impl fmt::Debug for Decoder {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("items", &self.items.len()).field("parts", &self.parts).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "word")]
    kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "index")]
    output_index: Option<u32>,
    #[serde(default, deserialize_with = "index")]
    content_index: Option<u32>,
    #[serde(default, deserialize_with = "index")]
    summary_index: Option<u32>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
}

impl Event<'_> {
    fn output(&self) -> u32 {
        self.output_index.unwrap_or(0)
    }

    fn content(&self) -> (u32, u32) {
        (self.output(), self.content_index.unwrap_or(0))
    }

    fn summary(&self) -> Paragraph {
        Paragraph::Summary(self.summary_index.unwrap_or(0))
    }

    fn thought(&self) -> Paragraph {
        Paragraph::Text(self.content_index.unwrap_or(0))
    }
}

/// The field of a text.
const TEXT_FIELDS: TextFields = TextFields {
    text: "delta",
    thought: None,
    other: Some(OtherField { name: "\"sequence_number\":", meaning: number_without_meaning }),
};

/// More than any answer has: items, and parts of messages.
const MOST: usize = 16 * 1024;

impl StreamDecoder for Decoder {
    fn event(&mut self, sse: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let data = sse.data().trim_ascii();
        if data == b"[DONE]" {
            let message = "[DONE] came without `response.completed` before it";
            return Err(LlmError::new(ErrorKind::StreamBroken, message).into());
        }
        if let Some((StreamEvent::Text { text, .. }, _)) = self.shape.read(data, &TEXT_FIELDS) {
            return self.text(self.shaped, text, false, out);
        }
        let event: Event<'_> = parse(data)?;
        let kind = event.kind.as_deref().unwrap_or_default();
        if kind == "error" || event.error.is_some_and(is_error) {
            return Err(reported(data)?);
        }
        match kind {
            "response.created" | "response.queued" | "response.in_progress" if !self.started => {
                if let Some(response) = event.response {
                    self.start(&Answer::read(response.get().as_bytes())?, out);
                }
            }
            "response.output_item.added" => {
                if let Some(item) = event.item {
                    self.begin(event.output(), &parse(item.get().as_bytes())?, out)?;
                }
            }
            "response.output_text.delta" => {
                let before = out.len();
                self.text(event.content(), delta(event.delta)?, false, out)?;
                self.shape.learn(data, &TEXT_FIELDS, &out[before..]);
                self.shaped = event.content();
            }
            "response.refusal.delta" => self.text(event.content(), delta(event.delta)?, true, out)?,
            "response.output_text.done" => self.text_to_end(event.content(), delta(event.text)?, false, out)?,
            "response.refusal.done" => self.text_to_end(event.content(), delta(event.refusal)?, true, out)?,
            "response.reasoning_summary_text.delta" => {
                self.think(event.output(), event.summary(), &delta(event.delta)?, out)?;
            }
            "response.reasoning_text.delta" => {
                self.think(event.output(), event.thought(), &delta(event.delta)?, out)?;
            }
            "response.reasoning_summary_text.done" if !self.is_in(event.output(), event.summary()) => {
                self.think(event.output(), event.summary(), &delta(event.text)?, out)?;
            }
            "response.reasoning_text.done" if !self.is_in(event.output(), event.thought()) => {
                self.think(event.output(), event.thought(), &delta(event.text)?, out)?;
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.argue(event.output(), &delta(event.delta)?, out);
            }
            "response.function_call_arguments.done" => {
                let arguments = event.arguments.map(text_of).unwrap_or_default();
                self.argue_to_end(event.output(), &arguments, out)?;
            }
            "response.custom_tool_call_input.done" => {
                let input = event.input.map(text_of).unwrap_or_default();
                self.argue_to_end(event.output(), &input, out)?;
            }
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    self.complete(event.output(), item, out)?;
                }
            }
            "response.completed" | "response.incomplete" => {
                let response = event.response.ok_or_else(|| {
                    let missing: serde_json::Error = serde::de::Error::missing_field("response");
                    Fault::Malformed(missing)
                })?;
                self.last(Answer::read(response.get().as_bytes())?, out)?;
                out.push(StreamEvent::End);
            }
            "response.failed" => {
                if let Some(response) = event.response {
                    Answer::read(response.get().as_bytes())?;
                }
                return Err(LlmError::new(ErrorKind::Server, "the response failed").into());
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer is never whole without its mark.
    fn is_whole(&self, _: bool) -> bool {
        false
    }
}

/// Returns the failure that an event reports: in a field `error`, or in its own fields.
fn reported(data: &[u8]) -> Result<Fault, Fault> {
    let mut event: Value = serde_json::from_slice(data)?;
    if !event.get("error").is_some_and(Value::is_object)
        && let Some(fields) = event.as_object_mut()
        && fields.get("type").is_some_and(|kind| kind == "error")
    {
        fields.remove("type");
        return Ok(Fault::Reported(json!({ "error": event })));
    }
    Ok(Fault::Reported(event))
}

/// Returns the text of a delta. One that cannot be read must not be lost in silence.
fn delta(text: Option<&RawValue>) -> Result<String, Fault> {
    match text.filter(|text| text.get().starts_with('"')) {
        Some(text) => Ok(parse::<Cow<'_, str>>(text.get().as_bytes())?.into_owned()),
        None => Ok(String::new()),
    }
}

impl Decoder {
    fn start(&mut self, answer: &Answer<'_>, out: &mut Vec<StreamEvent>) {
        if !std::mem::replace(&mut self.started, true) {
            self.id = answer.id();
            out.push(StreamEvent::Start { id: answer.id(), model: answer.model() });
        }
    }

    /// Reads the last response: all of it that has not come yet, the tokens, and the reason that the model stopped.
    pub(super) fn last(&mut self, mut answer: Answer<'_>, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        self.start(&answer, out);
        for (place, item) in answer.output.take().unwrap_or_default().into_iter().enumerate() {
            self.complete(u32::try_from(place).unwrap_or(u32::MAX), item, out)?;
        }
        // Items that the last response lacks.
        let mut open: Vec<u32> = self.items.iter().filter(|(_, item)| !item.done).map(|(output, _)| *output).collect();
        open.sort_unstable();
        open.into_iter().for_each(|output| self.close_call(output, out));
        out.extend(answer.usage().map(StreamEvent::Usage));
        out.push(StreamEvent::Finish(answer.finish(self.calls > 0, self.declined)));
        Ok(())
    }

    fn next_part(&mut self) -> u32 {
        self.parts += 1;
        self.parts - 1
    }

    /// Returns an item's state. One that comes without its beginning is of `kind`.
    fn item(&mut self, output: u32, kind: ItemKind) -> Result<&mut ItemState, Fault> {
        if self.items.len() >= MOST && !self.items.contains_key(&output) {
            return Err(Fault::Malformed(serde::de::Error::custom("too many items")));
        }
        let new = || ItemState {
            kind,
            part: None,
            said: String::new(),
            contents: 0,
            paragraph: None,
            beside: None,
            done: false,
        };
        Ok(self.items.entry(output).or_insert_with(new))
    }

    /// Begins an item. A call is sent once it has a name.
    fn begin(&mut self, output: u32, item: &Item<'_>, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let kind = item.kind();
        let state = self.item(output, kind)?;
        if state.kind != kind || state.part.is_some() {
            return Ok(());
        }
        let beside = item.beside();
        if let Some(name) = item.tool().filter(|_| matches!(kind, ItemKind::Function | ItemKind::Custom)) {
            let part = self.next_part();
            let id = [&item.call_id, &item.id].into_iter().flatten().find(|id| !id.is_empty());
            let id = id.map_or_else(|| call_id(self.id.as_deref(), self.calls), |id| id.as_ref().to_owned());
            self.calls += 1;
            out.push(StreamEvent::ToolCall { index: part, id, name, opaque: None });
            out.extend(beside.map(|extra| StreamEvent::Part { index: part, part: extra }));
            self.item(output, kind)?.part = Some(part);
        } else if kind == ItemKind::Message && state.contents == 0 {
            state.beside = beside;
        }
        Ok(())
    }

    /// Returns true if any of a message's part has come.
    fn has(&self, content: (u32, u32)) -> bool {
        self.contents.contains_key(&content)
    }

    /// Adds to a text or a refusal of a message.
    #[inline]
    fn text(
        &mut self,
        content: (u32, u32),
        text: String,
        declines: bool,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), Fault> {
        self.declined |= declines;
        if text.is_empty() {
            return Ok(());
        }
        if self.contents.len() >= MOST && !self.contents.contains_key(&content) {
            return Err(Fault::Malformed(serde::de::Error::custom("too many parts")));
        }
        let next = self.parts;
        let said = self.contents.entry(content).or_insert(Said { part: next, length: 0, hash: OFFSET_BASIS });
        said.add(&text);
        let part = said.part;
        let begins = part == next;
        self.parts += u32::from(begins);
        let item = self.item(content.0, ItemKind::Message)?;
        item.contents += usize::from(begins);
        let first = item.beside.take();
        out.push(match declines {
            true => StreamEvent::Refusal { index: part, text },
            false => StreamEvent::Text { index: part, text },
        });
        out.extend(first.map(|extra| StreamEvent::Part { index: part, part: extra }));
        Ok(())
    }

    /// Adds the rest of a whole text or refusal. One that begins otherwise than what came adds nothing.
    fn text_to_end(
        &mut self,
        content: (u32, u32),
        whole: String,
        declines: bool,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), Fault> {
        match self.contents.get(&content) {
            None => self.text(content, whole, declines, out),
            Some(said) => match said.rest(&whole).map(str::to_owned) {
                Some(rest) if !rest.is_empty() => self.text(content, rest, declines, out),
                _ => Ok(()),
            },
        }
    }

    /// Returns true if the newest paragraph of a thought is this one.
    fn is_in(&self, output: u32, paragraph: Paragraph) -> bool {
        self.items.get(&output).is_some_and(|item| item.paragraph == Some(paragraph))
    }

    /// Adds to a thought. Of its summary and its text, the one that comes first counts.
    fn think(
        &mut self,
        output: u32,
        paragraph: Paragraph,
        text: &str,
        out: &mut Vec<StreamEvent>,
    ) -> Result<(), Fault> {
        let next = self.parts;
        let state = self.item(output, ItemKind::Reasoning)?;
        let before = match (state.paragraph, paragraph) {
            (Some(Paragraph::Summary(_)), Paragraph::Text(_)) | (Some(Paragraph::Text(_)), Paragraph::Summary(_)) => {
                return Ok(());
            }
            _ if text.is_empty() => return Ok(()),
            (Some(before), now) if before != now => PARAGRAPH,
            _ => "",
        };
        let index = *state.part.get_or_insert(next);
        state.paragraph = Some(paragraph);
        self.parts += u32::from(index == next);
        out.push(StreamEvent::Reasoning { index, text: [before, text].concat() });
        Ok(())
    }

    /// Adds to the arguments of a call that has begun.
    fn argue(&mut self, output: u32, text: &str, out: &mut Vec<StreamEvent>) {
        let Some(state) = self.items.get_mut(&output).filter(|item| !text.is_empty() && !item.done) else { return };
        let Some(index) = state.part else { return };
        let before = if !state.said.is_empty() || state.kind != ItemKind::Custom { "" } else { FREE_TEXT };
        state.said.push_str(text);
        let json = match state.kind {
            ItemKind::Custom => [before, &escaped(text)].concat(),
            _ => text.to_owned(),
        };
        out.push(StreamEvent::Arguments { index, json });
    }

    /// Adds the rest of the whole arguments of a call. Without any, those that came are all.
    ///
    /// # Errors
    ///
    /// They are others than those that came.
    fn argue_to_end(&mut self, output: u32, whole: &str, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let Some(state) = self.items.get(&output).filter(|item| !item.done) else { return Ok(()) };
        if let Some(rest) = whole.strip_prefix(state.said.as_str()) {
            self.argue(output, rest, out);
            return Ok(());
        }
        // Some servers write the JSON anew, or put an empty object where the deltas have said all.
        let json = |text: &str| serde_json::from_str::<Value>(text).ok();
        let is_same = state.kind == ItemKind::Function
            && json(&state.said)
                .is_some_and(|said| json(whole).is_some_and(|whole| whole == said || whole == json!({})));
        match whole.is_empty() || is_same {
            true => Ok(()),
            false => {
                let message = "the arguments of a tool call end otherwise than they began";
                Err(LlmError::new(ErrorKind::Malformed, message).into())
            }
        }
    }

    /// Ends the arguments of a call.
    fn close_call(&mut self, output: u32, out: &mut Vec<StreamEvent>) {
        let Some(state) = self.items.get_mut(&output).filter(|item| !item.done) else { return };
        let Some(index) = state.part else { return };
        state.done = true;
        let json = match (state.kind, state.said.is_empty()) {
            (ItemKind::Custom, false) => "\"}",
            (ItemKind::Custom, true) => "{\"input\":\"\"}",
            // A call of a tool without parameters may come without any arguments.
            (ItemKind::Function, true) => "{}",
            _ => return,
        };
        out.push(StreamEvent::Arguments { index, json: json.to_owned() });
    }

    /// Reads a whole item: sends all of it that has not come yet.
    fn complete(&mut self, output: u32, raw: &RawValue, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let item: Item<'_> = parse(raw.get().as_bytes())?;
        let kind = item.kind();
        let state = self.item(output, kind)?;
        if state.kind != kind {
            return Ok(());
        }
        if state.done {
            return if kind == ItemKind::Message { self.extend_message(output, &item, out) } else { Ok(()) };
        }
        match kind {
            ItemKind::Message => self.complete_message(output, &item, out)?,
            ItemKind::Reasoning => {
                let newest = state.paragraph;
                for (paragraph, text) in item.thought() {
                    if newest.is_none_or(|newest| newest < paragraph) {
                        self.think(output, paragraph, &text, out)?;
                    }
                }
                if let Some(encrypted) = item.encrypted_content.as_deref().filter(|text| !text.is_empty()) {
                    let part = self.item(output, kind)?.part;
                    let index = part.unwrap_or_else(|| self.next_part());
                    let token = sealed::join(item.id.as_deref().unwrap_or_default(), encrypted);
                    let opaque = Opaque { dialect: Dialect::Responses, token, redacted: true };
                    out.push(StreamEvent::Signature { index, opaque });
                }
            }
            ItemKind::Function | ItemKind::Custom => {
                self.begin(output, &item, out)?;
                let whole = if kind == ItemKind::Custom { item.input() } else { item.arguments() };
                self.argue_to_end(output, &whole, out)?;
                // Some servers have them in the last response alone.
                if whole.is_empty() {
                    return Ok(());
                }
                self.close_call(output, out);
            }
            ItemKind::Own => {
                let part = Part::Other { dialect: Dialect::Responses, value: Json::of(raw) };
                out.push(StreamEvent::Part { index: self.next_part(), part });
            }
        }
        self.item(output, kind)?.done = true;
        Ok(())
    }

    /// Adds the texts that a message has beyond an earlier form of it.
    fn extend_message(&mut self, output: u32, item: &Item<'_>, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let is_empty = self.item(output, ItemKind::Message)?.contents == 0;
        for (place, content) in item.contents()?.into_iter().enumerate() {
            let at = (output, u32::try_from(place).unwrap_or(u32::MAX));
            match content {
                Content::Text { text, .. } if is_empty || self.has(at) => self.text_to_end(at, text, false, out)?,
                Content::Refusal(text) if is_empty || self.has(at) => self.text_to_end(at, text, true, out)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn complete_message(&mut self, output: u32, item: &Item<'_>, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        self.begin(output, item, out)?;
        let contents = item.contents()?;
        let sources = sources(&contents);
        let at = |place: usize| (output, u32::try_from(place).unwrap_or(u32::MAX));
        // Some servers count the contents of a message in another way in its events.
        let known = (0..contents.len()).filter(|place| self.has(at(*place))).count();
        let mut counted_otherwise = self.item(output, ItemKind::Message)?.contents - known;
        for (place, content) in contents.into_iter().enumerate() {
            match content {
                Content::Text { text, .. } if self.has(at(place)) => self.text_to_end(at(place), text, false, out)?,
                Content::Refusal(text) if self.has(at(place)) => self.text_to_end(at(place), text, true, out)?,
                Content::Text { .. } | Content::Refusal(_) if counted_otherwise > 0 => counted_otherwise -= 1,
                Content::Text { text, .. } if text.is_empty() => {}
                Content::Text { text, .. } => self.text(at(place), text, false, out)?,
                Content::Refusal(text) => self.text(at(place), text, true, out)?,
                Content::Own(raw) => {
                    let part = Part::Other { dialect: Dialect::Responses, value: Json::of(raw) };
                    // An item would have no fields beside it.
                    let extra = Extra { dialect: Dialect::Responses, fields: Json::no_fields() };
                    let mark = Part::Extra { of: ExtraOf::Part, extra };
                    let index = self.next_part();
                    out.extend([part, mark].map(|part| StreamEvent::Part { index, part }));
                }
            }
        }
        if let Some(part) = sources {
            out.push(StreamEvent::Part { index: self.next_part(), part });
        }
        Ok(())
    }
}

/// The separator of a thought's paragraphs.
const PARAGRAPH: &str = "\n\n";

/// The beginning of the arguments that stand for a custom tool's free text.
const FREE_TEXT: &str = "{\"input\":\"";

/// Returns a text as within quotes of JSON.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
