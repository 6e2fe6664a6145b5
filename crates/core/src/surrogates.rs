//! Escapes of JSON that are half of a character.
//!
//! `"\ud83d"` is JSON by its grammar (RFC 8259, 8.2), and no text: half of a pair of UTF-16. Programs that cut a text
//! between two UTF-16 units write it, and serde_json refuses it. A half that stays alone becomes U+FFFD, which has an
//! escape of the same length; two halves that a stream has divided become one character.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use memchr::{memchr, memmem};

/// U+FFFD as an escape.
const REPLACEMENT: &[u8] = br"\ufffd";

/// An escape that is half of a character, and has no other half beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Half {
    /// The position of its backslash.
    at: usize,
    is_first: bool,
}

impl Half {
    fn range(self) -> Range<usize> {
        self.at..self.at + REPLACEMENT.len()
    }

    /// Returns true for a first half at the end of a text, or a second one at the beginning.
    fn is_at_edge(self, json: &[u8]) -> bool {
        let beside = if self.is_first { json.get(self.range().end) } else { json.get(self.at.wrapping_sub(1)) };
        beside == Some(&b'"')
    }
}

/// Iterates over the halves that stand alone. The work is in proportion to the JSON.
fn halves(json: &[u8]) -> impl Iterator<Item = Half> {
    static ESCAPE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(br"\u"));
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + ESCAPE.find(&json[from..])?;
            let begun = json[from..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            from = at + 2;
            // An escaped backslash, and a letter.
            if begun % 2 == 1 {
                continue;
            }
            let is_first = match unit(json, at) {
                Some(0xd800..0xdc00) => true,
                Some(0xdc00..0xe000) => false,
                _ => continue,
            };
            from = at + REPLACEMENT.len();
            if is_first && matches!(unit(json, from), Some(0xdc00..0xe000)) {
                from += REPLACEMENT.len();
                continue;
            }
            return Some(Half { at, is_first });
        }
    })
}

/// Returns the unit of UTF-16 that is escaped at this position.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + REPLACEMENT.len())?.strip_prefix(br"\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?))
}

/// Returns JSON with U+FFFD in the place of each half that stands alone. Its length is the same.
pub fn mended(json: &[u8]) -> Cow<'_, [u8]> {
    let mut mended = Cow::Borrowed(json);
    for half in halves(json) {
        mended.to_mut()[half.range()].copy_from_slice(REPLACEMENT);
    }
    mended
}

/// Returns true if there may be halves: the JSON has an escape. Most events of a stream have none.
pub fn has_escape(json: &[u8]) -> bool {
    memchr(b'\\', json).is_some()
}

/// Returns true if a text of the JSON ends with the first half of a character.
pub fn is_divided(json: &[u8]) -> bool {
    halves(json).any(|half| half.is_first && half.is_at_edge(json))
}

/// Returns two JSON values with the first half of a character moved from the end of a text to where another one begins
/// with the second half; `None` if none does.
pub fn joined(before: &[u8], after: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let first = halves(before).filter(|half| half.is_first && half.is_at_edge(before)).last()?.range();
    let second = halves(after).find(|half| !half.is_first && half.is_at_edge(after))?.at;
    let without = [&before[..first.start], &before[first.end..]].concat();
    let with = [&after[..second], &before[first], &after[second..]].concat();
    Some((without, with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_alone_is_replaced_and_nothing_else_is() {
        for (json, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00 x""#, r#""\ufffd x""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\uD83D\uDE00\uD83D""#, r#""\uD83D\uDE00\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d \ude00""#, r#""\ufffd \ufffd""#),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
            (r#""\ud7ff\ue000\u0000""#, r#""\ud7ff\ue000\u0000""#),
            // A backslash that is escaped, and words.
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\ud83d\\ude00""#, r#""\ufffd\\ude00""#),
            (r#"{"\ud83d":"\ude00"}"#, r#"{"\ufffd":"\ufffd"}"#),
            // No JSON: it is not for this to say.
            (r#""\ud8"#, r#""\ud8"#),
            (r#""\ud83"#, r#""\ud83"#),
            (r#""\ud8zz""#, r#""\ud8zz""#),
            (r#""\ud83d"#, r#""\ufffd"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&mended(json.as_bytes())), expected, "{json}");
        }
    }

    #[test]
    fn two_halves_become_one_character_at_the_edges_of_two_texts() {
        let join = |before: &str, after: &str| {
            let (before, after) = joined(before.as_bytes(), after.as_bytes())?;
            Some((String::from_utf8(before).unwrap(), String::from_utf8(after).unwrap()))
        };
        let both = |before: &str, after: &str| Some((before.to_owned(), after.to_owned()));
        assert_eq!(join(r#"{"d":"a\ud83d"}"#, r#"{"d":"\ude00b"}"#), both(r#"{"d":"a"}"#, r#"{"d":"\ud83d\ude00b"}"#));
        assert_eq!(join(r#"["\ud83d"]"#, r#"["\ude00\ud83d"]"#), both(r#"[""]"#, r#"["\ud83d\ude00\ud83d"]"#));
        for (before, after) in [
            (r#"{"d":"\ud83d!"}"#, r#"{"d":"\ude00"}"#),
            (r#"{"d":"\ud83d"}"#, r#"{"d":"!\ude00"}"#),
            (r#"{"d":"\ud83d"}"#, r#"{"d":"\ud83d\ude00"}"#),
            (r#"{"d":"\\ud83d"}"#, r#"{"d":"\ude00"}"#),
            (r#"{"d":"x"}"#, r#"{"d":"\ude00"}"#),
        ] {
            assert_eq!(join(before, after), None, "{before} {after}");
        }
    }

    #[test]
    fn a_million_halves_take_linear_time() {
        let alone = format!("\"{}\"", r"\ud83d".repeat(1_000_000));
        assert_eq!(mended(alone.as_bytes()), format!("\"{}\"", r"\ufffd".repeat(1_000_000)).as_bytes());
        let slashes = format!("\"{}u\"", r"\\".repeat(3_000_000));
        assert!(matches!(mended(slashes.as_bytes()), Cow::Borrowed(_)));
    }
}
