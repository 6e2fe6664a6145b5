//! The shape of a stream's events: their bytes around the text.
//!
//! Nearly every event of a stream is the one before it with another text, and to parse its JSON is most of what it
//! costs. So a decoder remembers the bytes around the last text: the same bytes around another text mean that text.
//! One other field may differ too, such as an event's own number. Whatever differs by one byte more is parsed.

use std::ops::Range;

use memchr::{memchr, memchr2, memmem, memrchr};
use serde_json::{Deserializer, value::RawValue};

use crate::StreamEvent;

/// The shape of the last event, if that was a text alone.
#[derive(Default)]
pub(crate) struct TextShape {
    last: Option<TextKind>,
    before: Side,
    behind: Side,
    /// The shapes in a row that no event had again.
    useless: u8,
}

/// The bytes on one side of a text. Between them may stand the value of the other field.
#[derive(Default)]
struct Side {
    /// The bytes up to the value; without one, all of them.
    first: Vec<u8>,
    /// The bytes behind the value.
    second: Option<Vec<u8>>,
}

/// The kind of a text, and the index of its part.
#[derive(Clone, Copy)]
enum TextKind {
    Text(u32),
    Thought(u32),
}

/// The fields that differ between the events of a stream.
pub(crate) struct TextFields {
    /// The name of the field with a text.
    pub(crate) text: &'static str,
    /// The same of a thought; `None` where a thought is more than its text.
    pub(crate) thought: Option<&'static str>,
    pub(crate) other: Option<OtherField>,
}

/// A field beside the text.
pub(crate) struct OtherField {
    /// The name in quotes, with its colon.
    pub(crate) name: &'static str,
    /// Returns what a value means behind the text; `None` if the parser has to tell.
    pub(crate) meaning: fn(&[u8]) -> Option<OtherMeaning>,
}

/// The meaning of the other field's value.
pub(crate) type OtherMeaning = Option<StreamEvent>;

/// The useless shapes after which a stream's events are taken for different ones.
const MOST_USELESS: u8 = 8;
/// The longest shape, in bytes.
const LONGEST: usize = 2048;

impl TextShape {
    /// Returns what an event's data mean, if they differ from the last ones in these fields alone.
    #[inline]
    pub(crate) fn read(&mut self, data: &[u8], fields: &TextFields) -> Option<(StreamEvent, OtherMeaning)> {
        // Whatever comes in between may change what the shape means.
        let kind = self.last.take()?;
        let (before, rest) = self.before.strip(without_padding(data))?;
        let (text, rest) = text(rest).filter(|(text, _)| !text.is_empty())?;
        let behind = self.behind.value(rest)?;
        let other = match (before.or(behind), &fields.other) {
            (Some(value), Some(other)) => (other.meaning)(value)?,
            _ => None,
        };
        (self.last, self.useless) = (Some(kind), 0);
        let event = match kind {
            TextKind::Text(index) => StreamEvent::Text { index, text },
            TextKind::Thought(index) => StreamEvent::Reasoning { index, text },
        };
        Some((event, other))
    }

    /// Learns the shape of data that mean these events.
    pub(crate) fn learn(&mut self, data: &[u8], fields: &TextFields, meaning: &[StreamEvent]) {
        let (kind, field, text, rest) = match meaning {
            [StreamEvent::Text { index, text }, rest @ ..] => (TextKind::Text(*index), Some(fields.text), text, rest),
            [StreamEvent::Reasoning { index, text }, rest @ ..] => {
                (TextKind::Thought(*index), fields.thought, text, rest)
            }
            _ => return,
        };
        let data = without_padding(data);
        // Without a backslash, each string stands for itself.
        let is_plain = !text.is_empty() && data.len() <= LONGEST + text.len() && memchr(b'\\', data).is_none();
        let Some(field) = field.filter(|_| is_plain && self.useless < MOST_USELESS) else { return };
        let value = fields.other.as_ref().and_then(|other| value_of(data, other.name));
        let other = value.clone().zip(fields.other.as_ref());
        let other = other.map_or(Some(None), |(value, other)| (other.meaning)(&data[value]));
        // Whatever else the data mean would be forgotten.
        if other.is_none_or(|other| other.as_slice() != rest) {
            return;
        }
        self.useless += 1;
        let place = ["\":", "\": "].into_iter().find_map(|between| {
            let name = ["\"", field, between].concat();
            let place = only_place(data, &[&name, "\"", text, "\""].concat())? + name.len();
            Some(place..place + text.len() + 2)
        });
        let Some(place) = place else { return };
        self.before.learn(&data[..place.start], value.clone());
        let value =
            value.and_then(|value| value.start.checked_sub(place.end).map(|start| start..value.end - place.end));
        self.behind.learn(&data[place.end..], value);
        self.last = Some(kind);
    }
}

/// Returns the one place of a text in data.
fn only_place(data: &[u8], text: &str) -> Option<usize> {
    let mut places = memmem::find_iter(data, text);
    places.next().filter(|_| places.next().is_none())
}

/// Returns the place of a field's value, if no other field has its name.
fn value_of(data: &[u8], name: &str) -> Option<Range<usize>> {
    let start = only_place(data, name)? + name.len();
    let mut values = Deserializer::from_slice(&data[start..]).into_iter::<&RawValue>();
    let value = values.next()?.ok()?.get();
    let end = start + values.byte_offset();
    Some(end - value.len()..end)
}

impl Side {
    /// Learns bytes, with a place for the value if it is within them.
    fn learn(&mut self, bytes: &[u8], value: Option<Range<usize>>) {
        let value = value.filter(|value| value.end <= bytes.len());
        self.second = value.as_ref().map(|value| bytes[value.end..].to_vec());
        self.first.clear();
        self.first.extend_from_slice(&bytes[..value.map_or(bytes.len(), |value| value.start)]);
    }

    /// Returns the value, which is a number on this side, and the data behind the bytes.
    fn strip<'a>(&self, data: &'a [u8]) -> Option<(Option<&'a [u8]>, &'a [u8])> {
        let rest = data.strip_prefix(&*self.first)?;
        let Some(second) = &self.second else { return Some((None, rest)) };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = rest.split_at(digits);
        Some((Some(number), rest.strip_prefix(&**second)?))
    }

    /// Returns the value within data that end with the bytes.
    fn value<'a>(&self, data: &'a [u8]) -> Option<Option<&'a [u8]>> {
        let rest = data.strip_prefix(&*self.first)?;
        match &self.second {
            Some(second) => rest.strip_suffix(&**second).map(Some),
            None => rest.is_empty().then_some(None),
        }
    }
}

/// Reads a string of JSON, and returns the data behind it.
fn text(data: &[u8]) -> Option<(String, &[u8])> {
    let inner = data.strip_prefix(b"\"")?;
    let end = memchr2(b'"', b'\\', inner)?;
    if inner[end] == b'"' {
        let text = Some(&inner[..end]).filter(|text| !text.iter().any(u8::is_ascii_control))?;
        return Some((str::from_utf8(text).ok()?.to_owned(), &inner[end + 1..]));
    }
    let mut texts = Deserializer::from_slice(data).into_iter();
    let text = texts.next()?.ok()?;
    Some((text, &data[texts.byte_offset()..]))
}

/// Takes the digits of a number of JSON as meaning nothing.
pub(crate) fn number_without_meaning(digits: &[u8]) -> Option<OtherMeaning> {
    let is_number = match digits {
        [] => false,
        [b'0', rest @ ..] => rest.is_empty(),
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    is_number.then_some(None)
}

/// Returns an event's data without the last field of OpenAI's, which makes all of them about as long.
fn without_padding(data: &[u8]) -> &[u8] {
    let unpadded = || {
        let inner = data.strip_suffix(b"\"}")?;
        let (before, padding) = inner.split_at(memrchr(b'"', inner)? + 1);
        before.strip_suffix(b",\"obfuscation\":\"").filter(|_| is_verbatim(padding))
    };
    unpadded().unwrap_or(data)
}

/// Returns true if bytes within a JSON string stand for themselves.
fn is_verbatim(bytes: &[u8]) -> bool {
    memchr2(b'"', b'\\', bytes).is_none() && !bytes.iter().any(u8::is_ascii_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prices::PriceTable, protocol::StreamDecoder, sse::SseEvent};

    const FIELDS: TextFields = TextFields {
        text: "text",
        thought: None,
        other: Some(OtherField { name: "\"sequence_number\":", meaning: number_without_meaning }),
    };

    fn read(shape: &mut TextShape, data: &[u8]) -> Option<StreamEvent> {
        shape.read(data, &FIELDS).map(|(text, other)| {
            assert_eq!(other, None);
            text
        })
    }

    fn text(text: &str) -> StreamEvent {
        StreamEvent::Text { index: 3, text: text.to_owned() }
    }

    fn learned(data: &str, of: &str) -> TextShape {
        let mut shape = TextShape::default();
        shape.learn(data.as_bytes(), &FIELDS, &[text(of)]);
        shape
    }

    #[test]
    fn an_event_with_another_text_means_that_text_and_any_other_is_left_to_the_parser() {
        let shape = || learned(r#"{"a": 1, "text": "Hi", "b": "Hi"}"#, "Hi");
        for (data, meaning) in [
            (r#"{"a": 1, "text": " du, Ö🙂", "b": "Hi"}"#, Some(" du, Ö🙂")),
            (r#"{"a": 1, "text": "Hi", "b": "Hi"}"#, Some("Hi")),
            (r#"{"a": 1, "text": "", "b": "Hi"}"#, None),
            (r#"{"a": 2, "text": "x", "b": "Hi"}"#, None),
            (r#"{"a": 1, "text": "x", "b": "Ho"}"#, None),
            (r#"{"a": 1, "text": "x\n\u00e9\"", "b": "Hi"}"#, Some("x\né\"")),
            (r#"{"a": 1, "text": "\ud800", "b": "Hi"}"#, None),
            (r#"{"a": 1, "text": "x\", "b": "Hi"}"#, None),
            (r#"{"a": 1, "text": "x", "text": "y", "b": "Hi"}"#, None),
            ("{\"a\": 1, \"text\": \"x\ny\", \"b\": \"Hi\"}", None),
            (r#"{"a": 1, "text": "#, None),
            ("", None),
        ] {
            assert_eq!(read(&mut shape(), data.as_bytes()), meaning.map(text), "{data}");
        }
        assert_eq!(read(&mut shape(), b"{\"a\": 1, \"text\": \"\xff\", \"b\": \"Hi\"}"), None);
    }

    #[test]
    fn a_text_that_may_stand_elsewhere_has_no_shape() {
        for data in
            [r#"{"text":"a","more":{"text":"a"}}"#, r#"{"text":"\u0061"}"#, r#"{"text":5}"#, r#"{"b":"\\","text":"a"}"#]
        {
            assert!(learned(data, "a").last.is_none(), "{data}");
        }
        assert!(learned(&format!(r#"{{"text":"a","b":"{}"}}"#, "b".repeat(LONGEST)), "a").last.is_none());
    }

    #[test]
    fn what_makes_openais_events_as_long_as_each_other_is_no_part_of_their_shape() {
        let shape = || learned(r#"{"text":"a","obfuscation":"x1"}"#, "a");
        assert_eq!(read(&mut shape(), br#"{"text":"b","obfuscation":"Ab3Z"}"#), Some(text("b")));
        assert_eq!(read(&mut shape(), br#"{"text":"b","obfuscation":""}"#), Some(text("b")));
        for data in
            [&br#"{"text":"b"}"#[..], br#"{"text":"b","obfuscation":"\"}"#, br#"{"text":"b","obfuscation":"x","y":1}"#]
        {
            assert_eq!(read(&mut shape(), data), None, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn a_stream_of_different_events_stops_to_have_shapes_learned() {
        let mut shape = TextShape::default();
        for number in 0..20 {
            let data = |text: &str| format!(r#"{{"n":{number},"text":"{text}"}}"#);
            assert_eq!(read(&mut shape, data("a").as_bytes()), None);
            shape.learn(data("a").as_bytes(), &FIELDS, &[text("a")]);
            assert_eq!(shape.last.is_some(), number < MOST_USELESS, "{number}");
        }
    }

    #[test]
    fn an_events_own_number_is_no_part_of_its_shape() {
        for (data, number) in [
            (r#"{"sequence_number":5,"text":"a","b":1}"#, "5"),
            (r#"{"sequence_number": 7,"text":"a"}"#, "7"),
            (r#"{"text":"a","b":1,"sequence_number": 99}"#, "99"),
            (r#"{"text":"a","sequence_number":0,"b":1,"obfuscation":"x"}"#, "0"),
        ] {
            for (other, is_read) in
                [("6", true), ("0", true), ("12345", true), ("06", false), ("", false), ("6.0", false)]
            {
                let next = data.replacen(number, other, 1).replacen("\"a\"", "\"6\"", 1);
                assert_eq!(read(&mut learned(data, "a"), next.as_bytes()), is_read.then(|| text("6")), "{next}");
            }
        }
    }

    /// Events as servers of four dialects write them, with places for texts and numbers.
    const STREAMS: [&[&str]; 4] = [
        &[
            r#"{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":3}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"@"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"@"}}"#,
            r#"{"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "@"}}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"thinking","thinking":"@","signature":""}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"thinking_delta","thinking":"@"}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"@"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"ping"}"#,
        ],
        &[
            r#"{"id":"1","model":"@","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"1","model":"g","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"@"}}],"usage":null,"obfuscation":"@"}"#,
            r#"{"id":"1","choices":[{"index":1,"delta":{"content":"@"}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"@"}},{"index":1,"delta":{"content":"@"}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"reasoning_content":"@"}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"@","extra_content":{"a":"@"}}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":[{"type":"text","text":"@"}]}}]}"#,
            r#"{"id":"@","choices":[{"index":0,"delta":{"content":5}}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":"stop"}]}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"@"}}],"usage":{"prompt_tokens":1}}"#,
        ],
        &[
            r#"{"type":"response.created","sequence_number":0,"response":{"id":"@","model":"g"}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","phase":"@"}}"#,
            r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"@","sequence_number":#}"#,
            r#"{"type":"response.output_text.delta","sequence_number":#,"content_index":1,"delta":"@","obfuscation":"@"}"#,
            r#"{"type": "response.output_text.delta", "sequence_number": #, "item_id": "i", "delta": "@"}"#,
            r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"@","sequence_number":#}"#,
            r#"{"type":"response.refusal.delta","output_index":0,"content_index":0,"delta":"@","sequence_number":#}"#,
            r#"{"type":"response.reasoning_text.delta","output_index":1,"content_index":0,"delta":"@"}"#,
            r#"{"type":"response.output_text.delta","delta":"@","logprobs":[{"delta":"@"}],"sequence_number":#}"#,
        ],
        &[
            r#"{"candidates":[{"content":{"parts":[{"text":"@"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":#,"totalTokenCount":#},"modelVersion":"g"}"#,
            r#"{"candidates": [{"content": {"parts": [{"text": "@"}]}}],"usageMetadata": {"promptTokenCount": #,"promptTokensDetails": [{"modality": "@","tokenCount": #}],"thoughtsTokenCount": 67}}"#,
            r#"{"usageMetadata":{"candidatesTokenCount":#},"candidates":[{"content":{"parts":[{"text":"@"}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@"}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@","thought":true}]}}],"usageMetadata":@}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@","thoughtSignature":"@"}]}}],"usageMetadata":{}}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@"},{"text":"@"}]}}],"usageMetadata":null}"#,
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"text":"@"}}}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@"}]}}],"x":{"usageMetadata":{"totalTokenCount":#}}}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@"}]}}],"usageMetadata":{"totalTokenCount":#},"usageMetadata":{"totalTokenCount":#}}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@"}]},"finishReason":"STOP"}],"usageMetadata":[@]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"@"}]}},{"content":{"parts":[{"text":"@"}]}}],"usageMetadata":{"totalTokenCount":"@"}}"#,
        ],
    ];

    /// Decodes a stream twice, once with every event parsed, compares, and returns how many events were not parsed.
    fn compare<D: StreamDecoder>(
        decoder: impl Fn() -> D,
        shape_of: impl Fn(&mut D) -> &mut TextShape,
        shapes: &[&str],
        seed: u64,
    ) -> usize {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (mut quick, mut slow) = (decoder(), decoder());
        let (mut shape, mut by_shapes) = (shapes[0], 0);
        for _ in 0..200 {
            if chance.u8(..) < 60 {
                shape = shapes[chance.usize(..shapes.len())];
            }
            let mut data = shape.to_owned();
            while data.contains('@') {
                let texts = [
                    "a", "5", "text", "content", "Ö🙂", " b ", "", "10", "07", "\\n", "\\u00e9", "\\ud800", "c\\\"",
                    "1",
                ];
                data = data.replacen('@', texts[chance.usize(..texts.len())], 1);
            }
            while data.contains('#') {
                let numbers = ["0", "5", "12", "345", "6789", "07", "1.5", "\"8\""];
                data = data.replacen('#', numbers[chance.usize(..numbers.len())], 1);
            }
            let mut data = data.into_bytes();
            if chance.u8(..) < 20 {
                let place = chance.usize(..data.len());
                data[place] = [b'"', b'\\', b'}', b' ', 0xff, b'\t', b'x'][chance.usize(..7)];
            }
            let event = SseEvent::of_data(None, &data);
            let (mut by_shape, mut by_parser) = (Vec::new(), Vec::new());
            *shape_of(&mut slow) = TextShape::default();
            // As in a stream whose events are more alike.
            shape_of(&mut quick).useless = 0;
            let ends = [quick.event(&event, &mut by_shape), slow.event(&event, &mut by_parser)].map(|end| end.is_ok());
            assert_eq!((&by_shape, ends[0]), (&by_parser, ends[1]), "{}", data.escape_ascii());
            let kept = shape_of(&mut quick);
            by_shapes += usize::from(kept.last.is_some() && kept.useless == 0);
        }
        by_shapes
    }

    #[test]
    fn a_shape_changes_no_meaning() {
        let mut by_shapes = [0; 4];
        for seed in 0..60 {
            let anthropic = || crate::anthropic::Decoder::new(PriceTable::builtin());
            by_shapes[0] += compare(anthropic, |decoder| &mut decoder.shape, STREAMS[0], seed);
            by_shapes[1] += compare(crate::openai::Decoder::default, |decoder| &mut decoder.shape, STREAMS[1], seed);
            by_shapes[2] += compare(crate::responses::Decoder::default, |decoder| &mut decoder.shape, STREAMS[2], seed);
            by_shapes[3] += compare(crate::gemini::Decoder::default, |decoder| &mut decoder.shape, STREAMS[3], seed);
        }
        assert!(by_shapes.iter().all(|number| *number > 500), "{by_shapes:?}");
    }
}
