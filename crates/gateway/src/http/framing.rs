//! Finds the heads of requests in the bytes of a connection, and rejects lines that end in a bare LF.
//!
//! hyper accepts a bare LF as the end of a line, as RFC 9112 (2.2) allows. A proxy in front of the gateway may not, and
//! then the two see different fields in one head. hyper has no option to refuse it, so [`Framing`] replaces it by a
//! NUL, which is invalid in a head.

use memchr::memchr;

/// A parser of a connection's requests, in the order and the pieces in which hyper reads them.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: Position,
    /// The start of a line that has not ended yet.
    line: Vec<u8>,
    /// The line's length, as far as it has come.
    come: usize,
    /// Its last byte.
    last: u8,
    /// The head has its first line.
    has_begun: bool,
    /// The length of the last head, as far as it has come.
    head: usize,
    /// The length of the body, by its head.
    length: u64,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Head,
    /// Before so many bytes of a body.
    Body(u64),
    /// In the line of a chunk's size.
    Size,
    /// Before so many bytes of a chunk and its end.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers,
}

/// The part of a line that is parsed, in bytes: every relevant field is at its beginning. A length that ends behind it
/// is refused.
const MAX_BUFFERED_LINE: usize = 128;

impl Framing {
    /// Returns the length of the last head in bytes, as far as it has come.
    pub(crate) fn head(&self) -> usize {
        self.head
    }

    /// Follows the next bytes. Each LF in a head that has no CR before it becomes a NUL, and so does the end of a line
    /// whose length cannot be parsed here.
    pub(crate) fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let used = match self.at {
                Position::Body(left) => self.pass(left, bytes.len(), Position::Body, Position::Head),
                Position::Chunk(left) => self.pass(left, bytes.len(), Position::Chunk, Position::Size),
                Position::Head | Position::Size | Position::Trailers => self.read_line(bytes),
            };
            bytes = &mut bytes[used..];
        }
    }

    /// Passes over bytes of a body.
    fn pass(&mut self, left: u64, there: usize, more: impl FnOnce(u64) -> Position, behind: Position) -> usize {
        let there = u64::try_from(there).unwrap_or(u64::MAX);
        let passed = left.min(there);
        self.at = if passed == left { behind } else { more(left - passed) };
        usize::try_from(passed).unwrap_or(usize::MAX)
    }

    /// Reads to the end of a line, or as far as there is one.
    fn read_line(&mut self, bytes: &mut [u8]) -> usize {
        let end = memchr(b'\n', bytes);
        if self.at == Position::Head {
            if !self.has_begun && self.line.is_empty() {
                self.head = 0;
            }
            self.head += end.map_or(bytes.len(), |end| end + 1);
        }
        let Some(end) = end else {
            self.buffer(bytes);
            return bytes.len();
        };
        let ends_well = end.checked_sub(1).map_or(self.last, |before| bytes[before]) == b'\r';
        if !ends_well && self.at != Position::Size {
            bytes[end] = 0;
        }
        let is_long = self.come + end > MAX_BUFFERED_LINE;
        let is_refused = if self.line.is_empty() {
            self.take_line(&bytes[..end], is_long)
        } else {
            self.buffer(&bytes[..end]);
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, is_long)
        };
        if is_refused {
            bytes[end] = 0;
        }
        (self.last, self.come) = (0, 0);
        end + 1
    }

    fn buffer(&mut self, bytes: &[u8]) {
        let room = MAX_BUFFERED_LINE.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
        self.come += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// Takes a line, up to its LF, and goes on behind it. Returns true for a length that may lie behind the parsed part
    /// of a long line.
    fn take_line(&mut self, line: &[u8], is_long: bool) -> bool {
        let start = &line[..line.len().min(MAX_BUFFERED_LINE)];
        let is_refused = is_long
            && match self.at {
                Position::Head => {
                    [&b"content-length:"[..], b"transfer-encoding:"].iter().any(|name| field(line, name).is_some())
                }
                Position::Size => start.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace()),
                _ => false,
            };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.at {
            // Empty lines before a request are passed over.
            Position::Head if line.is_empty() && !self.has_begun => {}
            Position::Head if line.is_empty() => {
                let body = match (self.is_chunked, self.length) {
                    (true, _) => Position::Size,
                    (false, 0) => Position::Head,
                    (false, length) => Position::Body(length),
                };
                *self = Self { at: body, head: self.head, ..Self::default() };
            }
            Position::Head => {
                self.has_begun = true;
                match line.first().map(u8::to_ascii_lowercase) {
                    Some(b'c') => {
                        if let Some(value) = field(line, b"content-length:") {
                            self.length = number(value, 10);
                        }
                    }
                    Some(b't') => self.is_chunked |= field(line, b"transfer-encoding:").is_some(),
                    _ => {}
                }
            }
            Position::Size => {
                self.at = match number(line, 16) {
                    0 => Position::Trailers,
                    // The chunk's data ends with a line end of two bytes.
                    size => Position::Chunk(size.saturating_add(2)),
                };
            }
            Position::Trailers if line.is_empty() => self.at = Position::Head,
            Position::Trailers | Position::Body(_) | Position::Chunk(_) => {}
        }
        is_refused
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (begin, value) = line.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then_some(value)
}

/// Returns the number at the beginning. hyper refuses text that is none, or one that is too large.
fn number(text: &[u8], base: u32) -> u64 {
    let digits = text.trim_ascii_start().iter().map_while(|byte| char::from(*byte).to_digit(base));
    digits.fold(0, |number: u64, digit| number.saturating_mul(base.into()).saturating_add(digit.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three requests, one behind the other.
    const GOOD: &str = "\r\nPOST / HTTP/1.1\r\nhost: a\r\nContent-Length: 7\r\n\r\na\nb\n\ncd\
        POST / HTTP/1.1\r\nTransfer-encoding:chunked\r\n\r\n3;x=y\r\n\n\n\n\r\nA\r\n123456789\n\r\n0\r\nx: y\r\n\r\n\
        GET / HTTP/1.1\r\n\r\n";

    fn followed(text: &str, piece: usize) -> String {
        let (mut bytes, mut framing) = (text.as_bytes().to_vec(), Framing::default());
        bytes.chunks_mut(piece).for_each(|piece| framing.follow(piece));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn requests_stay_as_they_are_in_whatever_pieces_they_come() {
        for piece in 1..GOOD.len() {
            assert_eq!(followed(GOOD, piece), GOOD, "{piece}");
        }
    }

    #[test]
    fn a_line_of_a_head_that_ends_in_a_bare_lf_is_no_line_any_more() {
        let heads = GOOD.match_indices("\r\n").filter(|(at, _)| {
            let before = &GOOD[..*at];
            // hyper itself checks the ends of the lines between and behind chunks.
            !before.contains("chunked\r\n\r\n") || before.ends_with("x: y") || before.contains("GET")
        });
        for (at, _) in heads {
            let bad = format!("{}{}", &GOOD[..at], &GOOD[at + 1..]);
            let wanted = format!("{}\0{}", &GOOD[..at], &GOOD[at + 2..]);
            for piece in [1, 2, 3, 7, bad.len()] {
                let got = followed(&bad, piece);
                assert_eq!(got[..=at], wanted[..=at], "{piece}");
            }
        }
    }

    // Spaces before a number, or zeros, longer than what is kept of a line: in two pieces the length was read as 0, and
    // the body as heads.
    #[test]
    fn a_length_behind_the_parsed_part_of_a_line_is_refused_in_whatever_pieces_it_comes() {
        for line in [
            format!("content-length:{}3", " ".repeat(150)),
            format!("Content-Length: {}3", "0".repeat(150)),
            format!("transfer-encoding:{}chunked", " ".repeat(150)),
        ] {
            let request = format!("POST / HTTP/1.1\r\n{line}\r\n\r\na\nb");
            for piece in [1, 7, 100, request.len()] {
                assert!(followed(&request, piece).contains('\0'), "{line} {piece}");
            }
        }
        let chunked =
            |line: &str| format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{line}\r\na\nb\r\n0\r\n\r\n");
        let (bad, good) = (chunked(&format!("{}3", "0".repeat(130))), chunked(&format!("3;x={}", "y".repeat(200))));
        for piece in [1, 7, 100, bad.len()] {
            assert!(followed(&bad, piece).contains('\0'), "{piece}");
            assert_eq!(followed(&good, piece), good, "{piece}");
        }
    }

    #[test]
    fn a_head_is_as_long_as_what_has_come_of_it_until_the_next_begins() {
        let head = "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n";
        for piece in [1, 5, 100] {
            let (mut framing, mut bytes) = (Framing::default(), format!("{head}abcGET").into_bytes());
            let (first, rest) = bytes.split_at_mut(20);
            first.chunks_mut(piece).for_each(|piece| framing.follow(piece));
            assert_eq!(framing.head(), 20);
            let (rest, next) = rest.split_at_mut(head.len() + 3 - 20);
            rest.chunks_mut(piece).for_each(|piece| framing.follow(piece));
            assert_eq!(framing.head(), head.len());
            next.chunks_mut(piece).for_each(|piece| framing.follow(piece));
            assert_eq!(framing.head(), 3);
        }
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        for (text, number_of) in [("", 0), (" 12x", 12), ("-5", 0), ("99999999999999999999999", u64::MAX)] {
            assert_eq!(number(text.as_bytes(), 10), number_of, "{text}");
        }
    }
}
