//! Connections to `http://` servers, kept between requests.

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
use tokio::{runtime::Handle, time::sleep};
use tower::ServiceExt;

use super::{
    connect::{Connector, Routed},
    error::TransportError,
    slim::Slim,
};
use crate::{
    internal::sync::{Mutex, lock},
    providers::http::RequestBody,
};

/// Connections that speak HTTP/1.1 without TLS, straight to their server.
///
/// No task drives them: whoever uses one polls it. So a request costs neither a task nor a channel between two, and its answer
/// is there in the poll that reads it. A connection that nobody uses is not polled either; that its server has closed it is
/// seen when it is taken, and by [`sweep`], which goes by every few seconds as long as there is one.
pub(super) struct Pool {
    connector: Connector,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// A list, for a client talks to one server or a few.
    servers: Vec<Server>,
    /// A task goes by.
    swept: bool,
}

struct Server {
    known: Arc<Known>,
    /// For how many sweeps unused, the last one to be used at the end.
    idle: VecDeque<(u32, Box<Link>)>,
}

/// A server that is reached straight.
pub(super) struct Known {
    authority: Authority,
    /// What stands in `Host`.
    pub(super) host: HeaderValue,
}

impl Known {
    /// `None`: no header can have its name.
    pub(super) fn new(authority: &Authority) -> Option<Arc<Self>> {
        let host = match authority.port_u16() {
            Some(port) if port != HTTP => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        Some(Arc::new(Self { authority: authority.clone(), host: host.try_into().ok()? }))
    }
}

/// One connection.
pub(super) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<Slim<Routed>, RequestBody>>,
    /// Nobody is woken for it.
    is_parked: bool,
}

impl Pool {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, kept: Mutex::default() }
    }

    /// The server, if there are connections to it.
    pub(super) fn known(&self, authority: &Authority) -> Option<Arc<Known>> {
        lock(&self.kept).server(authority).map(|server| server.known.clone())
    }

    /// The connection to this server that was used last.
    pub(super) fn take(&self, server: &Known) -> Option<Box<Link>> {
        lock(&self.kept).server(&server.authority)?.idle.pop_back().map(|(_, link)| link)
    }

    pub(super) async fn connect(&self, server: &Known) -> Result<Box<Link>, TransportError> {
        let to = Uri::builder().scheme(Scheme::HTTP).authority(server.authority.clone()).path_and_query("/").build();
        let to = to.map_err(|error| TransportError::connect(error.into()))?;
        let stream = self.connector.clone().oneshot(to).await.map_err(TransportError::connect)?;
        let (sender, connection) = http1::handshake(stream).await.map_err(TransportError::broken)?;
        Ok(Box::new(Link { sender, connection: Some(connection), is_parked: true }))
    }

    /// Keeps a connection for the next request, if there can be one on it.
    pub(super) fn put(self: &Arc<Self>, known: &Arc<Known>, mut link: Box<Link>) {
        // Without a runtime there is nobody to let go of it in time.
        if Handle::try_current().is_err() {
            return;
        }
        if !(link.is_parked && link.is_idle()) {
            link.drive_for_nobody();
        }
        if !link.is_idle() {
            return;
        }
        let is_swept = {
            let mut kept = lock(&self.kept);
            let unused = (0, link);
            match kept.server(&known.authority) {
                Some(server) => server.idle.push_back(unused),
                None => kept.servers.push(Server { known: known.clone(), idle: [unused].into() }),
            }
            mem::replace(&mut kept.swept, true)
        };
        if !is_swept {
            tokio::spawn(sweep(Sweeping(Arc::downgrade(self))));
        }
    }

    /// Lets go of what was idle for too long, and of what the servers have closed. `false`: nothing is left.
    fn sweep(&self) -> bool {
        let servers = mem::take(&mut lock(&self.kept).servers);
        // Not while it is locked: connections are polled, and closed.
        for mut server in servers {
            server.idle.retain_mut(|(sweeps, link)| {
                *sweeps += 1;
                link.drive_for_nobody();
                *sweeps <= SWEEPS && link.is_idle()
            });
            if server.idle.is_empty() {
                continue;
            }
            let mut kept = lock(&self.kept);
            match kept.server(&server.known.authority) {
                Some(meanwhile) => {
                    // What was put there meanwhile was used later.
                    server.idle.append(&mut meanwhile.idle);
                    meanwhile.idle = server.idle;
                }
                None => kept.servers.push(server),
            }
        }
        let mut kept = lock(&self.kept);
        kept.swept = !kept.servers.is_empty();
        kept.swept
    }
}

impl Kept {
    fn server(&mut self, authority: &Authority) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.known.authority == *authority)
    }
}

impl Link {
    /// Reads and writes what can be. A connection that ends tells those who wait for something from it.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.is_parked = false;
        if self.connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(cx).is_ready()) {
            self.connection = None;
        }
    }

    /// The same, where nobody is to be woken when more can be.
    pub(super) fn drive_for_nobody(&mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_parked = true;
    }

    /// Whether a request may be sent.
    fn is_idle(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Looks after the idle connections of a pool until there are none.
async fn sweep(mut sweeping: Sweeping) {
    loop {
        sleep(SWEEP).await;
        let Some(pool) = sweeping.0.upgrade() else { return };
        if !pool.sweep() {
            // Another one may go by already.
            sweeping.0 = Weak::new();
            return;
        }
    }
}

/// Says that nobody goes by any more, should the runtime end.
struct Sweeping(Weak<Pool>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            lock(&pool.kept).swept = false;
        }
    }
}

/// The port of `http://`.
const HTTP: u16 = 80;
/// Below the 60 s after which common load balancers close an idle connection; hyper-util has 90 s.
pub(super) const IDLE: Duration = Duration::from_secs(50);
/// How long a connection that its server has closed is held at most.
const SWEEP: Duration = Duration::from_secs(5);
/// How many of them an idle connection outlives: the clock need not be read for each request.
const SWEEPS: u32 = (IDLE.as_secs() / SWEEP.as_secs()) as u32;
