use std::{collections::VecDeque, error, fmt, ops::Range};

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr2, memchr2_iter};

use super::{SseEvent, event::Data};

/// Cuts a stream of bytes into events. See the module docs.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The start of an event that began in an earlier piece.
    carry: BytesMut,
    /// The present piece; returned events have been cut off its front.
    piece: Bytes,
    /// Pieces pushed while `piece` was not yet used up.
    later: VecDeque<Bytes>,
    /// The number of bytes of `piece` that have been scanned.
    scanned: usize,
    /// The event under construction. Its positions count from its first byte, in `carry` and then in `piece`.
    block: Block,
    /// The end of the line before the position, across events.
    before: LineEnd,
    /// True until the first event: a byte order mark may be ahead.
    at_start: bool,
    failed: bool,
}

/// The known parts of the event under construction.
#[derive(Debug, Default)]
struct Block {
    line_start: usize,
    event: Option<Range<usize>>,
    /// The value of the first `data` line.
    data: Option<Range<usize>>,
    /// True if there were more `data` lines, so that the value has to be joined.
    more_data: bool,
    has_fields: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// LF, or CR and LF.
    Complete,
    /// CR, and the next byte is not an LF.
    BareCr,
    /// CR at this position of the block; the next byte tells if the line end is longer.
    CrAt(usize),
    /// The CR that ended the last event. An LF that comes next belongs to that blank line, but the event was not held
    /// back for it.
    CrOfLastEvent,
}

impl Decoder {
    /// Creates a decoder that refuses events of more than `limit` bytes, counted as on the wire.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            carry: BytesMut::new(),
            piece: Bytes::new(),
            later: VecDeque::new(),
            scanned: 0,
            block: Block::default(),
            before: LineEnd::Complete,
            at_start: true,
            failed: false,
        }
    }

    /// Adds the next piece of the stream, cut anywhere.
    ///
    /// Call [`next_event`](Self::next_event) until it returns `None` before the next push: unread pieces are kept, and
    /// do not count against the limit.
    pub fn push(&mut self, piece: Bytes) {
        // A stream that has failed yields nothing more.
        if piece.is_empty() || self.failed {
            return;
        }
        if self.piece.is_empty() {
            self.piece = piece;
        } else {
            self.later.push_back(piece);
        }
    }

    /// Returns the next whole event, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`TooLong`] if the event under construction exceeds the limit; then for ever, because later events cannot be
    /// told apart.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, TooLong> {
        if self.failed {
            return Err(self.too_long());
        }
        loop {
            let end = self.scan();
            let size = self.carry.len().saturating_add(self.scanned);
            if size > self.limit {
                return Err(self.too_long());
            }
            if end {
                let raw = if self.carry.is_empty() {
                    self.piece.split_to(self.scanned)
                } else {
                    self.carry.extend_from_slice(&self.piece[..self.scanned]);
                    self.piece.advance(self.scanned);
                    std::mem::take(&mut self.carry).freeze()
                };
                self.scanned = 0;
                self.at_start = false;
                self.refill();
                return Ok(Some(std::mem::take(&mut self.block).into_event(raw)));
            }
            if self.later.is_empty() && self.piece.is_empty() {
                return Ok(None);
            }
            self.carry.extend_from_slice(&self.piece);
            self.piece = Bytes::new();
            self.scanned = 0;
            self.refill();
        }
    }

    /// Returns the bytes after the last blank line as an event; `None` if there are none.
    ///
    /// Call it when the stream has ended and [`next_event`](Self::next_event) has no more.
    ///
    /// # Errors
    ///
    /// [`TooLong`], as above.
    pub fn finish(&mut self) -> Result<Option<SseEvent>, TooLong> {
        if let Some(event) = self.next_event()? {
            return Ok(Some(event));
        }
        if self.carry.is_empty() {
            return Ok(None);
        }
        // `next_event` has moved everything into `carry`.
        let end = match self.before {
            LineEnd::CrAt(at) => at,
            _ => self.carry.len(),
        };
        self.end_line(end, self.carry.len());
        self.before = LineEnd::Complete;
        self.at_start = false;
        let raw = std::mem::take(&mut self.carry).freeze();
        Ok(Some(std::mem::take(&mut self.block).into_event(raw)))
    }

    /// Returns the number of bytes held of an unfinished event.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.later.iter().fold(self.carry.len() + self.piece.len(), |sum, piece| sum.saturating_add(piece.len()))
    }

    /// Scans to the end of the event (true) or of the piece (false).
    fn scan(&mut self) -> bool {
        while let Some(&next) = self.piece.get(self.scanned) {
            match self.before {
                LineEnd::CrOfLastEvent => {
                    self.before = LineEnd::BareCr;
                    if next == b'\n' {
                        self.before = LineEnd::Complete;
                        self.scanned += 1;
                        self.block.line_start = self.carry.len() + self.scanned;
                    }
                }
                LineEnd::CrAt(at) => {
                    self.before = LineEnd::BareCr;
                    if next == b'\n' {
                        self.before = LineEnd::Complete;
                        self.scanned += 1;
                    }
                    if self.end_line(at, self.carry.len() + self.scanned) {
                        return true;
                    }
                }
                LineEnd::Complete | LineEnd::BareCr => {
                    // Every event ends with an empty line: no search is needed to find that end.
                    let found = match next {
                        b'\n' | b'\r' => Some(0),
                        _ => memchr2(b'\n', b'\r', &self.piece[self.scanned..]),
                    };
                    let Some(found) = found else {
                        self.scanned = self.piece.len();
                        return false;
                    };
                    let at = self.carry.len() + self.scanned + found;
                    self.scanned += found + 1;
                    if self.piece[self.scanned - 1] == b'\r' {
                        // In a stream with bare CRs, waiting for a possible LF would hold each event back until the
                        // next one.
                        if self.before == LineEnd::BareCr && self.is_blank(at) {
                            self.before = LineEnd::CrOfLastEvent;
                            return true;
                        }
                        self.before = LineEnd::CrAt(at);
                    } else {
                        self.before = LineEnd::Complete;
                        if self.end_line(at, at + 1) {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// Records the line that ends before `end`. Returns true if it is the blank one that ends the event.
    fn end_line(&mut self, end: usize, next_line: usize) -> bool {
        if self.is_blank(end) {
            return true;
        }
        let start = self.line_start();
        let (head, length) = self.head(start, end);
        self.block.line_start = next_line;
        let Some((field, value)) = Field::of(&head, length) else {
            return false;
        };
        let value = start + value..end;
        self.block.has_fields = true;
        match field {
            Field::Data if self.block.data.is_some() => self.block.more_data = true,
            Field::Data => self.block.data = Some(value),
            Field::Event => self.block.event = Some(value),
            Field::Other => {}
        }
        false
    }

    fn is_blank(&self, end: usize) -> bool {
        self.line_start() >= end
    }

    /// Returns the start of the line, behind the byte order mark if it is the first one of the stream.
    fn line_start(&self) -> usize {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        let start = self.block.line_start;
        let marked =
            self.at_start && start == 0 && MARK.iter().enumerate().all(|(at, byte)| self.byte(at) == Some(*byte));
        if marked { MARK.len() } else { start }
    }

    /// Returns the first bytes of a line, and its length: enough to know its field.
    fn head(&self, start: usize, end: usize) -> ([u8; 8], usize) {
        let mut head = [0; 8];
        let length = end - start;
        let known = length.min(head.len());
        if let Some(from) = start.checked_sub(self.carry.len()) {
            head[..known].copy_from_slice(&self.piece[from..from + known]);
        } else {
            for (at, byte) in head[..known].iter_mut().enumerate() {
                *byte = self.byte(start + at).unwrap_or_default();
            }
        }
        (head, length)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        match at.checked_sub(self.carry.len()) {
            None => self.carry.get(at).copied(),
            Some(at) => self.piece.get(at).copied(),
        }
    }

    fn refill(&mut self) {
        if self.piece.is_empty() {
            self.piece = self.later.pop_front().unwrap_or_default();
        }
    }

    fn too_long(&mut self) -> TooLong {
        self.failed = true;
        self.carry = BytesMut::new();
        self.piece = Bytes::new();
        self.later = VecDeque::new();
        TooLong { limit: self.limit }
    }
}

impl Block {
    fn into_event(self, raw: Bytes) -> SseEvent {
        let data = match self.data {
            Some(first) if self.more_data => Data::Joined(join_data(&raw, first)),
            Some(place) => Data::One(place),
            None => Data::None,
        };
        SseEvent { event: self.event.unwrap_or_default(), data, has_fields: self.has_fields, raw }
    }
}

/// Joins the values of all `data` lines with LF. A second pass over the event, for the few that have several.
fn join_data(raw: &[u8], first: Range<usize>) -> Bytes {
    let mut joined = BytesMut::with_capacity(raw.len() - first.start);
    joined.extend_from_slice(&raw[first.clone()]);
    let rest = &raw[first.end..];
    let mut start = 0;
    for end in memchr2_iter(b'\n', b'\r', rest).chain([rest.len()]) {
        let line = &rest[start..end];
        let mut head = [0; 8];
        let known = line.len().min(head.len());
        head[..known].copy_from_slice(&line[..known]);
        if let Some((Field::Data, value)) = Field::of(&head, line.len()) {
            joined.extend_from_slice(b"\n");
            joined.extend_from_slice(&line[value..]);
        }
        // The empty line between CR and LF has no field and does no harm.
        start = end.saturating_add(1).min(rest.len());
    }
    joined.freeze()
}

#[derive(Clone, Copy)]
enum Field {
    Data,
    Event,
    Other,
}

impl Field {
    /// Returns the field of a line and the start of its value; `None` for a comment or an empty line.
    fn of(head: &[u8; 8], length: usize) -> Option<(Self, usize)> {
        let (field, name) = match head {
            _ if length == 0 => return None,
            [b':', ..] => return None,
            [b'd', b'a', b't', b'a', next, ..] if length == 4 || *next == b':' => (Self::Data, 4),
            [b'e', b'v', b'e', b'n', b't', next, ..] if length == 5 || *next == b':' => (Self::Event, 5),
            _ => return Some((Self::Other, length)),
        };
        let space = usize::from(head[name + 1] == b' ' && length > name + 1);
        Some((field, (name + 1 + space).min(length)))
    }
}

/// The error for an event over the limit of its [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    limit: usize,
}

impl TooLong {
    /// The limit, in bytes.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of the stream is longer than the limit of {} bytes", self.limit)
    }
}

impl error::Error for TooLong {}
