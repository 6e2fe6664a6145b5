//! A server with TLS on this machine, and how it is spoken to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use http::{Request, Response};
use http_body_util::BodyExt;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use super::{HttpClient, Scratch, TransportError, get};

/// A connection with TLS, at its server.
pub(super) type Tls = TlsStream<TcpStream>;
/// A connection with HTTP/2, at its server.
pub(super) type Http2 = server::Connection<Tls, Bytes>;

/// A server whose connections a test treats as it likes.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The connections so far.
    pub(super) accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Gives each connection and its number, from 0, to a function.
    pub(super) async fn with<F>(protocol: &[u8], serve: impl Fn(usize, Tls) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with_any(&[protocol], serve).await
    }

    /// Does so for a server of several protocols.
    pub(super) async fn with_any<F>(
        protocols: &[&[u8]],
        serve: impl Fn(usize, Tls) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let acceptor = acceptor(protocols);
        let count = accepted.clone();
        tokio::spawn(async move {
            let serve = Arc::new(serve);
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, serve, number) = (acceptor.clone(), serve.clone(), count.fetch_add(1, SeqCst));
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(number, stream).await;
                    }
                });
            }
        });
        Self { address, accepted }
    }

    /// Serves HTTP/2 with this limit of streams.
    pub(super) async fn http2<F>(limit: u32, serve: impl Fn(usize, Http2) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serve = Arc::new(serve);
        Self::with(b"h2", move |number, stream| {
            let serve = serve.clone();
            async move {
                let connection = server::Builder::new()
                    .max_concurrent_streams(limit)
                    .max_send_buffer_size(64 << 10)
                    .handshake(stream)
                    .await;
                if let Ok(connection) = connection {
                    serve(number, connection).await;
                }
            }
        })
        .await
    }

    pub(super) fn connections(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/", self.address)
    }

    pub(super) async fn ask(&self, client: &HttpClient) -> Result<Bytes, TransportError> {
        timeout(Duration::from_secs(60), self.ask_on(client)).await.expect("an answer or an error in time")
    }

    /// Asks, for as long as it takes.
    pub(super) async fn ask_on(&self, client: &HttpClient) -> Result<Bytes, TransportError> {
        let response = client.clone().oneshot(get(&self.url())).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// Asks so many times at once.
    pub(super) async fn ask_all(&self, client: &HttpClient, count: usize) -> Vec<Result<Bytes, TransportError>> {
        futures_util::future::join_all((0..count).map(|_| self.ask(client))).await
    }
}

/// Serves all that comes, each request by a function, until the client leaves.
pub(super) async fn serve_all<F>(
    mut connection: Http2,
    answer: impl Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

/// Answers "hi".
pub(super) fn say_hi(mut respond: SendResponse<Bytes>) {
    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
        let _gone = body.send_data(Bytes::from_static(b"hi"), true);
    }
}

/// Returns a client that trusts the server.
pub(super) fn client() -> HttpClient {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let file = Scratch::new(&format!("tls-{}.pem", FILES.fetch_add(1, SeqCst)), CERTIFICATE);
    HttpClient::new().no_proxy().connect_timeout(Duration::from_secs(2)).ca_file(&file.0).unwrap()
}

fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config).into()
}

/// Self-signed for these tests, for 127.0.0.1: nobody else trusts it.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBoTCCAUigAwIBAgIUMvvFlKeR3VnnrchcgnKczgfDGg0wCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOc3RlYWRmYXN0IHRlc3QwIBcNMjYxMTI3MTAzNjAzWhgPMjEy
NjExMDMxMDM2MDNaMBkxFzAVBgNVBAMMDnN0ZWFkZmFzdCB0ZXN0MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEwLPKCptWG+DVi+klfdJxsXCuyN/NbNhUmNOON/BF
2OAgobI8252vatiXh8ahWrRtXoAGL05J3pUup2rZ17VstqNsMGowHQYDVR0OBBYE
FI6Lu3khZzhM8e9zoe684gyKeqIPMB8GA1UdIwQYMBaAFI6Lu3khZzhM8e9zoe68
4gyKeqIPMBoGA1UdEQQTMBGHBH8AAAGCCWxvY2FsaG9zdDAMBgNVHRMBAf8EAjAA
MAoGCCqGSM49BAMCA0cAMEQCIBKKi3/svrNw6VUpNlvRk8yuDoCpNIShKxxtBTdK
l09XAiApRkblQ9l0Xmyubk82iPExWUHnKOrCdV+eWZqqqgkMUQ==
-----END CERTIFICATE-----
";

/// Its key, which opens nothing.
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjosq7o9/G/nQ0puM
dlxV6VVlb1S6Yg/UL3RyOBm9OZmhRANCAATAs8oKm1Yb4NWL6SV90nGxcK7I381s
2FSY04438EXY4CChsjzbna9q2JeHxqFatG1egAYvTknelS6natnXtWy2
-----END PRIVATE KEY-----
";
