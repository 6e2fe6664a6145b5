use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    http::ByteStream,
    limits::memory::{FREE_BODY, Reservation},
};

/// The bytes of a socket. A message is a part of the gateway's memory until it is settled.
pub(super) struct MeteredStream {
    stream: Box<dyn ByteStream>,
    /// The bytes since the last message that was settled.
    unsettled: usize,
    memory: Reservation,
    new_memory: Box<dyn Fn() -> Reservation + Send>,
}

impl MeteredStream {
    /// Meters a stream of which so many bytes have been read already.
    pub(super) fn new(
        stream: Box<dyn ByteStream>,
        ahead: usize,
        new_memory: impl Fn() -> Reservation + Send + 'static,
    ) -> Self {
        Self { stream, unsettled: ahead, memory: new_memory(), new_memory: Box::new(new_memory) }
    }

    /// Gives back the memory of a message that has been used.
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
        ready!(Pin::new(&mut this.stream).poll_read(cx, into))?;
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
