use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    http::ByteStream,
    limits::memory::{FREE_BODY, Reservation},
};

/// The bytes of a socket, whose message under way is a part of the gateway's memory.
pub(super) struct MeteredStream {
    stream: Box<dyn ByteStream>,
    /// The bytes that had arrived before.
    ahead: Bytes,
    /// The bytes since the last whole message.
    unsettled: usize,
    memory: Reservation,
    new_memory: Box<dyn Fn() -> Reservation + Send>,
}

impl MeteredStream {
    pub(super) fn new(
        stream: Box<dyn ByteStream>,
        ahead: Bytes,
        new_memory: impl Fn() -> Reservation + Send + 'static,
    ) -> Self {
        Self { stream, ahead, unsettled: 0, memory: new_memory(), new_memory: Box::new(new_memory) }
    }

    /// Gives back the memory of a message that has been read.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) > FREE_BODY {
            self.memory = (self.new_memory)();
        }
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, into))?;
        } else {
            let length = this.ahead.len().min(into.remaining());
            into.put_slice(&this.ahead[..length]);
            this.ahead.advance(length);
        }
        this.unsettled += into.filled().len() - before;
        if this.unsettled > FREE_BODY {
            this.memory.grow(this.unsettled).map_err(|_| io::ErrorKind::OutOfMemory)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
