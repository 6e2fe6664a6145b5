//! The stream between hyper and a caller.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use steadfast_internal::gather::{SHORT, gather};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Framing;
use crate::limits::memory::{FREE_BODY, Memory, Reservation};

/// A connection that can take bytes back, and that gives hyper's own refusals a body.
///
/// hyper refuses by itself what is not HTTP, with a status and nothing else. Clients show the message in an error's
/// body to their users, so the socket adds one on the way out.
pub(crate) struct Socket<S> {
    stream: S,
    /// Bytes that were read ahead.
    ahead: BytesMut,
    /// The rest of a refusal that replaces hyper's own.
    refusal: Option<Bytes>,
    framing: Framing,
    /// The memory for long heads.
    memory: Option<Arc<Memory>>,
    /// The last head's reservation in it.
    head: Option<Reservation>,
}

impl<S> Socket<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, ahead: BytesMut::new(), refusal: None, framing: Framing::default(), memory: None, head: None }
    }

    /// Limits long heads to this memory.
    pub(crate) fn with_head_memory(mut self, memory: &Arc<Memory>) -> Self {
        self.memory = Some(memory.clone());
        self
    }

    /// Returns true if the memory had no room for a head.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.memory.is_some() && self.framing.head() > FREE_BODY && self.head.is_none()
    }

    /// Reserves memory for a head that is longer than the connection's own buffer. The connection keeps it as long as
    /// the request.
    fn reserve_head(&mut self) -> io::Result<()> {
        let head = self.framing.head();
        if head <= FREE_BODY {
            self.head = None;
        } else if let Some(memory) = &self.memory {
            let mut reservation = self.head.take().unwrap_or_else(|| memory.reservation(None));
            reservation.grow(head).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.head = Some(reservation);
        }
        Ok(())
    }

    /// Returns the stream, and the bytes that were read ahead of it.
    pub(crate) fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.ahead)
    }

    /// Takes back the bytes that were read after a whole request.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.framing = Framing::default();
        if !bytes.is_empty() {
            self.ahead = [bytes, &self.ahead].concat().as_slice().into();
        }
    }
}

impl<S: AsyncRead + Unpin> Socket<S> {
    /// Waits until bytes arrive. Returns false if none will come any more.
    pub(crate) async fn wait_readable(&mut self) -> bool {
        !self.ahead.is_empty() || poll_fn(|cx| self.poll_ahead::<4096>(cx)).await.is_ok()
    }

    /// Completes once the caller has disconnected. Keeps the bytes that arrive until then, up to a limit; beyond it a
    /// disconnect goes unnoticed.
    pub(crate) fn poll_disconnect(&mut self, limit: usize, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.ahead.len() < limit {
            if let Err(left) = ready!(self.poll_ahead::<512>(cx)) {
                return Poll::Ready(left);
            }
        }
        Poll::Pending
    }

    /// Reads to the end and discards the bytes.
    pub(crate) async fn discard(&mut self) {
        while poll_fn(|cx| self.poll_ahead::<4096>(cx)).await.is_ok() {
            self.ahead.clear();
        }
    }

    /// Reads the bytes that have arrived; takes no memory if there are none.
    fn poll_ahead<const MOST: usize>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); MOST];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.ahead.extend_from_slice(read.filled());
        Poll::Ready(if read.filled().is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, into))?;
        } else {
            let length = this.ahead.len().min(into.remaining());
            into.put_slice(&this.ahead.split_to(length));
            if this.ahead.is_empty() {
                this.ahead = BytesMut::new();
            }
        }
        this.framing.follow(&mut into.filled_mut()[before..]);
        Poll::Ready(this.reserve_head())
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Writes a refusal with a body if these bytes are hyper's bare one, and then counts them as written.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<bool>> {
        if self.refusal.is_none() {
            self.refusal = PlainRefusal::of(bytes).map(PlainRefusal::response);
        }
        let Some(bytes_left) = &mut self.refusal else { return Poll::Ready(Ok(false)) };
        while !bytes_left.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes_left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => bytes_left.advance(written),
            }
        }
        self.refusal = None;
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match ready!(this.poll_refusal(cx, bytes))? {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut this.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // The head is in the first slice.
        let first = slices.first().map_or(&[][..], |slice| &**slice);
        match ready!(this.poll_refusal(cx, first))? {
            true => Poll::Ready(Ok(first.len())),
            false => match gather(slices, &mut [0; SHORT]) {
                Some(bytes) => Pin::new(&mut this.stream).poll_write(cx, bytes),
                None => Pin::new(&mut this.stream).poll_write_vectored(cx, slices),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A refusal before the path, and so the dialect, is known. It reads as an error in either dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlainRefusal {
    status: &'static str,
    /// An additional header, with its line end.
    header: &'static str,
    kind: &'static str,
    message: &'static str,
}

impl PlainRefusal {
    pub(crate) const FULL: Self = Self {
        status: "503 Service Unavailable",
        header: "retry-after: 1\r\n",
        kind: "overloaded_error",
        message: "the gateway has no connection left (`gateway.connections`, `gateway.memory`)",
    };
    pub(crate) const TOO_SLOW: Self =
        Self::invalid("408 Request Timeout", "the head of the request did not come in time");
    const NO_HTTP: Self = Self::invalid("400 Bad Request", "the request is not valid HTTP/1.1");
    const TOO_LONG: Self =
        Self::invalid("431 Request Header Fields Too Large", "the head of the request is over the gateway's limit");
    const URI_TOO_LONG: Self = Self::invalid("414 URI Too Long", "the path of the request is over the gateway's limit");

    const fn invalid(status: &'static str, message: &'static str) -> Self {
        Self { status, header: "", kind: "invalid_request_error", message }
    }

    /// Returns the refusal that hyper wrote. The gateway's own refusals always have a body, so only hyper's match.
    fn of(head: &[u8]) -> Option<Self> {
        let rest = head.strip_prefix(b"HTTP/1.1 4")?;
        let is_bare = rest.windows(EMPTY_BODY.len()).any(|part| part == EMPTY_BODY);
        let of = [Self::NO_HTTP, Self::TOO_LONG, Self::URI_TOO_LONG];
        of.into_iter().find(|refusal| is_bare && rest.starts_with(&refusal.status.as_bytes()[1..3]))
    }

    /// Returns the whole response. The connection ends after it.
    pub(crate) fn response(self) -> Bytes {
        let Self { status, header, kind, message } = self;
        let body =
            format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}","param":null,"code":null}}}}"#);
        let head = "content-type: application/json\r\nconnection: close\r\n";
        format!("HTTP/1.1 {status}\r\n{header}{head}content-length: {}\r\n\r\n{body}", body.len()).into()
    }
}

const EMPTY_BODY: &[u8] = b"\r\ncontent-length: 0\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn a_refusal_is_a_whole_response() {
        for refusal in [
            PlainRefusal::FULL,
            PlainRefusal::TOO_SLOW,
            PlainRefusal::NO_HTTP,
            PlainRefusal::TOO_LONG,
            PlainRefusal::URI_TOO_LONG,
        ] {
            let response = String::from_utf8(refusal.response().into()).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{response}");
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(body["type"] == "error" && body["error"]["message"].is_string(), "{response}");
        }
    }

    #[tokio::test]
    async fn hypers_bare_refusal_gets_words_however_slowly_they_are_taken() {
        let (ours, mut theirs) = duplex(7);
        let mut socket = Socket::new(ours);
        let writing = async move {
            socket
                .write_all(b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
        };
        let mut read = String::new();
        let (_, read_to_end) = tokio::join!(writing, theirs.read_to_string(&mut read));
        read_to_end.unwrap();
        assert_eq!(read.as_bytes(), PlainRefusal::TOO_LONG.response());
    }

    #[tokio::test]
    async fn all_else_goes_out_as_it_is() {
        for text in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "4",
        ] {
            let (ours, mut theirs) = duplex(1024);
            Socket::new(ours).write_all(text.as_bytes()).await.unwrap();
            let mut read = String::new();
            theirs.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, text);
        }
    }

    #[tokio::test]
    async fn a_short_response_goes_out_in_one_write() {
        // It takes one slice at a time.
        let mut socket = Socket::new(tokio_test::io::Builder::new().write(b"headbody").write(b"head").build());
        let long = [7; SHORT];
        for (body, expected) in [(&b"body"[..], 8), (&long, 4)] {
            assert_eq!(socket.write_vectored(&[b"head", body].map(io::IoSlice::new)).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_was_read_too_early_is_read_again_and_first() {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(b"third").await.unwrap();
        drop(theirs);
        let mut socket = Socket::new(ours);
        socket.put_back(b"second ");
        socket.put_back(b"first ");
        let mut read = String::new();
        socket.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "first second third");
    }
}
