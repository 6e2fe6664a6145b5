//! The listener: the number of connections, their time limits, and their shutdown.
//!
//! HTTP/1.1 only: the official clients speak it to any `http://` address, and so do ingresses and TLS proxies in front
//! of a gateway. The listener sees at once when a caller disconnects, and drops the call to the provider with the
//! connection.
//!
//! All of this runs on the control thread up to a connection's first bytes. That thread answers a probe of `/healthz`,
//! on a connection of its own; every other request moves to the threads of requests.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use steadfast_internal::system;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{Handler, connection, socket::PlainRefusal, write_timeout::WriteTimeout};
use crate::{
    lifecycle::Lifecycle,
    limits::{connections_for_files, memory},
};

/// The time for connections to send their last bytes once their streams have ended.
pub(crate) const LAST_BYTES: Duration = Duration::from_secs(5);

/// The length of the queue of connections to accept; a system may allow fewer (`net.core.somaxconn` is 4096 on Linux).
///
/// tokio's default is 128: of more connections at once, as after a restart, the system resets some and delays the
/// others by a second.
const BACKLOG: u32 = 4096;

/// Binds the address and listens.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    system::share_port(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until the server is asked to stop, then waits for them to end. Their requests run on another
/// runtime.
pub(crate) async fn serve<H: Handler>(
    listener: TcpListener,
    handler: H,
    lifecycle: Arc<Lifecycle>,
    calls_out: bool,
    requests: Handle,
) {
    let settings = &lifecycle.initial;
    let mut http = http1::Builder::new();
    http.header_read_timeout(settings.head_timeout).max_header_size(settings.head);
    memory::warn_if_over_limit(settings.memory);
    let wanted = memory::connections(settings.memory, settings.connections);
    let permits = Arc::new(Semaphore::new(connections_for_files(wanted, calls_out).min(Semaphore::MAX_PERMITS)));
    let spare = Arc::new(Semaphore::new(SPARE_CONNECTIONS));
    let server =
        Arc::new(Server { http, handler, lifecycle: lifecycle.clone(), requests, connections: TaskTracker::new() });
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                back_off(&error).await;
                continue;
            }
        };
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            server.connections.spawn(server.clone().serve_one(stream, from, permit));
        } else if let Ok(permit) = spare.clone().try_acquire_owned() {
            server.connections.spawn(server.clone().serve_probe(stream, permit));
        } else {
            lifecycle.turned_away.report();
            reject(stream).await;
        }
    }
    // The system refuses connections from here on, so that load balancers go elsewhere at once.
    drop(listener);
    let (connections, calls) = (&server.connections, &lifecycle.calls);
    connections.close();
    calls.close();
    let ended = async || {
        connections.wait().await;
        calls.wait().await;
    };
    if timeout(lifecycle.current.load().grace, ended()).await.is_err() {
        let (connections, calls) = (connections.len(), calls.len());
        tracing::warn!(connections, calls, "grace period elapsed; open streams end with an error");
        lifecycle.cut.cancel();
        // A caller that does not read its last bytes loses them.
        let _ = timeout(LAST_BYTES, ended()).await;
    }
}

/// The server's part that each connection needs.
struct Server<H> {
    http: http1::Builder,
    handler: H,
    lifecycle: Arc<Lifecycle>,
    /// The runtime of requests.
    requests: Handle,
    connections: TaskTracker,
}

impl<H: Handler> Server<H> {
    /// Waits for a connection's first bytes, and chooses the thread that serves it.
    async fn serve_one(self: Arc<Self>, stream: TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
        match self.is_probe(&stream, self.lifecycle.initial.head_timeout).await {
            None => {}
            Some(true) => self.probe(stream).await,
            Some(false) => match stream.into_std() {
                Ok(stream) => {
                    let (connections, requests) = (self.connections.clone(), self.requests.clone());
                    connections.spawn_on(self.requests(stream, from, permit), &requests);
                }
                Err(error) => tracing::debug!(%from, %error, "connection lost"),
            },
        }
    }

    /// Serves a connection over the limit if it is a probe: callers that take all connections must not make the server
    /// look dead.
    async fn serve_probe(self: Arc<Self>, stream: TcpStream, permit: OwnedSemaphorePermit) {
        match self.is_probe(&stream, PROBE_TIMEOUT).await {
            Some(true) => self.probe(stream).await,
            _ => {
                self.lifecycle.turned_away.report();
                reject(stream).await;
            }
        }
        drop(permit);
    }

    /// Waits for the first bytes and returns whether they are a probe's; `None` if none came.
    async fn is_probe(&self, stream: &TcpStream, limit: Duration) -> Option<bool> {
        let mut first = [0; 16];
        let read = tokio::select! {
            biased;
            read = stream.peek(&mut first) => read.unwrap_or_default(),
            () = connection::after_stop(&self.lifecycle.stop) => 0,
            () = sleep(limit) => 0,
        };
        (read > 0).then(|| PROBES.iter().any(|probe| first[..read].starts_with(probe)))
    }

    async fn probe(&self, stream: TcpStream) {
        let stream = WriteTimeout::new(stream, self.lifecycle.initial.unread);
        connection::probe(stream, &self.http, &self.lifecycle.stop).await;
    }

    async fn requests(self: Arc<Self>, stream: std::net::TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
        let lifecycle = &self.lifecycle;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%from, %error, "connection lost"),
        };
        // Tokens are small and go out one by one: waiting for an acknowledgement would delay each by 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%from, %error, "no TCP_NODELAY");
        }
        let stream = WriteTimeout::new(stream, lifecycle.initial.unread);
        // A child token has its own lock. Each poll takes it, and connections must not contend for it.
        let stop = lifecycle.stop.child_token();
        let idle_timeout = lifecycle.initial.head_timeout;
        let served = connection::serve(stream, &self.http, idle_timeout, &self.handler, &lifecycle.heads, &stop).await;
        if let Err(error) = served {
            // Callers disconnect and send invalid requests; neither is the server's failure.
            tracing::debug!(%from, %error, "connection ended early");
        }
        drop(permit);
    }
}

/// The first bytes of a probe.
const PROBES: [&[u8]; 3] = [b"GET /healthz ", b"GET /healthz?", b"HEAD /healthz "];
/// The number of connections over the limit that may prove to be probes.
const SPARE_CONNECTIONS: usize = 64;
/// The time for their first bytes: a probe's come with its connection.
const PROBE_TIMEOUT: Duration = Duration::from_millis(20);

async fn reject(mut stream: TcpStream) {
    // The response fits into the socket's buffer, so that no caller can delay the server here.
    let _ = timeout(Duration::from_millis(10), stream.write_all(&PlainRefusal::FULL.response())).await;
}

/// Waits after a failed accept: not at all if the caller has gone, and a moment if the system has run out of resources.
async fn back_off(error: &io::Error) {
    let gone = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    if !gone {
        tracing::error!(%error, "accept failed");
        sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn hundreds_of_callers_may_come_before_the_first_is_accepted() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // A system with a full queue delays a caller by a second or more.
        let limit = Duration::from_millis(900);
        let came: Result<Vec<_>, _> = (0..300).map(|_| TcpStream::connect_timeout(&address, limit)).collect();
        assert_eq!(came.unwrap().len(), 300);
    }
}
