//! One connection, and the task that drives it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, timeout_at};

use super::{
    MOST,
    question::{ANSWERED_IN, ASKED_AFTER, Questions},
    watch::{UNKNOWN, Watch, Watched},
};
use crate::{
    internal::sync::lock,
    protocol::RequestBody,
    transport::{
        connect::RoutedStream,
        error::NoStream,
        maybe_tls::MaybeTls,
        pool::{DirectServer, SWEEPS, is_old},
        rest::rest,
    },
};

/// An HTTP/2 connection.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) opened: Instant,
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) watch: Arc<Watch>,
    /// The most calls that it gets: fewer once the server refused some.
    cap: AtomicUsize,
}

impl Connection {
    /// Opens a connection. Nothing is known of its streams until it has [settled](Self::settle).
    pub(super) async fn open(
        stream: MaybeTls<RoutedStream>,
        server: &Arc<DirectServer>,
        number: u64,
        expected: usize,
        (end, limit): (Instant, Duration),
    ) -> Result<Arc<Self>, NoStream> {
        let watch = Watch::new();
        let stream = Watched::new(stream, watch.clone());
        let opened = Instant::now();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(Questions(watch.clone()))
            .initial_max_send_streams(UNKNOWN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(ASKED_AFTER)
            .keep_alive_timeout(ANSWERED_IN);
        let opening = timeout_at(end, builder.handshake(stream)).await;
        let (sender, connection) =
            opening.map_err(|_| NoStream::NoSettings(limit))?.map_err(|error| NoStream::Ended(Some(error)))?;
        tokio::spawn(drive(connection, Task { watch: watch.clone(), server: Arc::downgrade(server), number, opened }));
        let cap = AtomicUsize::new(expected);
        Ok(Arc::new(Self { number, opened, sender, watch, cap }))
    }

    /// Waits for the server's settings, up to the end of the limit. A server that allows no stream gets that long to
    /// change its mind.
    pub(super) async fn settle(&self, (end, limit): (Instant, Duration), zero: Duration) -> Result<(), NoStream> {
        let is_known = |none| async move {
            while none == self.watch.streams.load(Relaxed) && !self.has_ended() {
                self.watch.changed.notified().await;
            }
        };
        let _in_time = timeout_at(end, is_known(UNKNOWN)).await;
        let _in_time = timeout_at(end.min(Instant::now() + zero), is_known(0)).await;
        match self.watch.streams.load(Relaxed) {
            _ if self.has_ended() => Err(NoStream::Ended(lock(&self.watch.end).take())),
            UNKNOWN => Err(NoStream::NoSettings(limit)),
            0 => Err(NoStream::Zero(limit)),
            _ => Ok(()),
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
        self.watch.enter();
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

/// The end of a connection, however its task ends.
struct Task {
    watch: Arc<Watch>,
    server: Weak<DirectServer>,
    number: u64,
    opened: Instant,
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

/// Drives a connection to its end, and leaves it once it is idle or old.
async fn drive(connection: http2::Connection<Watched, RequestBody, TokioExecutor>, task: Task) {
    let watch = &task.watch;
    let mut connection = pin!(connection);
    let mut sweep = pin!(rest());
    let (mut seen, mut idle) = (0, 0);
    let ended = poll_fn(|cx| {
        watch.task.register(cx.waker());
        let ended = connection.as_mut().poll(cx);
        watch.learn(connection.current_max_send_streams());
        while ended.is_pending()
            && let Poll::Ready(was_asleep) = sweep.as_mut().poll(cx)
        {
            sweep.set(rest());
            let is_quiet = watch.in_flight.load(Relaxed) == 0 && watch.signs() == seen;
            (seen, idle) = (watch.signs(), if is_quiet { idle + 1 } else { 0 });
            if was_asleep || idle == SWEEPS || is_old(task.opened, task.number) {
                task.leave();
            }
        }
        ended
    });
    *lock(&watch.end) = ended.await.err();
}

/// What one unread answer may hold: 10 MB a second at 100 ms.
const STREAM_WINDOW: u32 = 1 << 20;
/// More than all streams of a connection together, so that no reader stops another.
const CONNECTION_WINDOW: u32 = 2 * STREAM_WINDOW * MOST as u32;
