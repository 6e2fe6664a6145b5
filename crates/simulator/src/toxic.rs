//! Damage at the socket: a network's effect on an answer that the provider sent well.

use std::{
    collections::{HashMap, VecDeque},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use steadfast_internal::sync::{Mutex, MutexGuard, lock};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

/// The bytes that a connection takes in before earlier ones must leave.
const BUFFER: usize = 64 * 1024;

/// One kind of damage. Several may be set at once; a second one of the same kind replaces the first.
///
/// They affect the server's bytes from now on, on open connections too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Toxic {
    /// All bytes arrive later.
    Latency {
        /// The delay of each write.
        delay: Duration,
        /// The largest further delay, drawn for each write. Bytes never overtake each other.
        jitter: Duration,
    },
    /// At most this many bytes in a second; 0 lets none through.
    Bandwidth {
        /// The rate of each connection.
        bytes_per_second: u64,
    },
    /// Nothing moves in either direction, and nothing is closed.
    Hang,
    /// The connection is reset (RST) after this many bytes.
    Reset {
        /// Bytes of the connection that still leave.
        after_bytes: u64,
    },
    /// Bytes leave in small pieces, each a write of its own.
    Slicer {
        /// Bytes in a piece, at least 1.
        size: usize,
        /// The time between two pieces.
        gap: Duration,
    },
    /// The connection is closed in good order after this many bytes.
    Limit {
        /// Bytes of the connection that still leave.
        bytes: u64,
    },
    /// A connection that has ended stays open for this long.
    SlowClose {
        /// The time between the end and the close.
        delay: Duration,
    },
    /// Connections are accepted and closed at once, like a balancer without a server behind it. See
    /// [`SimulatedServer::down`](super::SimulatedServer::down) for refused connections.
    Down,
}

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    latency: Option<(Duration, Duration)>,
    bandwidth: Option<u64>,
    hang: bool,
    reset: Option<u64>,
    slicer: Option<(usize, Duration)>,
    limit: Option<u64>,
    slow_close: Option<Duration>,
    down: bool,
}

impl Settings {
    fn blocked(&self) -> bool {
        self.hang || self.bandwidth == Some(0)
    }

    fn shaped(&self) -> bool {
        self.latency.is_some() || self.bandwidth.is_some() || self.slicer.is_some()
    }
}

/// Bytes under way, each piece with the time at which it leaves.
type Queue = VecDeque<(Instant, Vec<u8>)>;

/// The damage that all connections of a server share.
#[derive(Clone, Debug, Default)]
pub(super) struct Toxics {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    settings: Settings,
    /// Connections to wake when the settings change, by their number.
    wakers: HashMap<u64, Waker>,
}

impl Toxics {
    pub(super) fn add(&self, toxic: Toxic) {
        self.change(|settings| match toxic {
            Toxic::Latency { delay, jitter } => settings.latency = Some((delay, jitter)),
            Toxic::Bandwidth { bytes_per_second } => settings.bandwidth = Some(bytes_per_second),
            Toxic::Hang => settings.hang = true,
            Toxic::Reset { after_bytes } => settings.reset = Some(after_bytes),
            Toxic::Slicer { size, gap } => settings.slicer = Some((size.max(1), gap)),
            Toxic::Limit { bytes } => settings.limit = Some(bytes),
            Toxic::SlowClose { delay } => settings.slow_close = Some(delay),
            Toxic::Down => settings.down = true,
        });
    }

    pub(super) fn clear(&self) {
        self.change(|settings| *settings = Settings::default());
    }

    pub(super) fn down(&self) -> bool {
        self.lock().settings.down
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state.settings);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

/// A stream whose close can be turned into a reset.
pub(super) trait Resettable {
    fn reset_on_close(&self);
}

impl Resettable for TcpStream {
    fn reset_on_close(&self) {
        // Otherwise the peer sees an orderly end, which is the worst that a failure can do here.
        let _ = self.set_zero_linger();
    }
}

/// A stream with the damage of [`Toxics`].
#[derive(Debug)]
pub(super) struct ToxicStream<S> {
    /// `None` only once dropped.
    inner: Option<S>,
    number: u64,
    toxics: Toxics,
    remains: Arc<ClosingStream<S>>,
    /// Bytes taken in so far.
    taken: u64,
    queue: Queue,
    queued: usize,
    last_due: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    rng: fastrand::Rng,
}

/// The rest of a [`ToxicStream`] whose user has dropped it: the close is still to come.
#[derive(Debug)]
pub(super) struct ClosingStream<S> {
    /// The stream, and the bytes that are still to be sent.
    stream: Mutex<Option<(S, Queue)>>,
    reset: AtomicBool,
}

impl<S: Resettable + AsyncWrite + Unpin> ClosingStream<S> {
    /// Turns the coming close into a reset.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Closes the stream as set.
    pub(super) async fn close(&self, toxics: &Toxics) {
        let remains = lock(&self.stream).take();
        let Some((mut stream, queue)) = remains else {
            return;
        };
        let settings = toxics.lock().settings;
        if !settings.blocked() && !settings.down {
            for (due, piece) in queue {
                sleep_until(due).await;
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
            }
        }
        if let Some(delay) = settings.slow_close {
            sleep(delay).await;
        }
        if self.reset.load(Ordering::Relaxed) {
            stream.reset_on_close();
        }
    }
}

impl<S> ToxicStream<S> {
    pub(super) fn new(inner: S, toxics: Toxics) -> (Self, Arc<ClosingStream<S>>) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let remains = Arc::new(ClosingStream { stream: Mutex::new(None), reset: AtomicBool::new(false) });
        let stream = Self {
            inner: Some(inner),
            number,
            toxics,
            remains: Arc::clone(&remains),
            taken: 0,
            queue: VecDeque::new(),
            queued: 0,
            last_due: None,
            timer: Box::pin(sleep(Duration::ZERO)),
            rng: fastrand::Rng::with_seed(number),
        };
        (stream, remains)
    }

    /// Returns the present settings, and registers the task to be woken when they change.
    fn settings(&self, cx: &Context<'_>) -> Settings {
        let mut state = self.toxics.lock();
        match state.wakers.get_mut(&self.number) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                state.wakers.insert(self.number, cx.waker().clone());
            }
        }
        state.settings
    }

    /// Cuts the bytes into pieces and sets the time of each.
    fn schedule(&mut self, bytes: &[u8], settings: &Settings) {
        let (delay, jitter) = settings.latency.unwrap_or_default();
        let (mut size, gap) = settings.slicer.unwrap_or((usize::MAX, Duration::ZERO));
        if let Some(rate) = settings.bandwidth {
            // Fifty pieces a second look like an even flow.
            size = size.min(usize::try_from(rate / 50).unwrap_or(usize::MAX).max(1));
        }
        let late = delay.saturating_add(jitter.mul_f64(self.rng.f64()));
        let arrives = Instant::now() + late;
        for piece in bytes.chunks(size.min(BUFFER)) {
            let mut due = self.last_due.map_or(arrives, |last| arrives.max(last + gap));
            if let Some(rate) = settings.bandwidth {
                due += Duration::from_secs_f64(piece.len() as f64 / rate.max(1) as f64);
            }
            self.last_due = Some(due);
            self.queued += piece.len();
            self.queue.push_back((due, piece.to_vec()));
        }
    }
}

impl<S: AsyncWrite + Unpin> ToxicStream<S> {
    /// Sends the pieces that are due; ready once none is left.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((due, piece)) = self.queue.front_mut() {
            if *due > Instant::now() {
                if self.timer.deadline() != *due {
                    self.timer.set(sleep_until(*due));
                }
                ready!(self.timer.as_mut().poll(cx));
            }
            let sent = ready!(live(&mut self.inner).poll_write(cx, piece))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            piece.drain(..sent);
            self.queued -= sent;
            if piece.is_empty() {
                self.queue.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the inner stream, which exists for as long as its user does.
fn live<S: Unpin>(inner: &mut Option<S>) -> Pin<&mut S> {
    Pin::new(inner.as_mut().expect("taken out in `drop` only"))
}

impl<S: AsyncRead + Unpin> AsyncRead for ToxicStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let settings = self.settings(cx);
        if settings.down {
            return Poll::Ready(Ok(()));
        }
        if settings.blocked() {
            return Poll::Pending;
        }
        live(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ToxicStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let settings = self.settings(cx);
        if settings.blocked() {
            return Poll::Pending;
        }
        if settings.down {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = u64::MAX;
        if let Some(after) = settings.reset {
            room = room.min(after.saturating_sub(self.taken));
        }
        if let Some(limit) = settings.limit {
            room = room.min(limit.saturating_sub(self.taken));
        }
        if room == 0 {
            ready!(self.poll_drain(cx))?;
            ready!(live(&mut self.inner).poll_flush(cx))?;
            let reset = settings.reset.is_some_and(|after| after <= self.taken);
            self.remains.reset.fetch_or(reset, Ordering::Relaxed);
            let kind = if reset { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
            return Poll::Ready(Err(kind.into()));
        }

        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let taken = if self.queue.is_empty() && !settings.shaped() {
            let buf = &buf[..buf.len().min(room)];
            ready!(live(&mut self.inner).poll_write(cx, buf))?
        } else {
            if self.queued >= BUFFER {
                ready!(self.poll_drain(cx))?;
            }
            let buf = &buf[..buf.len().min(room).min(BUFFER)];
            self.schedule(buf, &settings);
            buf.len()
        };
        self.taken += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.settings(cx).blocked() {
            return Poll::Pending;
        }
        ready!(self.poll_drain(cx))?;
        live(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let settings = self.settings(cx);
        if settings.blocked() {
            return Poll::Pending;
        }
        ready!(self.poll_drain(cx))?;
        if settings.slow_close.is_some() {
            // The rest is closed late.
            return Poll::Ready(Ok(()));
        }
        live(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S> Drop for ToxicStream<S> {
    fn drop(&mut self) {
        self.toxics.lock().wakers.remove(&self.number);
        let queue = std::mem::take(&mut self.queue);
        *lock(&self.remains.stream) = self.inner.take().zip(Some(queue));
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    impl Resettable for DuplexStream {
        fn reset_on_close(&self) {}
    }

    fn pair(toxic: Toxic) -> (ToxicStream<DuplexStream>, DuplexStream, Toxics) {
        let (server, client) = duplex(1 << 20);
        let toxics = Toxics::default();
        toxics.add(toxic);
        (ToxicStream::new(server, toxics.clone()).0, client, toxics)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn latency_delays_bytes_and_does_not_add_up() {
        let (mut server, mut client, _toxics) = pair(Toxic::Latency { delay: SECOND, jitter: Duration::ZERO });
        let start = Instant::now();
        server.write_all(b"one ").await.unwrap();
        server.write_all(b"two").await.unwrap();
        server.flush().await.unwrap();
        let mut got = [0; 7];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one two");
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_never_reorders_bytes() {
        let (mut server, mut client, _toxics) = pair(Toxic::Latency { delay: SECOND, jitter: SECOND });
        for byte in 0..100 {
            server.write_all(&[byte]).await.unwrap();
        }
        server.flush().await.unwrap();
        let mut got = [0; 100];
        client.read_exact(&mut got).await.unwrap();
        assert!(got.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn bandwidth_holds_its_rate() {
        let (mut server, mut client, _toxics) = pair(Toxic::Bandwidth { bytes_per_second: 1000 });
        let start = Instant::now();
        server.write_all(&[7; 5_000]).await.unwrap();
        server.flush().await.unwrap();
        let mut got = [0; 5_000];
        client.read_exact(&mut got).await.unwrap();
        let took = start.elapsed();
        assert!(took >= 5 * SECOND && took < 6 * SECOND, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slicer_sends_pieces_of_the_size_asked_for() {
        let (mut server, mut client, _toxics) = pair(Toxic::Slicer { size: 3, gap: SECOND });
        let reading = tokio::spawn(async move {
            let (mut sizes, mut buf) = (Vec::new(), [0; 64]);
            while sizes.iter().sum::<usize>() < 8 {
                sizes.push(client.read(&mut buf).await.unwrap());
            }
            sizes
        });
        let start = Instant::now();
        server.write_all(b"12345678").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(reading.await.unwrap(), [3, 3, 2]);
        assert_eq!(start.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_ends_when_it_is_cleared() {
        let (mut server, mut client, toxics) = pair(Toxic::Hang);
        let writing = tokio::spawn(async move {
            server.write_all(b"x").await.unwrap();
            server
        });
        sleep(SECOND).await;
        assert!(!writing.is_finished());
        toxics.clear();
        let _server = writing.await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_lets_exactly_its_bytes_through() {
        let (mut server, mut client, _toxics) = pair(Toxic::Limit { bytes: 10 });
        let error = server.write_all(&[1; 25]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_marks_the_close_as_one() {
        let (server, _client) = duplex(64);
        let toxics = Toxics::default();
        let (mut stream, remains) = ToxicStream::new(server, toxics.clone());
        stream.write_all(&[1; 5]).await.unwrap();
        toxics.add(Toxic::Reset { after_bytes: 5 });
        let error = stream.write_all(&[1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(remains.reset.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_dropped_still_sends_what_was_under_way() {
        let (server, mut client) = duplex(64);
        let toxics = Toxics::default();
        toxics.add(Toxic::Latency { delay: SECOND, jitter: Duration::ZERO });
        let (mut stream, remains) = ToxicStream::new(server, toxics.clone());
        stream.write_all(b"late").await.unwrap();
        drop(stream);
        remains.close(&toxics).await;
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_close_keeps_the_peer_waiting() {
        let (server, mut client) = duplex(64);
        let toxics = Toxics::default();
        toxics.add(Toxic::SlowClose { delay: 3 * SECOND });
        let (mut stream, remains) = ToxicStream::new(server, toxics.clone());
        let start = Instant::now();
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream);
        let closing = tokio::spawn(async move { remains.close(&toxics).await });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!((&got[..], start.elapsed()), (&b"bye"[..], 3 * SECOND));
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_stream_holds_nothing_back_and_forgets_its_waker() {
        let (mut server, mut client, toxics) = pair(Toxic::Hang);
        toxics.clear();
        server.write_all(b"now").await.unwrap();
        let mut got = [0; 3];
        client.read_exact(&mut got).await.unwrap();
        assert!(server.queue.is_empty());
        drop(server);
        assert!(toxics.lock().wakers.is_empty());
    }
}
