//! Reading JSON that others wrote, without tripping over a field of an odd type.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

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

/// The text, if it is one.
pub(super) fn read_text(raw: &RawValue) -> Option<String> {
    match unescaped(raw) {
        Some(text) => Some(text.to_owned()),
        None => read(raw),
    }
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
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let whole = raw.parse::<u64>().ok();
        // `as` saturates: a negative number is no tokens.
        let count = whole.or_else(|| raw.parse::<f64>().ok().map(|number| number as u64));
        Ok(Self(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
