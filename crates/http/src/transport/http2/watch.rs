//! The facts of a connection that its task, its socket and its calls share.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::{sync::Notify, time::Instant};

use super::question::ASKED_EVERY;
use crate::{
    internal::sync::{Mutex, lock},
    transport::{connect::RoutedStream, maybe_tls::MaybeTls},
};

/// The facts of a connection that its task, its socket and its calls share.
#[derive(Debug)]
pub(super) struct Watch {
    /// The times that something was read, or that the other side made room for what waited to be written.
    signs: AtomicUsize,
    /// The streams that the server allows, or [`UNKNOWN`].
    pub(super) streams: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
    /// True if a call has come since the last question.
    has_new_call: AtomicBool,
    question: Mutex<Option<Question>>,
    pub(super) has_ended: AtomicBool,
    pub(super) end: Mutex<Option<hyper::Error>>,
    /// Wakes the connection's task.
    pub(super) task: AtomicWaker,
    /// Wakes the one who waits for the settings.
    pub(super) changed: Notify,
}

/// A question if the connection lives.
#[derive(Clone, Copy, Debug)]
struct Question {
    asked: Instant,
    /// The signs of life until then.
    signs: usize,
}

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            signs: AtomicUsize::new(0),
            streams: AtomicUsize::new(UNKNOWN),
            in_flight: AtomicUsize::new(0),
            has_new_call: AtomicBool::new(false),
            question: Mutex::default(),
            has_ended: AtomicBool::new(false),
            end: Mutex::default(),
            task: AtomicWaker::new(),
            changed: Notify::new(),
        })
    }

    /// Returns the number of signs of life.
    pub(super) fn signs(&self) -> usize {
        self.signs.load(Relaxed)
    }

    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.has_new_call.store(true, Relaxed);
    }

    pub(super) fn learn(&self, streams: usize) {
        if self.streams.swap(streams, Relaxed) != streams {
            self.changed.notify_one();
        }
    }

    /// Learns that the connection is asked if it lives.
    pub(super) fn asked(&self, now: Instant) {
        self.has_new_call.store(false, Relaxed);
        *lock(&self.question) = Some(Question { asked: now, signs: self.signs() });
    }

    /// Returns the time of the next question, if it has one.
    pub(super) fn may_ask(&self) -> Option<Instant> {
        if self.has_new_call.load(Relaxed) {
            return None;
        }
        lock(&self.question).map(|question| question.asked + ASKED_EVERY)
    }

    /// Returns the time of the question that nothing has answered.
    pub(super) fn unanswered(&self) -> Option<Instant> {
        lock(&self.question).filter(|question| question.signs == self.signs()).map(|question| question.asked)
    }
}

/// A stream that counts the signs of life.
pub(super) struct Watched {
    stream: MaybeTls<RoutedStream>,
    watch: Arc<Watch>,
    /// True if something was read that the task has not looked at.
    is_fresh: bool,
    /// True if the system has no room for more.
    is_full: bool,
}

impl Watched {
    pub(super) fn new(stream: MaybeTls<RoutedStream>, watch: Arc<Watch>) -> Self {
        Self { stream, watch, is_fresh: false, is_full: false }
    }

    /// Learns from a write. Room comes as the other side confirms what it has got.
    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() {
            self.is_full = true;
        } else if std::mem::take(&mut self.is_full) {
            self.watch.signs.fetch_add(1, Relaxed);
        }
        written
    }
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.watch.signs.fetch_add(1, Relaxed);
            self.is_fresh = true;
        } else if std::mem::take(&mut self.is_fresh) {
            // Only now hyper has processed what was read before.
            self.watch.task.wake();
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(written)
    }
}

/// Stands for a limit of streams before the server's settings. No server's limit: theirs have 32 bits.
pub(super) const UNKNOWN: usize = usize::MAX - 1;
