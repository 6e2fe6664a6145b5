//! A provider of all protocols on one port: HTTP/1.1 without TLS, as clients alone ask it; HTTP/2 or HTTP/1.1 with TLS.
//!
//! The simulator has its words; its port and its connections are here.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
#[cfg(target_os = "linux")]
use socket2::{SockFilter, SockRef};
use steadfast::providers::simulated::{Simulated, SimulatedHandle};
use steadfast_simulator::InProcess;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tower::{BoxError, Service as _};

use crate::manner::{Manner, Manners};

/// The words of every answer.
pub(crate) const SAID: &str = "All is well from first to last";
/// The prompt whose answer streams for [`LONG`].
pub(crate) const TAKE_YOUR_TIME: &str = "take your time";
/// The prompt whose answer is a stream of about 8 MB.
pub(crate) const EIGHT_MEGABYTES: &str = "eight megabytes";
/// The beginning of a prompt that is refused.
pub(crate) const A_BAD_REQUEST: &str = "a bad request";
/// The duration of a slow stream.
pub(crate) const LONG: Duration = Duration::from_secs(5);

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A network's state between the provider and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Here,
    /// Connections are reset and new ones refused.
    Refused,
    /// Connections are reset, new ones as soon as they are there.
    Reset,
}

/// An order to all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    /// HTTP/2's GOAWAY, or HTTP/1.1's last answer; what is under way ends in good order.
    Leave,
    /// GOAWAY that says that nothing of what is under way was processed, and the connection's end.
    Refuse,
    /// The connection's end.
    Cut,
    /// Silence: nothing arrives or is sent again, and nobody is told.
    Freeze,
}

/// A refusal that answers every call.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: &'static str,
}

struct Shared {
    answers: InProcess,
    slow: InProcess,
    large: InProcess,
    refusal: Mutex<Option<Refusal>>,
    manner: Mutex<Manner>,
    connections: AtomicUsize,
    calls: AtomicUsize,
    tls: TlsAcceptor,
}

/// Anthropic's words for a parameter that is wrong.
const BAD: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content.0: the image is too large"}}"#;

/// A provider, which ends with this.
pub(crate) struct Provider {
    port: u16,
    handle: SimulatedHandle,
    shared: Arc<Shared>,
    network: watch::Sender<Network>,
    /// The order, of all connections that are there by now.
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// Starts it on a free port. With TLS it speaks HTTP/2 to those who can.
    pub(crate) async fn start() -> Self {
        let socket = hold((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let simulated = Simulated::new("provider").reply(SAID);
        let slow = Simulated::new("slow").reply("word ".repeat(20).trim_end()).pace(LONG / 20);
        // An event has about 130 bytes beside its token.
        let large = Simulated::new("large")
            .reply("a-rather-long-word-of-about-sixty-letters-that-goes-on-and-on ".repeat(40_000));
        let (network, network_seen) = watch::channel(Network::Here);
        let (orders, _) = watch::channel(Order::Serve);
        let shared = Arc::new(Shared {
            answers: InProcess::new(simulated.clone()),
            slow: InProcess::new(slow),
            large: InProcess::new(large),
            refusal: Mutex::default(),
            manner: Mutex::default(),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            tls: acceptor(),
        });
        let serving = serve(listener, address, shared.clone(), network_seen, orders.clone());
        let task = tokio::spawn(serving);
        Self { port: address.port(), handle: simulated.handle(), shared, network, orders, task }
    }

    /// Returns the URL without TLS.
    pub(crate) fn plain(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the URL of this host without TLS.
    pub(crate) fn named(&self, host: &str) -> String {
        format!("http://{host}:{}", self.port)
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of this host with TLS.
    pub(crate) fn tls(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// Returns the script of its answers.
    pub(crate) fn script(&self) -> &SimulatedHandle {
        &self.handle
    }

    /// Changes the network between it and the world.
    pub(crate) fn network(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Answers all calls with this from now on.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.shared.refusal.lock().unwrap() = Some(refusal);
    }

    /// Treats its connections so from now on, and ends those that are there.
    pub(crate) fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
        self.leave();
    }

    /// Ends the connections that are there, in good order.
    pub(crate) fn leave(&self) {
        self.orders.send_replace(Order::Leave);
    }

    /// Ends the connections that are there, and says that nothing under way was processed, where the protocol can.
    pub(crate) fn refuse_streams(&self) {
        self.orders.send_replace(Order::Refuse);
    }

    /// Ends the connections that are there.
    pub(crate) fn cut(&self) {
        self.orders.send_replace(Order::Cut);
    }

    /// Falls silent on the connections that are there.
    pub(crate) fn freeze(&self) {
        self.orders.send_replace(Order::Freeze);
    }

    /// Returns the number of calls of a model so far.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(Relaxed)
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Two sockets share the port: the one that listens, and the one that keeps it while nobody does.
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts connections as the network allows, until aborted.
async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut network: watch::Receiver<Network>,
    orders: watch::Sender<Order>,
) {
    let mut listener = Some(listener);
    let mut held = hold(address).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = network.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *network.borrow_and_update();
                if now != Network::Here {
                    // Each is reset as it is dropped.
                    connections.shutdown().await;
                }
                if now == Network::Refused {
                    drop(listener.take());
                } else if listener.is_none() {
                    let next = std::mem::replace(&mut held, hold(address).unwrap());
                    listener = Some(next.listen(1024).unwrap());
                }
            }
            accepted = accepted => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = (stream.set_nodelay(true), stream.set_zero_linger());
                if *network.borrow() == Network::Here {
                    connections.spawn(connection(stream, shared.clone(), orders.subscribe()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection. The first byte of TLS is no letter.
async fn connection(stream: TcpStream, shared: Arc<Shared>, orders: watch::Receiver<Order>) {
    let manners = Manners::of(*shared.manner.lock().unwrap(), shared.connections.fetch_add(1, Relaxed));
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1)) {
        return;
    }
    if first[0] != 0x16 {
        return http1(stream, &socket, shared, manners, orders).await;
    }
    let Ok(stream) = shared.tls.accept(stream).await else { return };
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return http1(stream, &socket, shared, manners, orders).await;
    }
    let refused = Arc::new(AtomicUsize::new(0));
    let io = Goaway { stream, sent: 0, is_due: refused.clone() };
    // The windows are those of common servers: RFC 9113's defaults.
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(manners.streams());
    let service = service(shared, manners.clone());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    match next(&mut serving, &manners, orders).await {
        Some(Order::Cut) => return,
        Some(Order::Leave) => serving.as_mut().graceful_shutdown(),
        Some(Order::Refuse) => refused.store(1, Relaxed),
        Some(Order::Freeze) => return silence(&socket).await,
        Some(Order::Serve) | None => return sleep(READ).await,
    }
    let _ = serving.await;
    sleep(READ).await;
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// The service of a connection with these manners.
fn service(
    shared: Arc<Shared>,
    manners: Manners,
) -> impl hyper::service::HttpService<Incoming, ResBody = Body, Error = BoxError, Future = Answering> {
    service_fn(move |request| {
        let (shared, manners) = (shared.clone(), manners.clone());
        Box::pin(async move { manners.answer(answer(request, shared)).await }) as Answering
    })
}

/// A connection's end is a reset, which takes along what the other side has not read by now.
const READ: Duration = Duration::from_millis(200);

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    socket: &OwnedFd,
    shared: Arc<Shared>,
    manners: Manners,
    orders: watch::Receiver<Order>,
) {
    let service = service(shared, manners.clone());
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    match next(&mut serving, &manners, orders).await {
        Some(Order::Cut | Order::Refuse) => return,
        Some(Order::Leave) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
        Some(Order::Freeze) => return silence(socket).await,
        Some(Order::Serve) | None => {}
    }
    sleep(READ).await;
}

/// Drops all that comes to a connection, without a word: not even the system confirms it.
async fn silence(socket: &OwnedFd) {
    // A BPF program of one instruction: return no byte.
    #[cfg(target_os = "linux")]
    SockRef::from(socket).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    pending().await
}

/// Serves until an order comes; `None` if the connection has ended before.
async fn next<T>(
    serving: &mut (impl Future<Output = T> + Unpin),
    manners: &Manners,
    mut orders: watch::Receiver<Order>,
) -> Option<Order> {
    tokio::select! {
        is_orderly = manners.ends() => Some(if is_orderly { Order::Leave } else { Order::Cut }),
        _ = serving => None,
        changed = orders.changed() => changed.ok().map(|()| *orders.borrow()),
    }
}

/// An HTTP/2 connection that can be ended by a GOAWAY with the last stream 0: nothing was processed.
struct Goaway<T> {
    stream: T,
    sent: usize,
    is_due: Arc<AtomicUsize>,
}

/// RFC 9113, 6.8: length 8, type 7, no flags, stream 0; the last stream 0, NO_ERROR.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl<T: AsyncRead + AsyncWrite + Unpin> Goaway<T> {
    /// Nothing else is written at this moment: every answer waits.
    fn end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < GOAWAY.len() {
            let sent = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &GOAWAY[self.sent..]))?;
            self.sent += sent;
        }
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Goaway<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_due.load(Relaxed) == 0 {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        std::task::ready!(self.end(cx))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Goaway<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let is_call = parts.method == hyper::Method::POST && !parts.uri.path().contains("count");
    let has = |words: &str| body.windows(words.len()).any(|part| part == words.as_bytes());
    let mut service = match () {
        () if has(TAKE_YOUR_TIME) => shared.slow.clone(),
        () if has(EIGHT_MEGABYTES) => shared.large.clone(),
        () => shared.answers.clone(),
    };
    if is_call {
        shared.calls.fetch_add(1, Relaxed);
        let refusal = shared.refusal.lock().unwrap().clone();
        let bad = has(A_BAD_REQUEST).then_some(Refusal { status: 400, body: BAD });
        if let Some(Refusal { status, body }) = refusal.or(bad) {
            let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|never: Infallible| match never {});
            let answer = Response::builder().status(status).header("content-type", "application/json");
            return Ok(answer.body(body.boxed_unsync())?);
        }
    }
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(Request::from_parts(parts, Full::new(body))).await
}
