//! AWS's binary event stream, `application/vnd.amazon.eventstream`.
//!
//! A message is a prelude (its length, the length of its headers, their checksum), typed headers, a payload, and a
//! checksum of all before it. [`Decoder`] cuts messages out of bytes in any pieces.
//!
//! Source: "Event Stream Specification" of Smithy.

mod checksum;
mod message;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};

use self::checksum::crc32;
pub use self::message::{HeaderValue, Message, encode};

/// The bytes of a prelude: two lengths and their checksum.
const PRELUDE: usize = 12;
/// The bytes of a message around its headers and its payload.
const FRAME: usize = PRELUDE + 4;
/// The longest message by default, in bytes: AWS's limit for a payload, which is far above what a model's event takes.
pub const MAX_MESSAGE: usize = 16 << 20;

/// Cuts messages out of the bytes of an event stream.
///
/// It reads each byte a bounded number of times. A message that comes in one piece is not copied. It holds no more than
/// the pieces that were pushed and not yet read, and at most one message that is incomplete.
pub struct Decoder {
    pieces: VecDeque<Bytes>,
    /// The beginning of a message that is spread over pieces.
    held: BytesMut,
    /// The lengths of the current message, checked.
    prelude: Option<Prelude>,
    /// The place of the current message in the stream.
    at: u64,
    limit: usize,
    damage: Option<Damage>,
}

impl fmt::Debug for Decoder {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, limit, damage, .. } = self;
        let (buffered, prelude) = (self.buffered(), &self.prelude);
        f.debug_struct("Decoder")
            .field("at", at)
            .field("prelude", prelude)
            .field("buffered", &buffered)
            .field("limit", limit)
            .field("damage", damage)
            .finish()
    }
}

#[derive(Clone, Copy, Debug)]
struct Prelude {
    total: usize,
    headers: usize,
}

/// The damage of an event stream, and its place: nothing behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The kind of damage.
    pub kind: DamageKind,
    /// The place of the damaged field, in bytes from the beginning of the stream.
    pub at: u64,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The checksum of a prelude is another.
    PreludeChecksum,
    /// The checksum of a message is another.
    MessageChecksum,
    /// A message is shorter than its headers and its frame.
    Length,
    /// A message is longer than the limit.
    TooLong {
        /// The message's length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A header has no name, an unknown type, or a text that is not UTF-8, or it reaches beyond the headers.
    Header,
    /// The stream ends within a message.
    Cut,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event stream is damaged: ")?;
        match self.kind {
            DamageKind::PreludeChecksum => f.write_str("the prelude's checksum does not match")?,
            DamageKind::MessageChecksum => f.write_str("the message's checksum does not match")?,
            DamageKind::Length => f.write_str("a message is shorter than its headers")?,
            DamageKind::TooLong { length, limit } => {
                write!(f, "a message of {length} bytes is longer than the limit of {limit}")?;
            }
            DamageKind::Header => f.write_str("a header is malformed")?,
            DamageKind::Cut => f.write_str("it ends within a message")?,
        }
        write!(f, ", at byte {}", self.at)
    }
}

impl std::error::Error for Damage {}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_MESSAGE)
    }
}

impl Decoder {
    /// Creates a decoder of messages up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { pieces: VecDeque::new(), held: BytesMut::new(), prelude: None, at: 0, limit, damage: None }
    }

    /// Adds the next bytes of the stream. Take all messages before the next piece: then no more is held than a piece.
    pub fn push(&mut self, piece: Bytes) {
        if self.damage.is_none() && !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Returns the next message; `None` until all its bytes have been pushed.
    ///
    /// # Errors
    ///
    /// The stream is damaged. A damaged decoder keeps nothing, and fails for ever.
    pub fn next_message(&mut self) -> Result<Option<Message>, Damage> {
        if let Some(damage) = self.damage {
            return Err(damage);
        }
        let read = self.read();
        if let Err(damage) = read {
            *self = Self { damage: Some(damage), at: self.at, ..Self::new(self.limit) };
        }
        read
    }

    /// Checks that the stream ends between two messages. Call it behind the last piece, when all messages are taken.
    ///
    /// # Errors
    ///
    /// The stream was damaged, or ends within a message.
    pub fn finish(&self) -> Result<(), Damage> {
        match self.damage {
            Some(damage) => Err(damage),
            None if self.buffered() == 0 => Ok(()),
            None => Err(Damage { kind: DamageKind::Cut, at: self.at + self.buffered() as u64 }),
        }
    }

    /// Returns the number of bytes that are held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.held.len() + self.pieces.iter().map(Bytes::len).sum::<usize>()
    }

    fn read(&mut self) -> Result<Option<Message>, Damage> {
        let Some(prelude) = self.prelude()? else { return Ok(None) };
        if self.first(prelude.total).is_none() {
            return Ok(None);
        }
        let mut payload = self.take(prelude.total);
        let at = self.at;
        let end = payload.len() - 4;
        if crc32(&payload[..end]).to_be_bytes() != payload[end..] {
            return Err(Damage { kind: DamageKind::MessageChecksum, at: at + end as u64 });
        }
        payload.truncate(end);
        let headers = payload.split_to(PRELUDE + prelude.headers).split_off(PRELUDE);
        let mut rest = &headers[..];
        while !rest.is_empty() {
            let place = at + (PRELUDE + headers.len() - rest.len()) as u64;
            let Some((_, _, behind)) = message::header(rest) else {
                return Err(Damage { kind: DamageKind::Header, at: place });
            };
            rest = behind;
        }
        self.prelude = None;
        self.at = at + prelude.total as u64;
        Ok(Some(Message { headers, payload }))
    }

    /// Returns the lengths of the current message, once they are there.
    fn prelude(&mut self) -> Result<Option<Prelude>, Damage> {
        if self.prelude.is_some() {
            return Ok(self.prelude);
        }
        let (at, limit) = (self.at, self.limit);
        let Some(bytes) = self.first(PRELUDE) else { return Ok(None) };
        let number = |from: usize| {
            let bytes = [bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]];
            u32::from_be_bytes(bytes)
        };
        // A length is not believed before its checksum.
        if crc32(&bytes[..8]) != number(8) {
            return Err(Damage { kind: DamageKind::PreludeChecksum, at: at + 8 });
        }
        let (total, headers) = (number(0) as usize, number(4) as usize);
        if headers.checked_add(FRAME).is_none_or(|least| total < least) {
            return Err(Damage { kind: DamageKind::Length, at });
        }
        if total > limit {
            return Err(Damage { kind: DamageKind::TooLong { length: total, limit }, at });
        }
        self.prelude = Some(Prelude { total, headers });
        Ok(self.prelude)
    }

    /// Returns the first bytes that are unread, side by side; `None` until that many are there.
    fn first(&mut self, length: usize) -> Option<&[u8]> {
        let is_whole = self.held.is_empty() && self.pieces.front().is_some_and(|piece| piece.len() >= length);
        if is_whole {
            return self.pieces.front().map(|piece| &piece[..length]);
        }
        while self.held.len() < length {
            let piece = self.pieces.front_mut()?;
            let part = piece.split_to(piece.len().min(length - self.held.len()));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.held.extend_from_slice(&part);
        }
        Some(&self.held[..length])
    }

    /// Takes the bytes that [`first`](Self::first) has returned.
    fn take(&mut self, length: usize) -> Bytes {
        if !self.held.is_empty() {
            // No more than a message is ever moved together.
            return std::mem::take(&mut self.held).split_to(length).freeze();
        }
        let Some(piece) = self.pieces.front_mut() else { return Bytes::new() };
        let taken = piece.split_to(length);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        taken
    }
}
