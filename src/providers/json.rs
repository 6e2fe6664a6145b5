//! Reading JSON that others wrote, without tripping over a field of an odd type.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Reads a body, or the data of an event.
pub(super) fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    // As a text, which is checked in one pass: as bytes each string would be, and each value that is kept as it stands.
    match str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(json),
    }
}

/// A field of another type than expected counts as absent: one odd field must not spoil an answer.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(read(raw))
}

/// The same for a text, of which there are most.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(read_text)
}

/// A text that is looked at and not kept: it is copied only where it has escapes.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(read_word)
}

/// The text, if it is one.
pub(super) fn read_text(raw: &RawValue) -> Option<String> {
    read_word(raw).map(Cow::into_owned)
}

fn read_word(raw: &RawValue) -> Option<Cow<'_, str>> {
    unescaped(raw).map(Cow::Borrowed).or_else(|| read(raw).map(Cow::Owned))
}

/// A text that reads as it is written.
fn unescaped(raw: &RawValue) -> Option<&str> {
    // It has been checked to be JSON: what stands between quotes and has no backslash is what it says.
    let text = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    memchr::memchr(b'\\', text.as_bytes()).is_none().then_some(text)
}

/// The value, if it is of this type.
pub(super) fn read<'de, T: Deserialize<'de>>(raw: &'de RawValue) -> Option<T> {
    // Most absent fields are `null`, and an error would be made for each.
    if raw.get() == "null" { None } else { serde_json::from_str(raw.get()).ok() }
}

/// A field as it stands, `null` included, so that what is there can be told from what is not.
pub(super) fn raw<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A count of tokens: servers write `12`, `12.0` and `null`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count(pub(super) Option<u64>);

impl Count {
    pub(super) fn get(self) -> u64 {
        self.0.unwrap_or(0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counting)
    }
}

/// Counts what is a number. Unlike [`lenient`], it reads each count once: an answer has half a dozen.
struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
        Ok(Count(Some(count)))
    }

    /// A negative number is no tokens.
    fn visit_i64<E>(self, count: i64) -> Result<Count, E> {
        Ok(Count(Some(u64::try_from(count).unwrap_or_default())))
    }

    fn visit_f64<E>(self, count: f64) -> Result<Count, E> {
        // It saturates.
        Ok(Count(Some(count as u64)))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Count, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Count, A::Error> {
        IgnoredAny.visit_map(object).map(|_| Count(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_any_number_and_nothing_else() {
        for (json, count) in [
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("12.9", Some(12)),
            ("1e2", Some(100)),
            ("-3", Some(0)),
            ("-0.5", Some(0)),
            ("1e300", Some(u64::MAX)),
            ("null", None),
            ("true", None),
            ("\"12\"", None),
            ("[1, [2]]", None),
            ("{\"a\": {\"b\": 1}}", None),
        ] {
            let read = serde_json::from_str::<Vec<Count>>(&format!("[{json}, 7]")).unwrap();
            assert_eq!(read.iter().map(|count| count.0).collect::<Vec<_>>(), [count, Some(7)], "{json}");
        }
    }

    #[test]
    fn a_text_is_read_as_it_would_be_by_the_parser() {
        for json in [
            r#""""#,
            r#""plain""#,
            r#""ä\u00e9\n\"""#,
            r#""\\""#,
            r#""\ud800""#,
            "null",
            "1",
            r#"["a"]"#,
            r#"{"a":"b"}"#,
        ] {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            assert_eq!(read_text(raw), serde_json::from_str::<String>(json).ok(), "{json}");
        }
    }
}
