//! HTTP/2 connections to a server: as many as its calls need.

mod call;
mod connection;
mod question;
mod watch;

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper_util::client::legacy::connect::Connection as _;
use tokio::{runtime::Handle, sync::oneshot, time::Instant};
use tower::ServiceExt;

pub(super) use self::call::ask;
use self::connection::Connection;
use super::{
    connect::{Connector, RoutedStream},
    error::{NoStream, TransportError, next_connection},
    maybe_tls::MaybeTls,
    pool::{DirectServer, Link, Pool},
};
use crate::internal::sync::{Mutex, lock};

/// The connections to a server that may speak HTTP/2, and the calls that wait for one.
///
/// One attempt to connect serves all that wait for it: a new server gets one handshake, not one for each call. Its
/// task outlives the caller who began it.
pub(super) struct Host {
    state: Mutex<HostState>,
    /// The calls that a new connection may carry: fewer after the server refused some, one more with each answer.
    expected: AtomicUsize,
}

#[derive(Default)]
struct HostState {
    protocol: Protocol,
    connections: Vec<Arc<Connection>>,
    /// The attempts to connect that are under way.
    connecting: usize,
    waiting: VecDeque<Waiting>,
    /// The time until which the server's HTTP/2 is of no use: it allowed no stream.
    http1_until: Option<Instant>,
}

/// A call that waits for a way.
struct Waiting {
    tell: oneshot::Sender<Result<Way, TransportError>>,
    except: Except,
}

/// The connections that are no way for a call.
#[derive(Clone, Copy)]
enum Except {
    None,
    /// The one that has refused it.
    Number(u64),
    /// Those that were open at this time: one of them is silent, and they may have died together.
    OpenBy(Instant),
}

impl Except {
    fn allows(self, connection: &Connection) -> bool {
        match self {
            Self::None => true,
            Self::Number(number) => connection.number != number,
            Self::OpenBy(time) => connection.opened > time,
        }
    }
}

/// The protocol that the server agreed on last.
#[derive(Clone, Copy, Default)]
enum Protocol {
    #[default]
    Unknown,
    Http1,
    /// The streams of a connection that it allowed last.
    Http2(usize),
}

/// A way to the server.
pub(super) enum Way {
    Link(Box<Link>),
    Stream(Place),
}

/// A place for one call on a connection, given back when it is dropped.
pub(super) struct Place {
    connection: Arc<Connection>,
    pool: Arc<Pool>,
    server: Arc<DirectServer>,
}

impl Default for Host {
    fn default() -> Self {
        Self { state: Mutex::default(), expected: AtomicUsize::new(MOST) }
    }
}

impl Host {
    /// Returns the streams in flight and the connections.
    pub(super) fn figures(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.connections.iter().map(|connection| connection.in_flight()).sum(), state.connections.len())
    }

    /// Lets no further call onto a connection. Those that are on it stay.
    fn leave(&self, number: u64) {
        let mut state = lock(&self.state);
        let left = state.connections.iter().position(|connection| connection.number == number);
        let left = left.map(|at| state.connections.swap_remove(at));
        drop(state);
        drop(left);
    }

    /// Lets no further call onto the connections that were open at this time.
    fn leave_open_by(&self, time: Instant) {
        let mut state = lock(&self.state);
        let (left, kept) = mem::take(&mut state.connections).into_iter().partition(|it| it.opened <= time);
        state.connections = kept;
        drop(state);
        drop::<Vec<_>>(left);
    }

    /// Learns that the server has not taken a call, while `others` were under way on its connection.
    fn refused(&self, others: usize) {
        self.expected.fetch_min(others.max(1), Relaxed);
    }

    /// Returns true if the server's HTTP/2 is of no use.
    fn is_http1(&self) -> bool {
        lock(&self.state).http1_until.is_some_and(|end| Instant::now() < end)
    }

    /// Learns so.
    fn allows_no_stream(&self) {
        lock(&self.state).http1_until = Some(Instant::now() + HTTP1_FOR);
    }

    fn answered(&self) {
        let expected = self.expected.load(Relaxed);
        if expected < MOST {
            let _raised = self.expected.compare_exchange(expected, expected + 1, Relaxed, Relaxed);
        }
    }
}

impl HostState {
    fn with_room(&self, except: Except) -> Option<Arc<Connection>> {
        let mut others = self.connections.iter().filter(|connection| except.allows(connection));
        others.find(|connection| connection.has_room()).cloned()
    }

    /// Forgets the calls whose callers have left.
    fn forget_gone(&mut self) {
        self.waiting.retain(|waiting| !waiting.tell.is_closed());
    }

    /// Returns the calls that the attempts under way will serve.
    fn coming(&self, expected: usize) -> usize {
        match self.protocol {
            Protocol::Unknown => self.connecting.saturating_mul(usize::MAX),
            Protocol::Http1 => self.connecting,
            Protocol::Http2(streams) => self.connecting.saturating_mul(streams.min(expected).max(1)),
        }
    }
}

/// Returns a way to the server: on a connection with room, or on a new one.
pub(super) async fn any_way(pool: &Arc<Pool>, server: &Arc<DirectServer>) -> Result<Way, TransportError> {
    way(pool, server, Except::None).await
}

async fn way(pool: &Arc<Pool>, server: &Arc<DirectServer>, except: Except) -> Result<Way, TransportError> {
    let Some(host) = &server.http2 else { return pool.connect(server).await.map(Way::Link) };
    let told = {
        let mut state = lock(&host.state);
        if let Some(connection) = state.with_room(except) {
            return Ok(Way::Stream(Place::on(connection, pool, server)));
        }
        let (tell, told) = oneshot::channel();
        state.waiting.push_back(Waiting { tell, except });
        told
    };
    settle(pool, server);
    // Its sender is lost with the runtime that was to connect.
    told.await.unwrap_or_else(|lost| Err(TransportError::connect(lost, next_connection())))
}

/// Gives free places to those who wait, and connects for the others.
fn settle(pool: &Arc<Pool>, server: &Arc<DirectServer>) {
    let Some(host) = &server.http2 else { return };
    let mut undelivered = Vec::new();
    let mut state = lock(&host.state);
    state.forget_gone();
    let mut at = 0;
    while at < state.waiting.len() && state.with_room(Except::None).is_some() {
        let Some(connection) = state.with_room(state.waiting[at].except) else {
            at += 1;
            continue;
        };
        let place = Way::Stream(Place::on(connection, pool, server));
        undelivered.extend(state.waiting.remove(at).and_then(|waiting| waiting.tell.send(Ok(place)).err()));
    }
    let expected = host.expected.load(Relaxed);
    while state.waiting.len() > state.coming(expected)
        && let Ok(runtime) = Handle::try_current()
    {
        state.connecting += 1;
        runtime.spawn(connect(Arc::downgrade(pool), Attempt(Some(server.clone()))));
    }
    drop(state);
    // A place that nobody took settles again when it is dropped, which needs the lock.
    drop(undelivered);
}

/// An attempt to connect. Should its runtime end, those who wait for it hear of it.
struct Attempt(Option<Arc<DirectServer>>);

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(host) = self.0.as_ref().and_then(|server| server.http2.as_ref()) else { return };
        let mut state = lock(&host.state);
        state.connecting -= 1;
        let lost = if state.connecting == 0 { mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(lost);
    }
}

async fn connect(pool: Weak<Pool>, mut attempt: Attempt) {
    let Some(server) = attempt.0.clone() else { return };
    let number = next_connection();
    let Some(connector) = pool.upgrade().map(|pool| pool.connector.clone()) else { return };
    let Some(host) = &server.http2 else { return };
    let expected = host.expected.load(Relaxed);
    let made = open(connector, &server, host, number, expected).await;
    let Some(pool) = pool.upgrade() else { return };
    let mut undelivered = None;
    let mut failed = Vec::new();
    let mut state = lock(&host.state);
    attempt.0 = None;
    state.connecting -= 1;
    state.forget_gone();
    match made {
        Ok(Made::Link(link)) => {
            state.protocol = Protocol::Http1;
            undelivered = match state.waiting.pop_front() {
                Some(waiting) => waiting.tell.send(Ok(Way::Link(link))).err(),
                None => Some(Ok(Way::Link(link))),
            };
        }
        Ok(Made::Connection(connection)) => {
            state.protocol = Protocol::Http2(connection.streams());
            if !connection.has_ended() {
                state.connections.push(connection);
            }
        }
        Err(error) => {
            // The others wait for the attempts that are still under way.
            let without = state.waiting.len().saturating_sub(state.coming(expected));
            failed = state.waiting.drain(..without).collect();
            if let Some(last) = failed.pop() {
                for waiting in failed.drain(..) {
                    let _gone = error.shared().map(|error| waiting.tell.send(Err(error)));
                }
                let _gone = last.tell.send(Err(error));
            }
        }
    }
    drop((state, failed));
    if let Some(Ok(Way::Link(link))) = undelivered {
        pool.put(&server, link);
    }
    settle(&pool, &server);
}

/// A new connection.
enum Made {
    Link(Box<Link>),
    Connection(Arc<Connection>),
}

/// Connects within the limit, which includes the server's first settings.
async fn open(
    connector: Connector,
    server: &Arc<DirectServer>,
    host: &Host,
    number: u64,
    expected: usize,
) -> Result<Made, TransportError> {
    let (connector, end, limit) = connector.limited();
    let limit = (end, limit);
    if host.is_http1() {
        return open_http1(connector, server, number).await;
    }
    let stream = connect_by(connector.clone(), server, number).await?;
    if !stream.connected().is_negotiated_h2() {
        return Link::new(stream, number).await.map(Made::Link);
    }
    let no_stream = |error| TransportError::connect(error, number);
    let connection = Connection::open(stream, server, number, expected, limit).await.map_err(no_stream)?;
    match connection.settle(limit, ZERO_FOR).await {
        Err(NoStream::Zero(_)) if !connection.has_ended() => {
            if let Ok(made) = open_http1(connector, server, number).await {
                tracing::warn!(server = %server.name(), "HTTP/2 without a stream; HTTP/1.1 is used");
                host.allows_no_stream();
                return Ok(made);
            }
            connection.settle(limit, limit.1).await.map_err(no_stream)?;
        }
        settled => settled.map_err(no_stream)?,
    }
    Ok(Made::Connection(connection))
}

async fn open_http1(connector: Connector, server: &DirectServer, number: u64) -> Result<Made, TransportError> {
    let stream = connect_by(connector.of_http1(), server, number).await?;
    Link::new(stream, number).await.map(Made::Link)
}

/// Connects by a connector.
pub(super) async fn connect_by(
    connector: Connector,
    server: &DirectServer,
    number: u64,
) -> Result<MaybeTls<RoutedStream>, TransportError> {
    let to = server.uri().map_err(|error| TransportError::connect(error, number))?;
    connector.oneshot(to).await.map_err(|error| TransportError::connect(error, number))
}

impl Place {
    /// Takes a place. The caller holds the lock of the host.
    fn on(connection: Arc<Connection>, pool: &Arc<Pool>, server: &Arc<DirectServer>) -> Self {
        connection.enter();
        Self { connection, pool: pool.clone(), server: server.clone() }
    }

    pub(super) fn number(&self) -> u64 {
        self.connection.number
    }

    fn host(&self) -> Option<&Host> {
        self.server.http2.as_ref()
    }

    /// Lets no further call onto the connection.
    fn leave(&self) {
        self.connection.leave();
        if let Some(host) = self.host() {
            host.leave(self.connection.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(host) = self.host() else { return };
        let state = lock(&host.state);
        self.connection.exit();
        let is_wanted = !state.waiting.is_empty();
        drop(state);
        if is_wanted {
            settle(&self.pool, &self.server);
        }
    }
}

/// The most calls on one connection, whatever the server allows: the usual number, so that the end of one connection
/// ends no more than these, and unread answers hold no more than 100 MiB.
const MOST: usize = 100;
/// The time that a server which allows no stream gets to change its mind. Without it, no connection is ready.
const ZERO_FOR: Duration = Duration::from_secs(1);
/// The time for which its HTTP/1.1 is used then.
const HTTP1_FOR: Duration = Duration::from_secs(600);
