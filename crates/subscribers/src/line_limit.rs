use std::{mem, time::Duration};

use tokio::time::Instant;

/// A limit of the lines that one kind of message adds to a log.
///
/// It allows a number of lines in each period and counts the suppressed ones, so that the next line can report them.
///
/// ```
/// use std::time::Duration;
///
/// use steadfast_subscribers::LineLimit;
/// use tokio::time::Instant;
///
/// let (mut limit, now) = (LineLimit::new(1, Duration::from_secs(10)), Instant::now());
/// assert_eq!(limit.next(now), Some(0));
/// assert_eq!(limit.next(now), None);
/// assert_eq!(limit.next(now + Duration::from_secs(10)), Some(1));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LineLimit {
    lines: u32,
    period: Duration,
    since: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl LineLimit {
    /// Allows this many lines in each period. A period begins with its first line.
    pub const fn new(lines: u32, period: Duration) -> Self {
        Self { lines, period, since: None, written: 0, suppressed: 0 }
    }

    /// Counts a message. Returns the number of messages suppressed since the last line if this one may be written, else
    /// `None`.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= self.period) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written >= self.lines {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the results of messages that come ten in a second, for those that may be written.
    fn lines(lines: u32, messages: u64) -> Vec<u64> {
        let (mut limit, start) = (LineLimit::new(lines, Duration::from_secs(10)), Instant::now());
        (0..=messages).filter_map(|tenth| limit.next(start + Duration::from_millis(tenth * 100))).collect()
    }

    #[test]
    fn of_a_flood_so_many_have_a_line_and_the_next_line_says_how_many_had_none() {
        assert_eq!(lines(1, 200), [0, 99, 99]);
        assert_eq!(lines(10, 100), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90]);
    }
}
