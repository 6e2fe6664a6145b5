use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

/// The body of a leaf's request: bytes in one or more pieces, of a known length.
///
/// A forwarded request goes out as slices of the caller's own bytes with the changes in between, so that five megabytes
/// are not copied to change a name. A transport that requires one piece takes a `Full<Bytes>` of `http_body_util`
/// instead: `HttpLeaf::transport` converts, as
/// [`into_bytes`](Self::into_bytes) does. `Debug` writes lengths only.
#[derive(Clone, Default)]
pub struct RequestBody {
    first: Bytes,
    rest: vec::IntoIter<Bytes>,
}

/// The size in bytes up to which one copy costs less than a transport's work for each further piece.
const SHORT: usize = 16 << 10;

impl RequestBody {
    /// Creates a body of these pieces. Short ones are joined.
    #[doc(hidden)]
    pub fn pieces(pieces: Vec<Bytes>) -> Self {
        let mut rest = pieces.into_iter();
        let body = Self { first: rest.next().unwrap_or_default(), rest };
        if body.len() <= SHORT { body.into_bytes().into() } else { body }
    }

    /// Returns the number of bytes still to be sent.
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.as_slice().iter().map(Bytes::len).sum::<usize>()
    }

    /// Returns the pieces still to be sent.
    #[doc(hidden)]
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(self.rest.as_slice())
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes in one piece: copied if there are several.
    pub fn into_bytes(self) -> Bytes {
        if self.rest.as_slice().is_empty() {
            return self.first;
        }
        let mut bytes = BytesMut::with_capacity(self.len());
        bytes.extend_from_slice(&self.first);
        self.rest.for_each(|piece| bytes.extend_from_slice(&piece));
        bytes.freeze()
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.first.is_empty() {
            match self.rest.next() {
                Some(piece) => self.first = piece,
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

impl<B: Into<Bytes>> From<B> for RequestBody {
    fn from(bytes: B) -> Self {
        Self { first: bytes.into(), rest: vec::IntoIter::default() }
    }
}

impl From<RequestBody> for http_body_util::Full<Bytes> {
    fn from(body: RequestBody) -> Self {
        Self::new(body.into_bytes())
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    fn long() -> RequestBody {
        RequestBody::pieces(vec![Bytes::from(vec![b'a'; SHORT]), Bytes::new(), Bytes::from_static(b"bc")])
    }

    #[tokio::test]
    async fn pieces_go_out_in_order_and_their_length_is_known_throughout() {
        let mut body = long();
        assert_eq!(body.size_hint().exact(), Some(SHORT as u64 + 2));
        let mut sent = Vec::new();
        while let Some(frame) = body.frame().await {
            sent.push(frame.unwrap().into_data().unwrap());
            let left = SHORT + 2 - sent.iter().map(Bytes::len).sum::<usize>();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(left as u64), left == 0));
        }
        assert_eq!(sent.len(), 2, "an empty piece is no frame");
        assert_eq!(sent.concat(), long().into_bytes());
    }

    #[test]
    fn long_pieces_are_the_bytes_that_came_in_and_short_ones_are_one() {
        let piece = Bytes::from(vec![b'a'; SHORT + 1]);
        let body = RequestBody::pieces(vec![piece.clone(), Bytes::from_static(b"b")]);
        assert_eq!(body.first.as_ptr(), piece.as_ptr());
        let body = RequestBody::pieces(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        assert_eq!((&body.first[..], body.rest.len()), (&b"ab"[..], 0));
        assert_eq!(RequestBody::from(piece.clone()).into_bytes().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn debug_shows_no_prompt() {
        assert!(!format!("{:?}", RequestBody::from("secret plans")).contains("secret"));
    }
}
