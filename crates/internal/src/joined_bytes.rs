//! Pieces of bytes that become one.

use bytes::{Bytes, BytesMut};

/// The pieces of a body that came so far. A lone piece is never copied.
#[derive(Debug, Default)]
pub struct JoinedBytes {
    first: Bytes,
    /// All pieces, once there are two.
    more: BytesMut,
}

impl JoinedBytes {
    /// Returns the bytes that are there.
    #[inline]
    pub fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// Returns true as long as nothing came.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.more.is_empty()
    }

    /// Returns the room to have for so many bytes in all, if there is less. `announced` saves copies; it is trusted up
    /// to twice the bytes that came.
    #[inline]
    pub fn growth(&self, length: usize, announced: Option<usize>) -> Option<usize> {
        let room = announced.unwrap_or(usize::MAX).min(2 * length).max(length);
        (self.more.capacity() < length).then_some(room)
    }

    /// Adds a piece.
    #[inline]
    pub fn push(&mut self, piece: Bytes, announced: Option<usize>) {
        if self.is_empty() {
            self.first = piece;
            return;
        }
        if let Some(room) = self.growth(self.len() + piece.len(), announced) {
            self.more.reserve(room - self.more.len());
        }
        self.more.extend_from_slice(&std::mem::take(&mut self.first));
        self.more.extend_from_slice(&piece);
    }

    /// Returns all pieces as one.
    #[inline]
    pub fn join(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&'static [u8]], announced: Option<usize>) -> Bytes {
        let mut joined = JoinedBytes::default();
        for (at, piece) in pieces.iter().enumerate() {
            assert_eq!(joined.is_empty(), pieces[..at].concat().is_empty());
            joined.push(Bytes::from_static(piece), announced);
            assert_eq!(joined.len(), pieces[..=at].concat().len());
        }
        joined.join()
    }

    #[test]
    fn pieces_become_one_in_their_order() {
        let cases: [&[&[u8]]; 5] = [&[], &[b""], &[b"", b"a"], &[b"a", b"", b"bc"], &[b"one", b"two", b"three"]];
        for pieces in cases {
            for announced in [None, Some(0), Some(11), Some(usize::MAX)] {
                assert_eq!(joined(pieces, announced), pieces.concat());
            }
        }
    }

    #[test]
    fn a_lone_piece_is_not_copied() {
        let piece = Bytes::from_static(b"lone");
        let mut joined = JoinedBytes::default();
        joined.push(piece.clone(), None);
        assert_eq!(joined.join().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn an_announced_length_is_room_as_far_as_it_is_believed() {
        let joined = JoinedBytes::default();
        assert_eq!(joined.growth(10, Some(15)), Some(15));
        assert_eq!(joined.growth(10, Some(1 << 40)), Some(20));
        assert_eq!(joined.growth(10, Some(3)), Some(10));
        assert_eq!(joined.growth(10, None), Some(20));
    }
}
