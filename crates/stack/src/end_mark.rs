//! The mark at the end of a file, which proves that its writer has finished.

use std::fmt;

use sha2::{Digest, Sha256};
use steadfast_internal::hex;

/// The end of a YAML file. A file that is read while it is written is a beginning of itself, and most beginnings of
/// YAML are YAML.
///
/// The mark is YAML's own: `...` on the last line. Behind it may stand a checksum of all lines before, as
/// `... # sha256:` and 64 hexadecimal digits, by which a file that is overwritten in place is known too.
///
/// ```
/// use steadfast_stack::EndMark;
///
/// assert_eq!(EndMark::of("keys: []\n"), Ok(EndMark::Absent));
/// assert_eq!(EndMark::of("keys: []\n...\n"), Ok(EndMark::Present));
/// assert!(EndMark::of("keys: []\n... # sha256:00\n").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndMark {
    /// There is none.
    Absent,
    /// The last line is `...`.
    Present,
    /// The last line is `...` with the right checksum.
    Checksum,
}

/// The checksum behind an end mark is not that of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongChecksum {
    found: String,
}

impl fmt::Display for WrongChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the checksum in the last line is not that of the lines before it, which is sha256:{}: the file is still being \
             written, or was changed since",
            self.found
        )
    }
}

impl std::error::Error for WrongChecksum {}

impl EndMark {
    /// Returns the mark of a text.
    ///
    /// # Errors
    ///
    /// It has a checksum, which is wrong.
    pub fn of(text: &str) -> Result<Self, WrongChecksum> {
        let content = text.trim_end();
        let begin = content.rfind('\n').map_or(0, |at| at + 1);
        let Some(behind) = content[begin..].strip_prefix("...") else { return Ok(Self::Absent) };
        if !(behind.is_empty() || behind.starts_with([' ', '\t'])) {
            return Ok(Self::Absent);
        }
        let Some(said) = behind.trim_start().strip_prefix('#').and_then(|note| note.trim().strip_prefix("sha256:"))
        else {
            return Ok(Self::Present);
        };
        let found = hex::encode(&Sha256::digest(&text[..begin]));
        if said.eq_ignore_ascii_case(&found) { Ok(Self::Checksum) } else { Err(WrongChecksum { found }) }
    }

    /// Checks that a text keeps the mark that the one before had.
    ///
    /// # Errors
    ///
    /// The mark is gone, or its checksum is. The error says how to go on.
    pub fn after(self, before: Self) -> Result<Self, &'static str> {
        match before {
            Self::Present | Self::Checksum if self == Self::Absent => Err(
                "the last line was `...` and is not any more: the file is cut or still being written; put the line \
                 back, or restart without it",
            ),
            Self::Checksum if self == Self::Present => Err(
                "the last line had a checksum and has none any more: the file is cut or still being written; put it \
                 back, or restart without it",
            ),
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_last_line_alone() {
        for (text, mark) in [
            ("", EndMark::Absent),
            ("a: 1", EndMark::Absent),
            ("a: 1\n...\nb: 2\n", EndMark::Absent),
            ("a: 1\n  ...\n", EndMark::Absent),
            ("a: 1\n....\n", EndMark::Absent),
            ("a: 1\n..", EndMark::Absent),
            ("a: 1\n...", EndMark::Present),
            ("a: 1\r\n...\r\n\r\n", EndMark::Present),
            ("a: 1\n... # the end\n", EndMark::Present),
        ] {
            assert_eq!(EndMark::of(text), Ok(mark), "{text:?}");
        }
    }

    /// The digest is sha256sum's.
    #[test]
    fn a_checksum_is_of_all_lines_before() {
        let good = "abc\n... # sha256:edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb\n";
        assert_eq!(EndMark::of(good), Ok(EndMark::Checksum));
        assert!(EndMark::of(&good.replace("abc", "abd")).is_err());
        let from = good.find("... # sha256:").unwrap() + "... # sha256:".len();
        for end in from..good.len() - 2 {
            assert!(EndMark::of(&good[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_mark_that_was_there_stays() {
        use EndMark::*;
        for (before, now, may) in [
            (Absent, Absent, true),
            (Absent, Checksum, true),
            (Present, Absent, false),
            (Present, Checksum, true),
            (Checksum, Present, false),
            (Checksum, Absent, false),
        ] {
            assert_eq!(now.after(before).is_ok(), may, "{before:?} {now:?}");
        }
    }
}
