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
