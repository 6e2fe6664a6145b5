//! A simulated provider as a real HTTP server on loopback.
//!
//! It speaks Anthropic Messages (`POST /v1/messages`), OpenAI Chat Completions (`POST /v1/chat/completions`), OpenAI
//! Responses (`POST /v1/responses`) and Gemini (`POST /v1beta/models/{model}:generateContent` and
//! `:streamGenerateContent?alt=sse`, also under `/v1`), streaming and not, on one port. It checks a request like the
//! real provider ([`check`]): a missing or unknown field, a role out of order, a tool call without a result, a foreign
//! signature or an unknown keyword of a schema is a 400 in the provider's own words. An unknown path is a 404, and the
//! key `bad-key` is refused.
//!
//! The same dialects are behind the doors of three clouds, with their errors and throttling ([`Accounts`] has their
//! credentials):
//!
//! | door | paths | credential |
//! |---|---|---|
//! | Bedrock | `/anthropic/v1/messages`, `/v1/chat/completions`, `/openai/v1/responses` | a verified signature, or a bearer key |
//! | .. | `/model/{id}/invoke`, `/invoke-with-response-stream`, `/converse`, `/converse-stream` in the binary event stream | the same |
//! | Azure | `/openai/v1/..`, `/openai/deployments/{name}/chat/completions?api-version=..`, `/anthropic/v1/messages` | `api-key`, or a bearer token |
//! | Vertex | `/v1/projects/{p}/locations/{l}/publishers/..`, Claude by `rawPredict`, Gemini by `generateContent` | a bearer token |
//!
//! So are their token servers: STS, instance metadata (AWS, Google, Azure), container credentials, SSO, Google's token
//! endpoint and exchange, and Entra. A stack with clouds runs against one server, without a cloud.
//!
//! A [`SimulatedIssuer`] signs the tokens of callers, as an identity provider does.
//!
//! [`InProcess`] speaks the same without a socket, in virtual time.
//!
//! Beneath HTTP, a [`Toxic`] damages the server's bytes, and [`down`](SimulatedServer::down) makes the system refuse
//! connections.
//!
//! # Example
//!
//! ```
//! use steadfast::providers::simulated::{Fault, Simulated};
//! use steadfast_simulator::SimulatedServer;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = SimulatedServer::start(Simulated::new("sonnet")).await?;
//! server.handle().fail_next(1, &Fault::Overloaded);
//!
//! let body = r#"{"model":"m","max_tokens":8,"messages":[{"role":"user","content":"Hi"}]}"#;
//! let mut connection = tokio::net::TcpStream::connect(server.addr()).await?;
//! let request = format!(
//!     "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nanthropic-version: 2023-06-01\r\n\
//!      connection: close\r\ncontent-length: {}\r\n\r\n{body}",
//!     body.len(),
//! );
//! connection.write_all(request.as_bytes()).await?;
//! let mut answer = String::new();
//! connection.read_to_string(&mut answer).await?;
//! assert!(answer.starts_with("HTTP/1.1 529"));
//! assert!(answer.contains("overloaded_error"));
//! # Ok(())
//! # }
//! ```

mod anthropic;
mod check;
mod door;
mod event_stream;
mod gemini;
mod in_process;
mod issuer;
mod openai;
mod play;
mod protocol;
mod refusal;
mod response_form;
mod responses;
mod route;
#[cfg(test)]
mod tests;
mod token_servers;
mod toxic;
mod transcript;

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    task::Poll,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};

use self::toxic::{ToxicStream, Toxics};
pub use self::{
    check::check,
    door::{Accounts, Cloud, TokenFault},
    in_process::{InProcess, InProcessFuture},
    issuer::SimulatedIssuer,
    toxic::Toxic,
    transcript::{ReceivedRequest, Transcript},
};
use steadfast::providers::simulated::{Simulated, SimulatedHandle};

/// A [`Simulated`] provider that listens on loopback.
///
/// See the [module docs](self). Dropping it closes the port and ends every connection;
/// [`stop`](Self::stop) also waits for that.
#[derive(Debug)]
pub struct SimulatedServer {
    addr: SocketAddr,
    provider: Simulated,
    toxics: Toxics,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl SimulatedServer {
    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// The operating system's, if it has no free port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(provider: Simulated) -> io::Result<Self> {
        Self::start_on(provider, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts the server on a free port of 127.0.0.1, with the accounts that its doors know.
    ///
    /// # Errors
    ///
    /// The operating system's, if it has no free port.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start_with(provider: Simulated, accounts: &Accounts) -> io::Result<Self> {
        Self::listen(provider, (Ipv4Addr::LOCALHOST, 0).into(), accounts.clone(), None)
    }

    /// Starts the server on this address.
    ///
    /// # Errors
    ///
    /// The operating system's, if the address is taken or not this machine's.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start_on(provider: Simulated, addr: SocketAddr) -> io::Result<Self> {
        Self::listen(provider, addr, Accounts::default(), None)
    }

    /// Starts the server on this address, and writes every request into the transcript.
    ///
    /// # Errors
    ///
    /// The operating system's, if the address is taken or not this machine's.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start_with_transcript(
        provider: Simulated,
        addr: SocketAddr,
        transcript: &Transcript,
    ) -> io::Result<Self> {
        Self::listen(provider, addr, Accounts::default(), Some(transcript.clone()))
    }

    fn listen(
        provider: Simulated,
        addr: SocketAddr,
        accounts: Accounts,
        transcript: Option<Transcript>,
    ) -> io::Result<Self> {
        let listener = hold(addr)?.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        let toxics = Toxics::default();
        let (orders, receiver) = mpsc::unbounded_channel();
        let scene = Scene { provider: provider.clone(), accounts, transcript, toxics: toxics.clone() };
        let serving = serve(listener, addr, scene, receiver);
        Ok(Self { addr, provider, toxics, orders, task: tokio::spawn(serving) })
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns `http://` and the address, without a path.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns a handle that controls and watches the provider.
    #[must_use]
    pub fn handle(&self) -> SimulatedHandle {
        self.provider.handle()
    }

    /// Adds damage, on open connections too.
    pub fn toxic(&self, toxic: Toxic) {
        self.toxics.add(toxic);
    }

    /// Removes all damage. Connections that hung continue.
    pub fn clear_toxics(&self) {
        self.toxics.clear();
    }

    /// Ends every connection and makes the system refuse new ones, until [`up`](Self::up). The port stays this
    /// server's.
    ///
    /// # Errors
    ///
    /// The operating system's, if another process took the port in between.
    pub async fn down(&self) -> io::Result<()> {
        self.order(Order::Down).await
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    ///
    /// The operating system's, if another process has taken the port.
    pub async fn up(&self) -> io::Result<()> {
        self.order(Order::Up).await
    }

    /// Stops, and waits until the port is free and no task is left.
    pub async fn stop(mut self) {
        self.task.abort();
        // Only this abort ends the task.
        let _ = (&mut self.task).await;
    }

    async fn order(&self, order: fn(oneshot::Sender<io::Result<()>>) -> Order) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        let stopped = || io::Error::other("the server has stopped");
        self.orders.send(order(done)).map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }
}

impl Drop for SimulatedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
enum Order {
    Up(oneshot::Sender<io::Result<()>>),
    Down(oneshot::Sender<io::Result<()>>),
}

/// The state of the server's port.
#[derive(Debug)]
enum Port {
    Up(TcpListener),
    /// Bound, so that no other process gets it, but not listening: the system refuses connections.
    Held(TcpSocket),
    Lost,
}

const BACKLOG: u32 = 1024;

fn hold(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections that are still closing must not block the port for their own server.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Accepts connections and follows orders, until aborted.
async fn serve(listener: TcpListener, addr: SocketAddr, scene: Scene, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut port = Port::Up(listener);
    // Dropped with this future, which drops every connection.
    let mut connections = JoinSet::new();
    loop {
        let event = poll_fn(|cx| {
            if let Poll::Ready(Some(order)) = orders.poll_recv(cx) {
                return Poll::Ready(Event::Ordered(order));
            }
            while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
            match &port {
                Port::Up(listener) => listener.poll_accept(cx).map(Event::Accepted),
                Port::Held(_) | Port::Lost => Poll::Pending,
            }
        });
        let order = match event.await {
            Event::Accepted(Ok((stream, _))) => {
                if !scene.toxics.down() {
                    connections.spawn(connection(stream, scene.clone()));
                }
                continue;
            }
            Event::Accepted(Err(_)) => {
                // Out of file descriptors, or the peer left at once: neither ends the server, and the next accept must
                // not spin.
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            Event::Ordered(order) => order,
        };
        let (result, done) = match order {
            Order::Down(done) => {
                connections.shutdown().await;
                drop(port);
                (hold(addr).map(Port::Held), done)
            }
            Order::Up(done) => (listen_again(port, addr).map(Port::Up), done),
        };
        let result = match result {
            Ok(next) => {
                port = next;
                Ok(())
            }
            Err(error) => {
                port = Port::Lost;
                Err(error)
            }
        };
        // The caller of the order may have stopped waiting.
        let _ = done.send(result);
    }
}

/// Returns a listener on the port, whatever its state.
fn listen_again(port: Port, addr: SocketAddr) -> io::Result<TcpListener> {
    match port {
        Port::Up(listener) => Ok(listener),
        Port::Held(socket) => socket.listen(BACKLOG),
        Port::Lost => hold(addr)?.listen(BACKLOG),
    }
}

enum Event {
    Accepted(io::Result<(TcpStream, SocketAddr)>),
    Ordered(Order),
}

/// The part of a server that all of its connections share.
#[derive(Clone, Debug)]
struct Scene {
    provider: Simulated,
    accounts: Accounts,
    transcript: Option<Transcript>,
    toxics: Toxics,
}

async fn connection(stream: TcpStream, scene: Scene) {
    let Scene { provider, accounts, transcript, toxics } = scene;
    // Tokens are small and each is sent at once.
    let _ = stream.set_nodelay(true);
    let (stream, remains) = ToxicStream::new(stream, toxics.clone());
    let service =
        service_fn(|request| route::answer(request, &provider, &accounts, transcript.as_ref(), || remains.reset()));
    // An error here comes from the script or from a caller that left.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    remains.close(&toxics).await;
}

/// The README's code runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
