use std::{error::Error, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The id of a row: the number of its writer, and the row's place among the writer's rows.
///
/// The text form has 49 characters: 32 hexadecimal digits, a hyphen, 16 hexadecimal digits. Texts sort as ids do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    /// The random number of the writer's journal, which no other process has.
    pub writer: u128,
    /// The place among the rows of this writer.
    pub sequence: u64,
}

/// The digits of a writer in the text form.
pub(crate) const WRITER_DIGITS: usize = 32;
/// The digits of a sequence number in the text form.
const SEQUENCE_DIGITS: usize = 16;

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:016x}", self.writer, self.sequence)
    }
}

/// A text is no row's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRowId;

impl fmt::Display for InvalidRowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a row's id; an id is 32 hexadecimal digits, a hyphen and 16 hexadecimal digits")
    }
}

impl Error for InvalidRowId {}

impl FromStr for RowId {
    type Err = InvalidRowId;

    fn from_str(text: &str) -> Result<Self, InvalidRowId> {
        let (writer, sequence) = text.split_once('-').ok_or(InvalidRowId)?;
        let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(writer, WRITER_DIGITS) || !is_hex(sequence, SEQUENCE_DIGITS) {
            return Err(InvalidRowId);
        }
        let writer = u128::from_str_radix(writer, 16).map_err(|_| InvalidRowId)?;
        let sequence = u64::from_str_radix(sequence, 16).map_err(|_| InvalidRowId)?;
        Ok(Self { writer, sequence })
    }
}

impl Serialize for RowId {
    /// Serializes the text form.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_text_form_that_sorts_as_it_does() {
        let ids = [
            RowId::default(),
            RowId { writer: 0, sequence: 10 },
            RowId { writer: 0, sequence: u64::MAX },
            RowId { writer: 16, sequence: 0 },
            RowId { writer: u128::MAX, sequence: u64::MAX },
        ];
        let texts = ids.map(|id| id.to_string());
        assert!(ids.is_sorted() && texts.is_sorted(), "{texts:?}");
        assert_eq!(texts.each_ref().map(|text| text.parse::<RowId>().unwrap()), ids);
        for wrong in ["", "-", "0-0", &texts[0][1..], &format!("+{}", &texts[0][1..]), &format!("{}0", texts[0])] {
            assert_eq!(wrong.parse::<RowId>(), Err(InvalidRowId), "{wrong}");
        }
    }
}
