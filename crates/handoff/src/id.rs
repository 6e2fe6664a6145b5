use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_internal::wall_clock;

/// The id of a task: `task_` and 26 characters.
///
/// Ids sort by creation time, to the millisecond. With 80 random bits, only a person who was given an id can know it.
/// It has the form of a [ULID](https://github.com/ulid/spec), in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u128);

/// Crockford's base 32: no `i`, `l`, `o`, `u`.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &str = "task_";
const LENGTH: usize = 26;
const RANDOM_BITS: u32 = 80;

/// Returns bytes that cannot be guessed.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    let none = |_| StoreError::new(StoreErrorKind::Unavailable, "the system has no random numbers");
    getrandom::fill(&mut bytes).map_err(none)?;
    Ok(bytes)
}

impl TaskId {
    /// Creates a new id.
    ///
    /// # Errors
    ///
    /// Returns an error if the system provides no random numbers.
    pub fn new() -> Result<Self, StoreError> {
        let mut bytes = [0; 16];
        bytes[6..].copy_from_slice(&random::<10>()?);
        let time = wall_clock::since_1970().as_millis() << RANDOM_BITS;
        Ok(Self(time | u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; LENGTH];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = DIGITS[(rest % 32) as usize];
            rest /= 32;
        }
        f.write_str(PREFIX)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// A text is no task's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTaskId;

impl fmt::Display for InvalidTaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a task's id; an id is `task_` and 26 letters and digits")
    }
}

impl std::error::Error for InvalidTaskId {}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == LENGTH).ok_or(InvalidTaskId)?;
        let mut value = 0_u128;
        for digit in digits.bytes() {
            let digit = DIGITS.iter().position(|known| *known == digit.to_ascii_lowercase()).ok_or(InvalidTaskId)?;
            // 26 digits have two bits more than an id.
            value = value.checked_mul(32).ok_or(InvalidTaskId)? | digit as u128;
        }
        Ok(Self(value))
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_was_written() {
        for id in [TaskId(0), TaskId(u128::MAX), TaskId::new().unwrap()] {
            let text = id.to_string();
            assert_eq!(text.len(), 31);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(serde_json::from_str::<TaskId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        }
        let upper = format!("task_{}", TaskId(77).to_string()[5..].to_uppercase());
        assert_eq!(upper.parse(), Ok(TaskId(77)));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let too_large = format!("task_8{}", "0".repeat(25));
        let wrong =
            ["", "task_", "task_0", "0123456789abcdefghjkmnpqrs", &too_large, "task_0123456789abcdefghjkmnpqri"];
        for text in wrong {
            assert_eq!(text.parse::<TaskId>(), Err(InvalidTaskId), "{text}");
        }
        assert!("task_éééééééééééééééééééééééééé".parse::<TaskId>().is_err());
    }

    #[test]
    fn ids_sort_by_time_in_both_forms_and_none_is_there_twice() {
        let (old, new) = (TaskId(1_u128 << RANDOM_BITS), TaskId(2_u128 << RANDOM_BITS));
        assert!(old < new && old.to_string() < new.to_string());
        let ids: HashSet<TaskId> = (0..1000).map(|_| TaskId::new().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
