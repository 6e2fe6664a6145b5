//! A switch between the primary and its provider. The block is real, and touches no name server, firewall or
//! configuration of the machine.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use clap::ValueEnum;
use http::{Request, Response};
use serde::Serialize;
use steadfast::providers::{
    http::RequestBody,
    transport::{HttpClient, ResponseBody, ResponseFuture, TransportError},
};
use steadfast_stack::{Secret, Tier};
use tokio::net::{TcpListener, TcpSocket};
use tower::Service;

/// The way in which the primary's provider is blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Blockage {
    /// Connections are refused
    #[default]
    Refused,
    /// Connections are accepted, and no answer ever comes
    Hang,
}

/// The header that marks the primary's requests. The switch removes it.
const MARK: &str = "x-steadfast-live-drill";

/// The HTTP client of a drill's stack. While it is closed, the primary's requests go to an address of this machine that
/// does not answer. The others go to their providers.
#[derive(Clone)]
pub(super) struct Switch {
    client: HttpClient,
    /// The client for the blocked address, without proxies.
    straight: HttpClient,
    blocked_address: Arc<BlockedAddress>,
}

struct BlockedAddress {
    closed: AtomicBool,
    address: SocketAddr,
    /// Kept so that no other process can listen there.
    _listener: Listener,
}

enum Listener {
    /// Bound, but not listening: the system refuses connections.
    Refused(#[allow(dead_code, reason = "held for its lifetime")] TcpSocket),
    /// The system accepts connections, and no one reads them.
    Hang(#[allow(dead_code, reason = "held for its lifetime")] TcpListener),
}

impl Switch {
    /// Creates an open switch.
    pub(super) fn new(blocked: Blockage) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        let listener = match blocked {
            Blockage::Refused => Listener::Refused(socket),
            Blockage::Hang => Listener::Hang(socket.listen(128)?),
        };
        let blocked_address = BlockedAddress { closed: AtomicBool::new(false), address, _listener: listener };
        Ok(Self {
            client: HttpClient::new(),
            straight: HttpClient::new().no_proxy(),
            blocked_address: Arc::new(blocked_address),
        })
    }

    /// Marks this tier's requests for the switch.
    pub(super) fn stop(tier: &mut Tier) {
        tier.headers.insert(MARK.to_owned(), Secret::new("1"));
    }

    pub(super) fn close(&self) {
        self.blocked_address.closed.store(true, Relaxed);
    }

    pub(super) fn open(&self) {
        self.blocked_address.closed.store(false, Relaxed);
    }
}

impl Service<Request<RequestBody>> for Switch {
    type Response = Response<ResponseBody>;
    type Error = TransportError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The clients are always ready too.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> ResponseFuture {
        let marked = request.headers_mut().remove(MARK).is_some();
        if marked && self.blocked_address.closed.load(Relaxed) {
            // The blocked address gets neither the key nor the prompt.
            let mut nothing = Request::new(RequestBody::default());
            if let Ok(uri) = format!("http://{}/", self.blocked_address.address).parse() {
                *nothing.uri_mut() = uri;
            }
            return self.straight.call(nothing);
        }
        self.client.call(request)
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("closed", &self.blocked_address.closed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };
    use tower::ServiceExt as _;

    use super::*;

    /// A provider that answers one request and gives what it read.
    async fn provider() -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 4096];
            let length = stream.read(&mut read).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&read[..length]).into_owned()
        });
        (url, served)
    }

    fn request(url: &str, marked: bool) -> Request<RequestBody> {
        let mut request = Request::post(url).header("x-api-key", "secret").body(RequestBody::from("prompt")).unwrap();
        if marked {
            request.headers_mut().insert(MARK, "1".parse().unwrap());
        }
        request
    }

    #[tokio::test]
    async fn a_closed_switch_refuses_the_primary_and_nobody_else() {
        let (url, served) = provider().await;
        let switch = Switch::new(Blockage::Refused).unwrap();
        switch.close();
        let error = switch.clone().oneshot(request(&url, true)).await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        assert_eq!(switch.clone().oneshot(request(&url, false)).await.unwrap().status(), 204);
        assert!(served.await.unwrap().contains("prompt"));
    }

    #[tokio::test]
    async fn an_open_switch_sends_the_primarys_requests_as_they_are_but_for_the_mark() {
        let (url, served) = provider().await;
        let switch = Switch::new(Blockage::Hang).unwrap();
        switch.close();
        switch.open();
        assert_eq!(switch.oneshot(request(&url, true)).await.unwrap().status(), 204);
        let read = served.await.unwrap();
        assert!(read.contains("x-api-key: secret") && read.contains("prompt") && !read.contains(MARK), "{read}");
    }

    #[tokio::test]
    async fn a_hanging_address_takes_the_connection_and_says_nothing() {
        let switch = Switch::new(Blockage::Hang).unwrap();
        switch.close();
        let waiting =
            timeout(Duration::from_millis(50), switch.clone().oneshot(request("http://127.0.0.1:1/v1", true)));
        let ended = waiting.await;
        assert!(ended.is_err(), "neither an answer nor an error: {ended:?}");
    }
}
