//! The Gregorian calendar, in days since 1970.
//!
//! Years begin in March inside, so that the leap day comes last and the months' lengths repeat every five: 153 days
//! (Howard Hinnant, `chrono`-Compatible Low-Level Date Algorithms, 2013).

/// The days after which the calendar repeats itself.
const FOUR_CENTURIES: u64 = 146_097;
/// The days from 0000-03-01 to 1970-01-01.
const TO_1970: u64 = 719_468;

/// Returns year, month and day of a day since 1970.
pub fn date_of(day: u64) -> (u64, u64, u64) {
    let day = day + TO_1970;
    let (era, of_era) = (day / FOUR_CENTURIES, day % FOUR_CENTURIES);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

/// Returns the day since 1970 of a date that is no earlier. The 31st of a shorter month is a day of the next one.
pub fn day_of(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let (era, of_era) = (year / 400, year % 400);
    era * FOUR_CENTURIES + of_era * 365 + of_era / 4 - of_era / 100 + of_year - TO_1970
}

/// Reads a date such as `2027-01-01`, or the first of a month from `2027-01`, as the day since 1970. Returns `None` for
/// anything else, and for a day before 1970.
pub fn parse_day(text: &str) -> Option<u64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-').unwrap_or((rest, "01"));
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let since_1970 = day_of(year, month, day);
    (date_of(since_1970) == (year, month, day)).then_some(since_1970)
}

/// Returns the first day of the month after that of a day.
pub fn next_month(day: u64) -> u64 {
    let (year, month, _) = date_of(day);
    if month == 12 { day_of(year + 1, 1, 1) } else { day_of(year, month + 1, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_its_first_day_and_what_is_no_day_is_none() {
        assert_eq!(parse_day("2027-01"), parse_day("2027-01-01"));
        assert_eq!(parse_day("2000-02-29").map(|day| (day, next_month(day))), Some((11_016, 11_017)));
        assert_eq!(next_month(parse_day("2026-12-31").unwrap()), parse_day("2027-01-01").unwrap());
        for text in
            ["", "2027", "2027-1", "2027-13", "2027-02-29", "2027-01-00", "1969-12-31", "+027-01", "2027-01-01-01"]
        {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_has_its_date() {
        let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let mut days = 0..;
        for year in 1970..2370 {
            for (month, length) in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].into_iter().enumerate() {
                let (month, length) = (month as u64 + 1, length + u64::from(month == 1 && is_leap(year)));
                for day in 1..=length {
                    let since_1970 = days.next().unwrap();
                    assert_eq!(date_of(since_1970), (year, month, day));
                    assert_eq!(day_of(year, month, day), since_1970);
                }
            }
        }
    }
}
