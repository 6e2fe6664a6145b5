//! Connections: how many, how slow they may be, and how they end.
//!
//! HTTP/1.1 only: the official clients speak it to any `http://` address, and what stands before a gateway (an ingress, a
//! TLS proxy) does too. A caller that leaves is seen at once, and with its connection goes the call to the provider.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{Gateway, connection, files, patience::Patience, routes::Routes, socket::Plain};

/// How long connections have to send their last bytes once their streams were ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// How many connections may wait to be accepted; a system may allow fewer (`net.core.somaxconn` is 4096 on Linux).
///
/// tokio's own are 128: where more come at once, as after a restart, some are reset and the others wait a second.
const BACKLOG: u32 = 4096;

/// Begins to listen.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The connections of the one before, which are still closing, must not keep this one from its port. Elsewhere than on
    // Unix the same word would let two listen at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until told to stop, then sees them out.
pub(crate) async fn serve(listener: TcpListener, router: Router, gateway: Arc<Gateway>) {
    let settings = &gateway.settings;
    let mut http = http1::Builder::new();
    http.header_read_timeout(settings.head_timeout).max_header_size(settings.head);
    let http = Arc::new(http);
    let room = Arc::new(Semaphore::new(files::connections(settings.connections).min(Semaphore::MAX_PERMITS)));
    let routes = Routes::new(gateway.clone(), router);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = gateway.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => match room.clone().try_acquire_owned() {
                Ok(place) => {
                    connections.spawn(serve_one(stream, from, place, http.clone(), routes.clone(), gateway.clone()));
                }
                Err(_) => turn_away(stream).await,
            },
            Err(error) => rest_after(&error).await,
        }
    }
    // From here on the system refuses connections, so that who balances the load goes elsewhere at once.
    drop(listener);
    connections.close();
    if timeout(gateway.now.load().grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "the time to finish is over: open streams end with an error");
        gateway.cut.cancel();
        // Who does not take its last bytes loses them.
        let _ = timeout(LAST_BYTES, connections.wait()).await;
    }
}

async fn serve_one(
    stream: TcpStream,
    from: SocketAddr,
    place: OwnedSemaphorePermit,
    http: Arc<http1::Builder>,
    routes: Routes,
    gateway: Arc<Gateway>,
) {
    // Tokens are small, and each is sent at once: waiting for an acknowledgement would cost 40 ms each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%from, %error, "no TCP_NODELAY");
    }
    let stream = Patience::new(stream, gateway.settings.unread);
    // A child has a lock of its own: each poll takes it, and connections must not wait for each other there.
    let stop = gateway.stop.child_token();
    let served = connection::serve(stream, &http, gateway.settings.head_timeout, &routes, &stop).await;
    if let Err(error) = served {
        // Callers leave and send nonsense: that is their affair.
        tracing::debug!(%from, %error, "the connection ended early");
    }
    drop(place);
}

async fn turn_away(mut stream: TcpStream) {
    // It fits into the socket's buffer, so that nobody can make us wait here.
    let _ = timeout(Duration::from_millis(10), stream.write_all(&Plain::FULL.response())).await;
}

/// After an accept that failed: at once where the caller was gone, later where the system has nothing left to give.
async fn rest_after(error: &io::Error) {
    let gone = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    if !gone {
        tracing::error!(%error, "no connection can be accepted");
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
        // Where there is no room, the system lets a caller wait for a second, and more.
        let limit = Duration::from_millis(900);
        let came: Result<Vec<_>, _> = (0..300).map(|_| TcpStream::connect_timeout(&address, limit)).collect();
        assert_eq!(came.unwrap().len(), 300);
    }
}
