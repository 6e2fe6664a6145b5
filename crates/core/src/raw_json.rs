//! A JSON value as a slice of the text that it stands in, and its parts as further slices.
//!
//! serde_json's `RawValue` reads a value to its end whenever a slice is made, so that a text is read once for each list
//! and object around it. Here the grammar is checked once, and what is not looked at is passed over 64 bytes at a time.

use std::borrow::Cow;

use memchr::memchr2;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::skip;

/// A JSON value whose grammar was checked.
#[derive(Clone, Copy, Debug)]
pub struct RawJson<'a>(&'a str);

impl<'a> RawJson<'a> {
    /// Returns the text, without white space around it.
    pub fn get(self) -> &'a str {
        self.0
    }

    /// Returns the fields of an object, in order, each name as it is spelled. There are none in another value.
    pub fn fields(self) -> impl Iterator<Item = (Name<'a>, Self)> {
        let mut reader = Reader::within(self, '{');
        std::iter::from_fn(move || {
            let name = Name(reader.next()?);
            Some((name, reader.next()?))
        })
    }

    /// Returns the items of a list, in order. There are none in another value.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let mut reader = Reader::within(self, '[');
        std::iter::from_fn(move || reader.next())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawJson<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Self::from)
    }
}

impl<'a> From<&'a RawValue> for RawJson<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw.get())
    }
}

impl<'a> From<&Self> for RawJson<'a> {
    fn from(raw: &Self) -> Self {
        *raw
    }
}

/// A field's name as it is spelled, quotes included.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(RawJson<'a>);

impl<'a> Name<'a> {
    /// Returns the name, borrowed if it has no escapes.
    ///
    /// # Errors
    ///
    /// Fails if an escape is half of a character.
    pub fn read(self) -> Result<Cow<'a, str>, serde_json::Error> {
        let quoted = self.0.get();
        match quoted.contains('\\') {
            false => Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1])),
            true => serde_json::from_str(quoted).map(|Word(name)| name),
        }
    }
}

/// A text, borrowed if it has no escapes.
#[derive(Deserialize)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct Word<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The rest of a list's or an object's text.
#[derive(Clone)]
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// A reader of what is within these brackets; of nothing, if the value has others.
    fn within(value: RawJson<'a>, opening: char) -> Self {
        Self(value.0.strip_prefix(opening).unwrap_or_default())
    }

    /// Passes over white space, a comma and a colon.
    fn pass_space(&mut self) {
        let is_space = |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':');
        let start = self.0.bytes().position(|byte| !is_space(byte)).unwrap_or(self.0.len());
        self.0 = &self.0[start..];
    }

    /// Returns the next value, and passes over what is before it: white space, a comma, a colon.
    fn next(&mut self) -> Option<RawJson<'a>> {
        self.pass_space();
        let rest = self.0;
        let bytes = rest.as_bytes();
        let end = match *bytes.first()? {
            b'}' | b']' => return None,
            b'"' => end_of_text(bytes)?,
            b'{' | b'[' => skip::nested(bytes, 0)?.end,
            _ => {
                let ends = |byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                rest.bytes().position(ends).unwrap_or(rest.len())
            }
        };
        let (value, rest) = rest.split_at(end);
        self.0 = rest;
        Some(RawJson(value))
    }
}

/// A place in a value, from which its parts are read in one pass.
#[derive(Clone)]
pub(crate) struct Cursor<'a>(Reader<'a>);

impl<'a> Cursor<'a> {
    /// Returns a cursor before this value.
    pub(crate) fn new(value: RawJson<'a>) -> Self {
        Self(Reader(value.0))
    }

    /// Returns the first byte of the next value, which tells its type: of `null` an `n`.
    pub(crate) fn first(&mut self) -> u8 {
        self.0.pass_space();
        self.0.0.as_bytes().first().copied().unwrap_or_default()
    }

    /// Returns the next value, and passes over it.
    pub(crate) fn pass(&mut self) -> RawJson<'a> {
        self.0.next().unwrap_or(RawJson("null"))
    }

    /// Goes into the list or object that is next.
    pub(crate) fn enter(&mut self) {
        self.first();
        self.0.0 = self.0.0.get(1..).unwrap_or_default();
    }

    /// Returns true if a value or a field is next, and passes over the closing bracket if there is none.
    pub(crate) fn has_more(&mut self) -> bool {
        let ends = matches!(self.first(), 0 | b'}' | b']');
        if ends {
            self.0.0 = self.0.0.get(1..).unwrap_or_default();
        }
        !ends
    }

    /// Returns the name of the field that is next, whose value is then next.
    ///
    /// # Errors
    ///
    /// Fails if an escape is half of a character.
    pub(crate) fn name(&mut self) -> Result<Cow<'a, str>, serde_json::Error> {
        Name(self.pass()).read()
    }

    /// Returns the text of the field `type` in the object that is next, the last one if there are several. Nothing is
    /// passed over.
    pub(crate) fn tag(&self) -> Option<Cow<'a, str>> {
        let mut ahead = self.clone();
        ahead.enter();
        let mut tag = None;
        while ahead.has_more() {
            let name = ahead.pass();
            // Nobody escapes it, but whoever does means the same.
            let is_tag =
                name.0 == r#""type""# || name.0.contains('\\') && Name(name).read().is_ok_and(|name| name == "type");
            let value = ahead.pass();
            if is_tag {
                tag = Some(value);
            }
        }
        Name(tag.filter(|tag| tag.get().starts_with('"'))?).read().ok()
    }
}

/// Returns the position behind a text's closing quote.
fn end_of_text(quoted: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', quoted.get(at..)?)?;
        if quoted[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Reads a value by its slices alone.
    fn tree(raw: RawJson<'_>) -> Value {
        match raw.get().as_bytes()[0] {
            b'{' => {
                Value::Object(raw.fields().map(|(name, value)| (name.read().unwrap().into(), tree(value))).collect())
            }
            b'[' => raw.items().map(tree).collect(),
            _ => serde_json::from_str(raw.get()).unwrap(),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = || prop_oneof!["[a-z\\\\\"\n{}\\[\\],: é]{0,9}", "[a-z\"]{60,200}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(text(), inner, 0..6).prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_slices_of_a_value_are_its_parts_in_any_layout(value in any_value()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let raw = serde_json::from_str::<RawJson<'_>>(&text).unwrap();
                prop_assert_eq!(tree(raw), serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }

    #[test]
    fn other_values_have_no_parts_and_white_space_is_none() {
        for json in ["7", "\"[]\"", "null", " {} ", "[\n]", "{ }"] {
            let raw = serde_json::from_str::<RawJson<'_>>(json).unwrap();
            assert_eq!((raw.get(), raw.items().count(), raw.fields().count()), (json.trim(), 0, 0));
        }
    }
}
