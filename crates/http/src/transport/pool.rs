//! HTTP/1.1 connections, kept between requests.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Waker},
    time::Duration,
};

use http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};
use hyper::client::conn::http1::{self, SendRequest};
use tokio::{runtime::Handle, time::Instant};

use super::{
    connect::{Connector, Patience, RoutedStream},
    error::{TransportError, next_connection},
    http2::{Host, connect_by},
    maybe_tls::MaybeTls,
    rest::{SWEEP, rest},
};
use crate::{
    internal::sync::{Mutex, lock},
    protocol::RequestBody,
};

/// Connections that speak HTTP/1.1 to their server, with TLS or without.
///
/// No task drives them: the request that uses a connection polls it. So a request costs neither a task nor a channel,
/// and its answer is there in the poll that reads it. An idle connection is not polled: its close by the server is
/// noticed when it is taken, and by [`sweep`], which runs every second while there is one.
pub(super) struct Pool {
    pub(super) connector: Connector,
    state: Mutex<PoolState>,
    /// The servers that may speak HTTP/2.
    hosts: Mutex<Vec<Arc<DirectServer>>>,
}

#[derive(Default)]
struct PoolState {
    /// A list, because a client talks to one server or a few.
    servers: Vec<Server>,
    /// True while a sweep runs.
    swept: bool,
}

struct Server {
    known: Arc<DirectServer>,
    /// The idle connections with the number of sweeps since their last use; the most recent is last.
    idle: VecDeque<(u32, Box<Link>)>,
}

/// A server that is reached directly.
pub(super) struct DirectServer {
    authority: Authority,
    /// The value of `Host`.
    pub(super) host: HeaderValue,
    /// `None`: without TLS.
    pub(super) http2: Option<Host>,
}

impl DirectServer {
    /// Returns `None` if no header can contain its name.
    pub(super) fn new(authority: &Authority, is_tls: bool) -> Option<Arc<Self>> {
        let usual = if is_tls { HTTPS } else { HTTP };
        let host = match authority.port_u16() {
            Some(port) if port != usual => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        let http2 = is_tls.then(Host::default);
        Some(Arc::new(Self { authority: authority.clone(), host: host.try_into().ok()?, http2 }))
    }

    fn is(&self, authority: &Authority, is_tls: bool) -> bool {
        self.http2.is_some() == is_tls && self.authority == *authority
    }

    /// Returns its name, with its port if it is unusual.
    pub(super) fn name(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    /// Returns its address.
    pub(super) fn uri(&self) -> Result<Uri, http::Error> {
        let scheme = if self.http2.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        Uri::builder().scheme(scheme).authority(self.authority.clone()).path_and_query("/").build()
    }
}

/// One connection.
pub(super) struct Link {
    /// The number that its failures have.
    pub(super) number: u64,
    pub(super) sender: SendRequest<RequestBody>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<MaybeTls<RoutedStream>, RequestBody>>,
    /// True if no task waits for it.
    is_parked: bool,
    /// True if it was idle for so long that it may be dead.
    pub(super) has_rested: bool,
    patience: Patience,
    opened: Instant,
}

impl Pool {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, state: Mutex::default(), hosts: Mutex::default() }
    }

    /// Returns the server, if there are connections to it.
    pub(super) fn known(&self, authority: &Authority) -> Option<Arc<DirectServer>> {
        let state = lock(&self.state);
        state.servers.iter().find(|server| server.known.is(authority, false)).map(|server| server.known.clone())
    }

    /// Returns the server behind TLS.
    pub(super) fn host(&self, authority: &Authority) -> Option<Arc<DirectServer>> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.iter().find(|host| host.is(authority, true)) {
            return Some(host.clone());
        }
        // Names may come from callers: those that nothing uses are forgotten.
        hosts.retain(|host| Arc::strong_count(host) > 1);
        let host = DirectServer::new(authority, true)?;
        hosts.push(host.clone());
        Some(host)
    }

    /// Returns the streams in flight and the connections of each server behind TLS.
    pub(super) fn hosts(&self) -> Vec<(String, usize, usize)> {
        let hosts = lock(&self.hosts).clone();
        let figures = |host: &Arc<DirectServer>| {
            let (streams, connections) = host.http2.as_ref()?.figures();
            Some((host.name().to_owned(), streams, connections))
        };
        hosts.iter().filter_map(figures).collect()
    }

    /// Learns that a server has answered.
    pub(super) fn heard(&self, server: &DirectServer) {
        self.connector.heard(server.authority.host());
    }

    /// Takes the most recently used connection to this server.
    pub(super) fn take(&self, server: &DirectServer) -> Option<Box<Link>> {
        let (sweeps, mut link) = lock(&self.state).server(server)?.idle.pop_back()?;
        let has_rested = sweeps > 0;
        if mem::replace(&mut link.has_rested, has_rested) != has_rested {
            link.patience.set(has_rested);
        }
        Some(link)
    }

    /// Closes the idle connections to this server.
    pub(super) fn forget(&self, server: &DirectServer) {
        let idle = lock(&self.state).server(server).map(|server| mem::take(&mut server.idle));
        // Outside of the lock, because this closes connections.
        drop(idle);
    }

    pub(super) async fn connect(&self, server: &DirectServer) -> Result<Box<Link>, TransportError> {
        let number = next_connection();
        let stream = connect_by(self.connector.clone(), server, number).await?;
        Link::new(stream, number).await
    }

    /// Returns a connection for the next request, if it can carry one.
    pub(super) fn put(self: &Arc<Self>, known: &Arc<DirectServer>, mut link: Box<Link>) {
        // Without a runtime no sweep would close it in time.
        if Handle::try_current().is_err() {
            return;
        }
        if !(link.is_parked && link.is_idle()) {
            link.drive_for_nobody();
        }
        if !link.is_idle() || is_old(link.opened, link.number) {
            return;
        }
        let is_swept = {
            let mut state = lock(&self.state);
            let unused = (0, link);
            match state.server(known) {
                Some(server) => server.idle.push_back(unused),
                None => state.servers.push(Server { known: known.clone(), idle: [unused].into() }),
            }
            mem::replace(&mut state.swept, true)
        };
        if !is_swept {
            tokio::spawn(sweep(SweepGuard(Arc::downgrade(self))));
        }
    }

    /// Closes connections that were idle for too long or while the machine was asleep, and those that their servers
    /// have closed. Returns false if none is left.
    fn sweep(&self, was_asleep: bool) -> bool {
        let servers = mem::take(&mut lock(&self.state).servers);
        // Outside of the lock, because this polls and closes connections.
        for mut server in servers {
            server.idle.retain_mut(|(sweeps, link)| {
                *sweeps += 1;
                link.drive_for_nobody();
                *sweeps <= SWEEPS && link.is_idle() && !was_asleep
            });
            if server.idle.is_empty() {
                continue;
            }
            let mut state = lock(&self.state);
            match state.server(&server.known) {
                Some(meanwhile) => {
                    // Connections returned meanwhile were used later.
                    server.idle.append(&mut meanwhile.idle);
                    meanwhile.idle = server.idle;
                }
                None => state.servers.push(server),
            }
        }
        let mut state = lock(&self.state);
        state.swept = !state.servers.is_empty();
        state.swept
    }
}

impl PoolState {
    fn server(&mut self, known: &DirectServer) -> Option<&mut Server> {
        let is_tls = known.http2.is_some();
        self.servers.iter_mut().find(|server| server.known.is(&known.authority, is_tls))
    }
}

impl Link {
    pub(super) async fn new(stream: MaybeTls<RoutedStream>, number: u64) -> Result<Box<Self>, TransportError> {
        let patience = Patience::of(&stream);
        let (sender, connection) =
            http1::handshake(stream).await.map_err(|error| TransportError::broken(error, number))?;
        Ok(Box::new(Self {
            number,
            sender,
            connection: Some(connection),
            is_parked: true,
            has_rested: false,
            patience,
            opened: Instant::now(),
        }))
    }

    /// Reads and writes as far as possible. If the connection ends, it reports that to its waiters.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.is_parked = false;
        if self.connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(cx).is_ready()) {
            self.connection = None;
        }
    }

    /// The same, without a task to wake when more is possible.
    pub(super) fn drive_for_nobody(&mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_parked = true;
    }

    /// Returns true if a request may be sent.
    fn is_idle(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Sweeps the idle connections of a pool until there are none.
async fn sweep(mut sweeping: SweepGuard) {
    loop {
        let was_asleep = rest().await;
        let Some(pool) = sweeping.0.upgrade() else { return };
        if !pool.sweep(was_asleep) {
            // Another sweep may run already.
            sweeping.0 = Weak::new();
            return;
        }
    }
}

/// Marks the sweep as stopped, should the runtime end.
struct SweepGuard(Weak<Pool>);

impl Drop for SweepGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            lock(&pool.state).swept = false;
        }
    }
}

/// Returns true for a connection that gets no further call: the name of its server may have moved. Those that were
/// opened at once do not all end at once.
pub(super) fn is_old(opened: Instant, number: u64) -> bool {
    opened.elapsed() >= LONGEST_AGE - Duration::from_secs(number % SPREAD)
}

/// The age from which a connection gets no further call. A choice of ours: within the minutes for which names are
/// usually kept, and long enough that a new handshake is one of very many calls.
pub(super) const LONGEST_AGE: Duration = Duration::from_secs(300);
/// The seconds by which the ages of connections differ.
const SPREAD: u64 = 60;

/// The port of `http://`.
const HTTP: u16 = 80;
/// The port of `https://`.
const HTTPS: u16 = 443;
/// Below the 60 s after which common load balancers close an idle connection; hyper-util has 90 s.
pub(super) const IDLE: Duration = Duration::from_secs(50);
/// The number of sweeps that an idle connection outlives: the clock need not be read for each request.
pub(super) const SWEEPS: u32 = (IDLE.as_secs() / SWEEP.as_secs()) as u32;
