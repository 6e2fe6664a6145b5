//! The ends that a request can come to, as its caller sees them.

use serde::{Deserialize, Serialize};

use crate::dialect::{Dialect, Mode};

/// What a caller had in the end, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Ended {
    /// All of the text, with its end mark.
    Whole,
    /// An error as the answer: it can be asked again.
    Refused,
    /// The begin of a stream, and then an error in it that says so.
    Told,
    /// An answer or a stream that breaks off without an end mark.
    CutOff,
    /// Nothing for so long that the caller left.
    Waits,
    /// An end mark, behind a text that is not the whole one: the caller takes it for the answer.
    Wrong,
}

impl Ended {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 6] = [Self::Whole, Self::Refused, Self::Told, Self::CutOff, Self::Waits, Self::Wrong];

    /// Classifies an answer: its status, where there is one, its body so far, and whether the caller's patience is at
    /// its end.
    pub fn of(dialect: Dialect, mode: Mode, status: Option<u16>, body: &[u8], waited: bool) -> Self {
        let Some(status) = status else { return if waited { Self::Waits } else { Self::CutOff } };
        if status != 200 {
            return if waited { Self::Waits } else { Self::Refused };
        }
        if dialect.is_whole(mode, body) {
            return Self::Whole;
        }
        if dialect.has_error(body) {
            return Self::Told;
        }
        if dialect.has_end(mode, body) {
            return Self::Wrong;
        }
        if waited { Self::Waits } else { Self::CutOff }
    }

    /// A few words for the head of a column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole answer",
            Self::Refused => "error status",
            Self::Told => "error in the stream",
            Self::CutOff => "breaks off",
            Self::Waits => "nothing for 35 s",
            Self::Wrong => "half, as if whole",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_class() {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let events = dialect.events();
            let begin = events[..20].concat();
            let end = events[events.len() - 1].clone();
            let error = match dialect {
                Dialect::Anthropic => "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}\n\n",
                _ => "data: {\"error\":{\"message\":\"gone\"}}\n\n",
            };
            let of = |status, body: &str, waited| Ended::of(dialect, Mode::Stream, status, body.as_bytes(), waited);
            assert_eq!(of(Some(200), &events.concat(), false), Ended::Whole);
            assert_eq!(of(Some(200), &begin, false), Ended::CutOff);
            assert_eq!(of(Some(200), "", false), Ended::CutOff);
            assert_eq!(of(None, "", false), Ended::CutOff);
            assert_eq!(of(Some(200), &begin, true), Ended::Waits);
            assert_eq!(of(None, "", true), Ended::Waits);
            assert_eq!(of(Some(502), "bad gateway", false), Ended::Refused);
            assert_eq!(of(Some(200), &format!("{begin}{error}"), false), Ended::Told);
            // The begin twice, as of one who starts again in mid-stream, and a begin with an end mark.
            assert_eq!(of(Some(200), &format!("{begin}{}", events.concat()), false), Ended::Wrong);
            assert_eq!(of(Some(200), &format!("{begin}{end}"), false), Ended::Wrong);
            // With a mark behind the error: clients read the error first.
            assert_eq!(of(Some(200), &format!("{begin}{error}{end}"), false), Ended::Told);
        }
        let whole = Dialect::OpenAi.answer();
        let of = |body: &str| Ended::of(Dialect::OpenAi, Mode::Plain, Some(200), body.as_bytes(), false);
        assert_eq!(of(&whole), Ended::Whole);
        assert_eq!(of(&whole[..whole.len() / 2]), Ended::CutOff);
    }
}
