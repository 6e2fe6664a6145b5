//! The ends that a request can come to, as its caller sees them.

use serde::{Deserialize, Serialize};

use crate::dialect::{Dialect, Mode};

/// The end of a request, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum End {
    /// All of the text, with its end mark.
    Whole,
    /// An error as the answer: it can be asked again.
    ErrorStatus,
    /// The begin of a stream, and then an error in it that says so.
    ErrorInStream,
    /// An answer or a stream that breaks off without an end mark.
    Break,
    /// Nothing for so long that the caller left.
    Silence,
    /// An end mark, behind a text that is not the whole one: the caller takes it for the answer.
    FalseEnd,
}

impl End {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 6] =
        [Self::Whole, Self::ErrorStatus, Self::ErrorInStream, Self::Break, Self::Silence, Self::FalseEnd];

    /// Classifies an answer: its status, where there is one, its body so far, and whether the caller's patience is at
    /// its end.
    pub fn of(dialect: Dialect, mode: Mode, status: Option<u16>, body: &[u8], waited: bool) -> Self {
        let Some(status) = status else { return if waited { Self::Silence } else { Self::Break } };
        if status != 200 {
            return if waited { Self::Silence } else { Self::ErrorStatus };
        }
        if dialect.is_whole(mode, body) {
            return Self::Whole;
        }
        if dialect.has_error(body) {
            return Self::ErrorInStream;
        }
        if dialect.has_end(mode, body) {
            return Self::FalseEnd;
        }
        if waited { Self::Silence } else { Self::Break }
    }

    /// A few words for the head of a column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole answer",
            Self::ErrorStatus => "error status",
            Self::ErrorInStream => "error in the stream",
            Self::Break => "breaks off",
            Self::Silence => "nothing for 35 s",
            Self::FalseEnd => "half, as if whole",
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
            let of = |status, body: &str, waited| End::of(dialect, Mode::Stream, status, body.as_bytes(), waited);
            assert_eq!(of(Some(200), &events.concat(), false), End::Whole);
            assert_eq!(of(Some(200), &begin, false), End::Break);
            assert_eq!(of(Some(200), "", false), End::Break);
            assert_eq!(of(None, "", false), End::Break);
            assert_eq!(of(Some(200), &begin, true), End::Silence);
            assert_eq!(of(None, "", true), End::Silence);
            assert_eq!(of(Some(502), "bad gateway", false), End::ErrorStatus);
            assert_eq!(of(Some(200), &format!("{begin}{error}"), false), End::ErrorInStream);
            // The begin twice, as of one who starts again in mid-stream, and a begin with an end mark.
            assert_eq!(of(Some(200), &format!("{begin}{}", events.concat()), false), End::FalseEnd);
            assert_eq!(of(Some(200), &format!("{begin}{end}"), false), End::FalseEnd);
            // With a mark behind the error: clients read the error first.
            assert_eq!(of(Some(200), &format!("{begin}{error}{end}"), false), End::ErrorInStream);
        }
        let whole = Dialect::OpenAi.answer();
        let of = |body: &str| End::of(Dialect::OpenAi, Mode::Plain, Some(200), body.as_bytes(), false);
        assert_eq!(of(&whole), End::Whole);
        assert_eq!(of(&whole[..whole.len() / 2]), End::Break);
    }
}
