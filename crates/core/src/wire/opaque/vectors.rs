//! The length of each vector in an answer, counted without parsing a number.

use memchr::{memchr, memchr_iter, memchr2, memmem};

use crate::internal::base64;
use crate::{ErrorKind, LlmError};

/// Checks that an answer has vectors, all of the same and expected length.
///
/// The forms are OpenAI's (`"embedding": [..]`, or base64 of four bytes a number), Gemini's (`"values": [..]`) and
/// Cohere's (`"float": [[..]]`, or `"embeddings": [[..]]`). Packed numbers are not counted, nor is a text that the
/// request did not ask for: its numbers may be of any size.
pub(super) fn check(
    answer: &[u8],
    expected: Option<u32>,
    is_packed: bool,
    is_base64: bool,
    pool: &str,
) -> Result<(), LlmError> {
    let expected = expected.map(|length| length as usize);
    let mut lengths = Lengths { expected, is_base64, seen: 0, wrong: None };
    // In the order of what is looked for most. None of the names occurs in an answer of another form.
    for name in ["\"embedding\"", "\"values\"", "\"float\"", "\"embeddings\"", "\"int8\"", "\"uint8\""] {
        lengths.of_fields(answer, name.as_bytes());
        if lengths.seen > 0 {
            break;
        }
    }
    let problem = match (lengths.wrong, lengths.expected) {
        _ if is_packed => return Ok(()),
        (Some(length), Some(expected)) => {
            format!("the answer has a vector of {length} dimensions, and {expected} are those of {pool}")
        }
        _ if lengths.seen == 0 => "the answer has no vector".to_owned(),
        _ => return Ok(()),
    };
    Err(LlmError::new(ErrorKind::Malformed, problem))
}

struct Lengths {
    /// The right length: the first vector's, where none was said.
    expected: Option<usize>,
    is_base64: bool,
    seen: usize,
    /// The first length that differs.
    wrong: Option<usize>,
}

impl Lengths {
    /// Counts the vectors in all fields of a name.
    fn of_fields(&mut self, answer: &[u8], name: &[u8]) {
        let mut rest = answer;
        while let Some(at) = memmem::find(rest, name) {
            rest = after_space(&rest[at + name.len()..]);
            // Not a field but a value, as in `"object": "embedding"`.
            let Some(value) = rest.strip_prefix(b":") else { continue };
            rest = self.of_value(after_space(value));
        }
    }

    /// Counts the vectors in a value, and returns what follows.
    fn of_value<'a>(&mut self, value: &'a [u8]) -> &'a [u8] {
        match value {
            [b'"', text @ ..] => {
                // One pass over a text as providers write it; a slash may be escaped.
                let first = memchr2(b'"', b'\\', text).unwrap_or(text.len());
                let rest = &text[first..];
                let end = first + memchr(b'"', rest).unwrap_or(rest.len());
                match self.is_base64 {
                    true => self.add(of_base64(&text[..end], memchr_iter(b'\\', &text[first..end]).count())),
                    false => self.seen += 1,
                }
                &text[end..]
            }
            [b'[', list @ ..] => match after_space(list) {
                [b'[', ..] => self.of_list(list),
                // Texts or objects: their own fields are found by name.
                [b'"' | b'{', ..] => list,
                numbers => self.of_numbers(numbers),
            },
            other => other,
        }
    }

    /// Counts the vectors of a list, and returns what follows the last one.
    fn of_list<'a>(&mut self, mut list: &'a [u8]) -> &'a [u8] {
        loop {
            list = match after_space(list) {
                [b'[', numbers @ ..] => self.of_numbers(after_space(numbers)),
                [b',', rest @ ..] => rest,
                rest => return rest,
            };
        }
    }

    /// Counts the numbers up to the list's end, and returns what follows it.
    fn of_numbers<'a>(&mut self, numbers: &'a [u8]) -> &'a [u8] {
        let end = memchr(b']', numbers).unwrap_or(numbers.len());
        self.add(if end == 0 { 0 } else { memchr_iter(b',', &numbers[..end]).count() + 1 });
        numbers.get(end + 1..).unwrap_or_default()
    }

    fn add(&mut self, length: usize) {
        self.seen += 1;
        if length != *self.expected.get_or_insert(length) || length == 0 {
            self.wrong.get_or_insert(length);
        }
    }
}

/// Returns the numbers in a text of base64 with so many escapes, four bytes each, a part of one counted as another.
fn of_base64(text: &[u8], escapes: usize) -> usize {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    ((text.len() - escapes - padding) * 3 / 4).div_ceil(4)
}

fn after_space(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

/// The name of a vector's field in OpenAI's form.
const EMBEDDING: &[u8] = b"\"embedding\"";

/// Returns an answer in OpenAI's form with its vectors as base64, or as lists of numbers; `None` if they have that form
/// already, or are no such vectors. A text has four bytes for each number, the lowest first; where their number is
/// known, it must be that.
pub(super) fn converted(answer: &[u8], to_base64: bool, dimensions: Option<u32>) -> Option<Vec<u8>> {
    let mut written = Vec::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(found) = memmem::find(&answer[at..], EMBEDDING) {
        at += found + EMBEDDING.len();
        let Some(value) = after_space(&answer[at..]).strip_prefix(b":") else { continue };
        let value = after_space(value);
        let start = answer.len() - value.len();
        let (inside, end, is_text) = match value {
            [b'"', text @ ..] => (text, memchr(b'"', text)?, true),
            [b'[', list @ ..] => (list, memchr(b']', list)?, false),
            _ => return None,
        };
        // The first tells of all.
        if is_text == to_base64 {
            return None;
        }
        let inside = std::str::from_utf8(&inside[..end]).ok()?;
        if written.is_empty() {
            written.reserve(answer.len());
        }
        written.extend_from_slice(&answer[kept..start]);
        written.extend_from_slice(if is_text { numbers(inside, dimensions)? } else { packed(inside)? }.as_bytes());
        kept = start + end + 2;
        at = kept;
    }
    written.extend_from_slice(&answer[kept..]);
    (kept > 0).then_some(written)
}

/// Returns a list's numbers as a text of base64.
fn packed(list: &str) -> Option<String> {
    let numbers = list.split(',').map(|number| number.trim().parse::<f32>().ok().filter(|number| number.is_finite()));
    let bytes: Option<Vec<[u8; 4]>> = numbers.map(|number| Some(number?.to_le_bytes())).collect();
    Some(format!("\"{}\"", base64::encode(bytes?.as_flattened())))
}

/// Returns the list of the numbers in a text of base64.
fn numbers(text: &str, dimensions: Option<u32>) -> Option<String> {
    let bytes = base64::decode(&text.replace("\\/", "/"))?;
    let (fours, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || fours.is_empty() || dimensions.is_some_and(|known| known as usize != fours.len()) {
        return None;
    }
    let mut list = String::with_capacity(text.len() * 2);
    for four in fours {
        let number = f32::from_le_bytes(*four);
        list.push(if list.is_empty() { '[' } else { ',' });
        // As short as it can be, with an exponent where that is far shorter.
        list.push_str(&number.is_finite().then(|| format!("{number:?}"))?);
    }
    list.push(']');
    Some(list)
}
