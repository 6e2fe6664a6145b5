use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};
use steadfast_internal::calendar;

/// The first day (in UTC) on which a key is refused, such as `2027-01-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// The beginning of the day, since 1970.
    pub(super) at: Duration,
}

impl Expiry {
    pub(super) fn is_over(self, since_1970: Duration) -> bool {
        since_1970 >= self.at
    }

    /// Returns the day's text.
    pub(super) fn day(self) -> String {
        let (year, month, day) = calendar::date_of(self.at.as_secs() / (24 * 60 * 60));
        format!("{year:04}-{month:02}-{day:02}")
    }

    fn parse(text: &str) -> Option<Self> {
        // A month alone is no day.
        let day = calendar::parse_day(text).filter(|_| text.len() == "2027-01-01".len())?;
        Some(Self { at: Duration::from_secs(day * 24 * 60 * 60) })
    }
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a date; write it as 2027-01-01")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        for (text, seconds) in
            [("1970-01-01", 0), ("2000-02-29", 951_782_400), ("2000-03-01", 951_868_800), ("2027-01-01", 1_798_761_600)]
        {
            let expiry = Expiry::parse(text).unwrap();
            assert_eq!((expiry.at, expiry.day()), (Duration::from_secs(seconds), text.to_owned()));
            assert!(expiry.is_over(expiry.at) && (seconds == 0 || !expiry.is_over(Duration::from_secs(seconds - 1))));
        }
    }

    #[test]
    fn what_is_no_day_is_none() {
        for text in [
            "",
            "2027",
            "2027-1-1",
            "2027-13-01",
            "2027-02-29",
            "2027-01-00",
            "1969-12-31",
            "2027-01-01T00:00",
            "+027-01-01",
        ] {
            assert_eq!(Expiry::parse(text), None, "{text}");
        }
    }
}
