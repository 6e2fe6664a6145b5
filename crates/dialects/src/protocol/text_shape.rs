//! The shape of a stream's events: their bytes around the text.
//!
//! Nearly every event of a stream is the one before it with another text, and to parse its JSON is most of what it
//! costs. So a decoder remembers the bytes around the last text: the same bytes around another text mean that text.
//! Whatever differs by one byte more is parsed.

use memchr::{memchr, memchr2, memmem, memrchr};

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

/// The bytes on one side of a text. Between them may stand the event's own number.
#[derive(Default)]
struct Side {
    /// The bytes up to the number; without one, all of them.
    first: Vec<u8>,
    /// The bytes behind the number.
    second: Option<Vec<u8>>,
}

/// The kind of a text, and the index of its part.
#[derive(Clone, Copy)]
enum TextKind {
    Text(u32),
    Thought(u32),
}

/// The names of the fields with a text.
pub(crate) struct TextFields {
    pub(crate) text: &'static str,
    /// `None` where a thought is more than its text.
    pub(crate) thought: Option<&'static str>,
}

/// The useless shapes after which a stream's events are taken for different ones.
const MOST_USELESS: u8 = 8;
/// The longest shape, in bytes.
const LONGEST: usize = 2048;

impl TextShape {
    /// Returns what an event's data mean, if they differ from the last ones in the text alone.
    #[inline]
    pub(crate) fn read(&mut self, data: &[u8]) -> Option<StreamEvent> {
        let kind = self.last?;
        let text = self.behind.strip_behind(self.before.strip_before(without_padding(data))?)?;
        if text.is_empty() || !is_verbatim(text) {
            return None;
        }
        let text = str::from_utf8(text).ok()?.to_owned();
        self.useless = 0;
        Some(match kind {
            TextKind::Text(index) => StreamEvent::Text { index, text },
            TextKind::Thought(index) => StreamEvent::Reasoning { index, text },
        })
    }

    /// Learns the shape of data that mean these events.
    pub(crate) fn learn(&mut self, data: &[u8], fields: &TextFields, meaning: &[StreamEvent]) {
        self.last = None;
        let (kind, field, text) = match meaning {
            [StreamEvent::Text { index, text }] => (TextKind::Text(*index), Some(fields.text), text),
            [StreamEvent::Reasoning { index, text }] => (TextKind::Thought(*index), fields.thought, text),
            _ => return,
        };
        let data = without_padding(data);
        // Without a backslash, each string stands for itself.
        let is_plain = !text.is_empty() && data.len() <= LONGEST + text.len() && memchr(b'\\', data).is_none();
        let Some(field) = field.filter(|_| is_plain && self.useless < MOST_USELESS) else { return };
        self.useless += 1;
        let place = ["\":\"", "\": \""].into_iter().find_map(|between| {
            let written = ["\"", field, between, text, "\""].concat();
            let mut places = memmem::find_iter(data, &written);
            let place = places.next().filter(|_| places.next().is_none())?;
            Some(place + written.len() - text.len() - 1)
        });
        let Some(begin) = place else { return };
        self.before.learn(&data[..begin]);
        self.behind.learn(&data[begin + text.len()..]);
        self.last = Some(kind);
    }
}

/// The field with an event's own number, in Responses.
const NUMBER: &[u8] = b"\"sequence_number\":";

impl Side {
    fn learn(&mut self, bytes: &[u8]) {
        let number = memmem::find(bytes, NUMBER).map_or(bytes.len(), |place| place + NUMBER.len());
        let begin = number + bytes[number..].iter().take_while(|byte| **byte == b' ').count();
        let end = begin + leading_digits(&bytes[begin..]);
        let has_number = is_number(&bytes[begin..end]);
        self.second = has_number.then(|| bytes[end..].to_vec());
        self.first.clear();
        self.first.extend_from_slice(if has_number { &bytes[..begin] } else { bytes });
    }

    fn strip_before<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let rest = data.strip_prefix(&*self.first)?;
        let Some(second) = &self.second else { return Some(rest) };
        let (number, rest) = rest.split_at(leading_digits(rest));
        rest.strip_prefix(&**second).filter(|_| is_number(number))
    }

    fn strip_behind<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        let Some(second) = &self.second else { return data.strip_suffix(&*self.first) };
        let rest = data.strip_suffix(&**second)?;
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (rest, number) = rest.split_at(rest.len() - digits);
        rest.strip_suffix(&*self.first).filter(|_| is_number(number))
    }
}

fn leading_digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Returns true if digits are a number of JSON.
fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && (digits[0] != b'0' || digits.len() == 1)
}

/// Returns true if bytes within a JSON string stand for themselves.
fn is_verbatim(bytes: &[u8]) -> bool {
    memchr2(b'"', b'\\', bytes).is_none() && !bytes.iter().any(u8::is_ascii_control)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{prices::PriceTable, protocol::StreamDecoder, sse::SseEvent};

    const FIELDS: TextFields = TextFields { text: "text", thought: None };

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
        let mut shape = learned(r#"{"a": 1, "text": "Hi", "b": "Hi"}"#, "Hi");
        for (data, meaning) in [
            (r#"{"a": 1, "text": " du, Ö🙂", "b": "Hi"}"#, Some(" du, Ö🙂")),
            (r#"{"a": 1, "text": "Hi", "b": "Hi"}"#, Some("Hi")),
            (r#"{"a": 1, "text": "", "b": "Hi"}"#, None),
            (r#"{"a": 2, "text": "x", "b": "Hi"}"#, None),
            (r#"{"a": 1, "text": "x", "b": "Ho"}"#, None),
            (r#"{"a": 1, "text": "x\n", "b": "Hi"}"#, None),
            (r#"{"a": 1, "text": "x\", "b": "Hi"}"#, None),
            (r#"{"a": 1, "text": "x", "text": "y", "b": "Hi"}"#, None),
            ("{\"a\": 1, \"text\": \"x\ny\", \"b\": \"Hi\"}", None),
            (r#"{"a": 1, "text": "#, None),
            ("", None),
        ] {
            assert_eq!(shape.read(data.as_bytes()), meaning.map(text), "{data}");
        }
        assert_eq!(shape.read(b"{\"a\": 1, \"text\": \"\xff\", \"b\": \"Hi\"}"), None);
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
        let mut shape = learned(r#"{"text":"a","obfuscation":"x1"}"#, "a");
        assert_eq!(shape.read(br#"{"text":"b","obfuscation":"Ab3Z"}"#), Some(text("b")));
        assert_eq!(shape.read(br#"{"text":"b","obfuscation":""}"#), Some(text("b")));
        for data in
            [&br#"{"text":"b"}"#[..], br#"{"text":"b","obfuscation":"\"}"#, br#"{"text":"b","obfuscation":"x","y":1}"#]
        {
            assert_eq!(shape.read(data), None, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn a_stream_of_different_events_stops_to_have_shapes_learned() {
        let mut shape = TextShape::default();
        for number in 0..20 {
            let data = |text: &str| format!(r#"{{"n":{number},"text":"{text}"}}"#);
            assert_eq!(shape.read(data("a").as_bytes()), None);
            shape.learn(data("a").as_bytes(), &FIELDS, &[text("a")]);
            assert_eq!(shape.last.is_some(), number < MOST_USELESS, "{number}");
        }
    }

    #[test]
    fn an_events_own_number_is_no_part_of_its_shape() {
        for (data, number) in [
            (r#"{"sequence_number":5,"text":"a","b":1}"#, "5"),
            (r#"{"text":"a","b":1,"sequence_number": 99}"#, "99"),
            (r#"{"text":"a","sequence_number":0,"b":1,"obfuscation":"x"}"#, "0"),
        ] {
            let mut shape = learned(data, "a");
            for (other, is_read) in
                [("6", true), ("0", true), ("12345", true), ("06", false), ("", false), ("6.0", false)]
            {
                let next = data.replacen(number, other, 1).replacen("\"a\"", "\"6\"", 1);
                assert_eq!(shape.read(next.as_bytes()), is_read.then(|| text("6")), "{next}");
            }
        }
    }

    /// Events as servers of three dialects write them, with a place for a text.
    const STREAMS: [&[&str]; 3] = [
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
            r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"@","sequence_number":@}"#,
            r#"{"type":"response.output_text.delta","sequence_number":@,"content_index":1,"delta":"@","obfuscation":"@"}"#,
            r#"{"type": "response.output_text.delta", "sequence_number": @, "item_id": "i", "delta": "@"}"#,
            r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"@","sequence_number":@}"#,
            r#"{"type":"response.refusal.delta","output_index":0,"content_index":0,"delta":"@","sequence_number":@}"#,
            r#"{"type":"response.reasoning_text.delta","output_index":1,"content_index":0,"delta":"@"}"#,
            r#"{"type":"response.output_text.delta","delta":"@","logprobs":[{"delta":"@"}],"sequence_number":@}"#,
        ],
    ];

    /// Decodes a stream twice, once with every event parsed, and compares.
    fn compare<D: StreamDecoder>(
        decoder: impl Fn() -> D,
        forget: impl Fn(&mut D),
        shapes: &[&str],
        seed: u64,
    ) -> usize {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (mut quick, mut slow) = (decoder(), decoder());
        let (mut shape, mut decoded) = (shapes[0], 0);
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
            let mut data = data.into_bytes();
            if chance.u8(..) < 20 {
                let place = chance.usize(..data.len());
                data[place] = [b'"', b'\\', b'}', b' ', 0xff, b'\t', b'x'][chance.usize(..7)];
            }
            let event = SseEvent::of_data(None, &data);
            let (mut by_shape, mut by_parser) = (Vec::new(), Vec::new());
            forget(&mut slow);
            let ends = [quick.event(&event, &mut by_shape), slow.event(&event, &mut by_parser)].map(|end| end.is_ok());
            assert_eq!((&by_shape, ends[0]), (&by_parser, ends[1]), "{}", data.escape_ascii());
            decoded += by_shape.len();
        }
        decoded
    }

    #[test]
    fn a_shape_changes_no_meaning() {
        let mut decoded = 0;
        for seed in 0..60 {
            let anthropic = || crate::anthropic::Decoder::new(PriceTable::builtin());
            decoded += compare(anthropic, |decoder| decoder.shape = TextShape::default(), STREAMS[0], seed);
            let openai = crate::openai::Decoder::default;
            decoded += compare(openai, |decoder| decoder.shape = TextShape::default(), STREAMS[1], seed);
            let responses = crate::responses::Decoder::default;
            decoded += compare(responses, |decoder| decoder.shape = TextShape::default(), STREAMS[2], seed);
        }
        assert!(decoded > 10_000, "{decoded}");
    }
}
