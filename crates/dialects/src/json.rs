//! Reads foreign JSON, and tolerates fields of an odd type.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::chat::ServiceTier;

/// Parses a body, or the data of an event.
pub fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    // Parse a text, whose UTF-8 one pass checks. For bytes, serde would check each string and each raw value.
    match str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(json),
    }
}

/// Reads a field, and counts another type than the expected one as absent: one odd field must not spoil an answer.
///
/// It is for types that refuse some values. The value is skipped first and then read; [`object`] reads it at once.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(read(raw))
}

/// The same for an object whose fields are all lenient themselves. Like an answer, an object with a duplicate field is
/// refused.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(LenientVisitor::<Option<T>>(PhantomData))
}

/// The same for an index in a list.
pub(super) fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Count::deserialize(deserializer).map(|Count(index)| index?.try_into().ok())
}

/// The same for a text, the most frequent type.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(read_text)
}

/// Reads a word of the format's own, which is compared and not stored: it is copied only if it has escapes.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    deserializer.deserialize_any(LenientVisitor::<Word<'de>>(PhantomData)).map(|Word(word)| word)
}

/// Reads the word of a service tier.
pub(super) fn service_tier<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServiceTier, D::Error> {
    word(deserializer).map(|word| word.as_deref().map(ServiceTier::of_word).unwrap_or_default())
}

/// Returns the text, if the value is one.
pub(super) fn read_text(raw: &RawValue) -> Option<String> {
    unescaped(raw).map(str::to_owned).or_else(|| read(raw))
}

/// Returns a text without escapes.
fn unescaped(raw: &RawValue) -> Option<&str> {
    // The value is valid JSON: the characters between quotes mean themselves if there is no backslash.
    let text = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    memchr::memchr(b'\\', text.as_bytes()).is_none().then_some(text)
}

/// Returns the value, if it is of this type.
pub(super) fn read<'de, T: Deserialize<'de>>(raw: &'de RawValue) -> Option<T> {
    // Most absent fields are `null`, which would each cost an error.
    if raw.get() == "null" { None } else { serde_json::from_str(raw.get()).ok() }
}

/// Reads a field as raw text, `null` included, so that a present field differs from an absent one.
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
        deserializer.deserialize_any(LenientVisitor::<Self>(PhantomData))
    }
}

impl FieldType<'_> for Count {
    fn count(count: u64) -> Self {
        Self(Some(count))
    }
}

#[derive(Default)]
struct Word<'a>(Option<Cow<'a, str>>);

impl<'de> FieldType<'de> for Word<'de> {
    fn text(text: Cow<'de, str>) -> Self {
        Self(Some(text))
    }
}

impl<'de, T: Deserialize<'de>> FieldType<'de> for Option<T> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Some)
    }
}

/// The wanted type of a field. Any other value counts as absent.
trait FieldType<'de>: Default {
    fn text(_: Cow<'de, str>) -> Self {
        Self::default()
    }

    fn count(_: u64) -> Self {
        Self::default()
    }

    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        IgnoredAny.visit_map(object).map(|_| Self::default())
    }
}

/// Reads a field of any type once.
struct LenientVisitor<W>(PhantomData<W>);

impl<'de, W: FieldType<'de>> Visitor<'de> for LenientVisitor<W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, count: u64) -> Result<W, E> {
        Ok(W::count(count))
    }

    /// A negative number is zero tokens.
    fn visit_i64<E>(self, count: i64) -> Result<W, E> {
        Ok(W::count(u64::try_from(count).unwrap_or_default()))
    }

    fn visit_f64<E>(self, count: f64) -> Result<W, E> {
        // The conversion saturates.
        Ok(W::count(count as u64))
    }

    fn visit_unit<E>(self) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<W, E> {
        Ok(W::text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<W, E> {
        Ok(W::text(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<W, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| W::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<W, A::Error> {
        W::object(object)
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

    #[derive(Debug, Deserialize, PartialEq)]
    struct Fields<'a> {
        #[serde(borrow, default, deserialize_with = "word")]
        word: Option<Cow<'a, str>>,
        #[serde(default, deserialize_with = "object")]
        inner: Option<Inner>,
        #[serde(default, deserialize_with = "index")]
        index: Option<u32>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        #[serde(default, deserialize_with = "index")]
        index: Option<u32>,
    }

    #[test]
    fn a_field_of_another_type_is_absent_and_those_behind_it_are_read() {
        let odd = [
            r#""text""#,
            r#""\n""#,
            "12",
            "-1",
            "0.5",
            "true",
            "null",
            r#"[1, {"a": []}]"#,
            r#"{"index": 3, "a": [{}]}"#,
        ];
        for json in odd {
            let fields = format!(r#"{{"word": {json}, "inner": {json}, "index": {json}, "word2": 1}}"#);
            let read: Fields<'_> = serde_json::from_str(&fields).unwrap();
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(read.word.as_deref(), value.as_str(), "{json}");
            assert_eq!(read.inner, value.as_object().map(|_| Inner { index: Some(3) }), "{json}");
            assert_eq!(read.index, value.as_f64().map(|number| number as u32), "{json}");
        }
        let none: Fields<'_> = serde_json::from_str(r#"{"index": 4294967296}"#).unwrap();
        assert_eq!(none, Fields { word: None, inner: None, index: None });
    }
}
