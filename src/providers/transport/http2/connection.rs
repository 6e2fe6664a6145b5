//! One connection, and the task that drives it.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use hyper::{
    client::conn::http2::{self, SendRequest},
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::MOST;
use crate::{
    internal::sync::{Mutex, lock},
    providers::{
        http::RequestBody,
        transport::{
            connect::RoutedStream,
            error::NoStream,
            maybe_tls::MaybeTls,
            pool::{DirectServer, SWEEP, SWEEPS},
        },
    },
};

/// An HTTP/2 connection.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) watch: Arc<Watch>,
    /// The most calls that it gets: fewer once the server refused some.
    cap: AtomicUsize,
}

/// The facts of a connection that its task, its socket and its calls share.
pub(super) struct Watch {
    /// The times that something was read.
    reads: AtomicUsize,
    /// The streams that the server allows, or [`UNKNOWN`].
    streams: AtomicUsize,
    in_flight: AtomicUsize,
    has_ended: AtomicBool,
    end: Mutex<Option<hyper::Error>>,
    /// Wakes the connection's task.
    task: AtomicWaker,
    /// Wakes the one who waits for the settings.
    changed: Notify,
}

impl Connection {
    /// Opens a connection, up to the server's settings: without them nothing is known of its streams.
    pub(super) async fn open(
        stream: MaybeTls<RoutedStream>,
        server: &Arc<DirectServer>,
        number: u64,
        expected: usize,
        (end, limit): (Instant, Duration),
    ) -> Result<Arc<Self>, NoStream> {
        let watch = Arc::new(Watch {
            reads: AtomicUsize::new(0),
            streams: AtomicUsize::new(UNKNOWN),
            in_flight: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
            end: Mutex::default(),
            task: AtomicWaker::new(),
            changed: Notify::new(),
        });
        let stream = Watched { stream, watch: watch.clone(), is_fresh: false };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNKNOWN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let opening = timeout_at(end, builder.handshake(stream)).await;
        let (sender, connection) =
            opening.map_err(|_| NoStream::NoSettings(limit))?.map_err(|error| NoStream::Ended(Some(error)))?;
        let task = Task { watch: watch.clone(), server: Arc::downgrade(server), number };
        tokio::spawn(drive(connection, task));
        let settled = async {
            while matches!(watch.streams.load(Relaxed), 0 | UNKNOWN) && !watch.has_ended.load(Relaxed) {
                watch.changed.notified().await;
            }
        };
        let in_time = timeout_at(end, settled).await.is_ok();
        if watch.has_ended.load(Relaxed) {
            return Err(NoStream::Ended(lock(&watch.end).take()));
        }
        match watch.streams.load(Relaxed) {
            UNKNOWN => Err(NoStream::NoSettings(limit)),
            0 if !in_time => Err(NoStream::Zero(limit)),
            _ => Ok(Arc::new(Self { number, sender, watch, cap: AtomicUsize::new(expected) })),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        let most = self.cap.load(Relaxed).min(self.streams());
        !self.has_ended() && !self.sender.is_closed() && self.in_flight() < most
    }

    /// Returns the streams that the server allows, 100 at most.
    pub(super) fn streams(&self) -> usize {
        self.watch.streams.load(Relaxed).min(MOST)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.watch.in_flight.load(Relaxed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.watch.has_ended.load(Relaxed)
    }

    pub(super) fn enter(&self) {
        self.watch.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn exit(&self) {
        self.watch.in_flight.fetch_sub(1, Relaxed);
    }

    /// Takes no further call.
    pub(super) fn leave(&self) {
        self.cap.store(0, Relaxed);
    }

    /// Learns that the server refused a call beside these others.
    pub(super) fn refused(&self, others: usize) {
        self.cap.fetch_min(others, Relaxed);
    }

    pub(super) fn answered(&self) {
        let cap = self.cap.load(Relaxed);
        if cap > 0 && cap < MOST {
            let _raised = self.cap.compare_exchange(cap, cap + 1, Relaxed, Relaxed);
        }
    }
}

impl Watch {
    pub(super) fn reads(&self) -> usize {
        self.reads.load(Relaxed)
    }

    fn learn(&self, streams: usize) {
        if self.streams.swap(streams, Relaxed) != streams {
            self.changed.notify_one();
        }
    }
}

/// The end of a connection, however its task ends.
struct Task {
    watch: Arc<Watch>,
    server: Weak<DirectServer>,
    number: u64,
}

impl Task {
    fn leave(&self) {
        if let Some(server) = self.server.upgrade()
            && let Some(host) = &server.http2
        {
            host.leave(self.number);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.watch.has_ended.store(true, Relaxed);
        self.watch.changed.notify_one();
        self.leave();
    }
}

/// Drives a connection to its end, and leaves it once it is idle.
async fn drive(connection: http2::Connection<Watched, RequestBody, TokioExecutor>, task: Task) {
    let watch = &task.watch;
    let mut connection = pin!(connection);
    let mut sweep = pin!(sleep(SWEEP));
    let (mut seen, mut idle) = (0, 0);
    let ended = poll_fn(|cx| {
        watch.task.register(cx.waker());
        let ended = connection.as_mut().poll(cx);
        watch.learn(connection.current_max_send_streams());
        while ended.is_pending() && sweep.as_mut().poll(cx).is_ready() {
            sweep.set(sleep(SWEEP));
            let is_quiet = watch.in_flight.load(Relaxed) == 0 && watch.reads() == seen;
            (seen, idle) = (watch.reads(), if is_quiet { idle + 1 } else { 0 });
            if idle == SWEEPS {
                task.leave();
            }
        }
        ended
    });
    *lock(&watch.end) = ended.await.err();
}

/// A stream that counts what is read.
struct Watched {
    stream: MaybeTls<RoutedStream>,
    watch: Arc<Watch>,
    /// True if something was read that the task has not looked at.
    is_fresh: bool,
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.watch.reads.fetch_add(1, Relaxed);
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
}

/// Stands for a limit of streams before the server's settings. No server's limit: theirs have 32 bits.
const UNKNOWN: usize = usize::MAX - 1;
/// What one unread answer may hold: 10 MB a second at 100 ms.
const STREAM_WINDOW: u32 = 1 << 20;
/// More than all streams of a connection together, so that no reader stops another.
const CONNECTION_WINDOW: u32 = 2 * STREAM_WINDOW * MOST as u32;
/// The silence of a connection with calls on it after which it is asked if it lives.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The wait for that answer. With the interval it is the 20 s that such a network gets.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
