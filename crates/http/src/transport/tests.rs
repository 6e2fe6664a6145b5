mod age;
mod kept;
mod silent;
mod streams;
mod tls_server;

use std::{error::Error, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt;

use super::{HttpClient, TransportError, reach::Reach};
use crate::protocol::RequestBody;

/// A server for one connection: gives back what it read up to the end of the head, and sends `answer`.
async fn serve_once(answer: &'static [u8]) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let head = read_head(&mut stream).await;
        stream.write_all(answer).await.expect("the client reads");
        stream.shutdown().await.expect("the client is there");
        head
    });
    (address, served)
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("ASCII")
}

fn get(url: &str) -> Request<RequestBody> {
    Request::get(url).body(RequestBody::default()).expect("a valid URL")
}

fn sources(error: &TransportError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[tokio::test]
async fn a_client_of_one_address_keeps_the_name_of_the_server() {
    let (address, served) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let (ip, port) = address.rsplit_once(':').expect("a port");
    let client = HttpClient::new().no_proxy().address(ip.parse().expect("an address"));
    let response = client.oneshot(get(&format!("http://no-such-name.invalid:{port}/"))).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let head = served.await.expect("served");
    assert!(head.to_lowercase().contains(&format!("host: no-such-name.invalid:{port}")), "{head}");
}

/// A file that is removed with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steadfast-{}-{name}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("the temporary folder is writable");
        file.write_all(content.as_bytes()).expect("space for a few bytes");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[test]
fn building_needs_no_runtime() {
    let client = HttpClient::new().connect_timeout(Duration::from_secs(1)).no_proxy();
    assert!(format!("{client:?}").contains("connect_timeout: 1s"));
}

#[tokio::test]
async fn plain_http_on_loopback_is_allowed() {
    let (address, served) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let client = HttpClient::new().no_proxy();
    let response = client.oneshot(get(&format!("http://{address}/v1?x=1"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hi");
    assert!(served.await.unwrap().starts_with("GET /v1?x=1 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn plain_answers_are_asked_for_unless_the_request_asks_for_others() {
    for (said, sent) in [(None, "identity"), (Some("gzip, br"), "gzip, br")] {
        let (address, served) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let mut request = get(&format!("http://{address}/"));
        request.headers_mut().extend(said.map(|said| (http::header::ACCEPT_ENCODING, said.parse().unwrap())));
        HttpClient::new().no_proxy().oneshot(request).await.unwrap();
        let head = served.await.unwrap();
        assert!(head.contains(&format!("accept-encoding: {sent}\r\n")), "{head}");
        assert_eq!(head.matches("accept-encoding").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn redirect_is_handed_back_and_not_followed() {
    let (address, _served) =
        serve_once(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
            .await;
    let client = HttpClient::new().no_proxy();
    let response = client.oneshot(get(&format!("http://{address}/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn refused_connection_is_a_connect_error() {
    // Bind and drop: nothing listens at this address then.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = HttpClient::new().no_proxy();
    let error = client.oneshot(get(&format!("http://{address}/"))).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(error.to_string(), "could not connect");
    assert!(!error.is_local_network(), "{error:?}");
    assert!(error.connection().is_some());
}

#[tokio::test]
async fn a_failed_name_lookup_and_an_absent_proxy_are_this_machines_network() {
    let client = HttpClient::new().no_proxy();
    let error = client.oneshot(get("http://no-such-name.invalid/")).await.unwrap_err();
    assert!(error.is_connect() && error.is_local_network(), "{error:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in ["https://provider.test/", "http://provider.test/"] {
        let client = HttpClient::new().proxy(&format!("http://{nobody}")).unwrap();
        let error = client.oneshot(get(url)).await.unwrap_err();
        assert!(error.is_connect() && error.is_local_network(), "{error:?}");
    }
}

#[tokio::test]
async fn several_hosts_that_refuse_at_once_are_this_machines_network() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let reach = Arc::new(Reach::default());
    // Each leaf has a client of its own, and both protocols connect by the same.
    for (url, is_local) in [
        ("http://one.test", false),
        ("https://one.test", false),
        ("https://two.test", true),
        ("http://one.test", true),
        ("http://two.test", true),
    ] {
        let client = HttpClient::new().no_proxy().address(nobody.ip()).reach(reach.clone());
        let error = client.oneshot(get(&format!("{url}:{}/", nobody.port()))).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        assert_eq!(error.is_local_network(), is_local, "{url}: {error:?}");
    }
    let (address, _served) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (ip, port) = address.rsplit_once(':').unwrap();
    let client = HttpClient::new().no_proxy().address(ip.parse().unwrap()).reach(reach);
    assert!(client.clone().oneshot(get(&format!("http://three.test:{port}/"))).await.is_ok());
    for host in ["one.test", "two.test"] {
        let error = client.clone().oneshot(get(&format!("http://{host}:{}/", nobody.port()))).await.unwrap_err();
        assert!(!error.is_local_network(), "{host}: another one answers");
    }
}

#[tokio::test]
async fn a_broken_answer_has_the_number_of_its_connection() {
    let (address, _served) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi").await;
    let response = HttpClient::new().no_proxy().oneshot(get(&format!("http://{address}/"))).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert!(error.connection().is_some() && !error.is_connect() && !error.is_local_network(), "{error:?}");
}

#[tokio::test]
async fn connection_closed_before_the_head_is_no_connect_error() {
    let (address, _served) = serve_once(b"").await;
    let client = HttpClient::new().no_proxy();
    let error = client.oneshot(get(&format!("http://{address}/"))).await.unwrap_err();
    assert!(!error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn plain_request_through_a_proxy_names_the_whole_url_and_authorizes() {
    let (proxy, served) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let client = HttpClient::new().proxy(&format!("http://ann:secret@{proxy}")).unwrap();
    client.oneshot(get("http://provider.test/v1")).await.unwrap();
    let head = served.await.unwrap();
    assert!(head.starts_with("GET http://provider.test/v1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic YW5uOnNlY3JldA==\r\n"), "{head}");
}

#[tokio::test]
async fn tls_through_a_proxy_asks_for_a_tunnel() {
    let (proxy, served) = serve_once(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
    let client = HttpClient::new().proxy(&format!("http://ann:secret@{proxy}")).unwrap();
    let error = client.oneshot(get("https://provider.test/v1")).await.unwrap_err();
    assert!(error.is_connect());
    assert!(sources(&error).contains("proxy authorization required"), "{}", sources(&error));
    let head = served.await.unwrap();
    assert!(head.starts_with("CONNECT provider.test:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn connecting_is_limited_proxy_and_tls_included() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Takes the connection and never answers the handshake.
    let _silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let client = HttpClient::new().no_proxy().connect_timeout(Duration::from_secs(3));
    let error = client.oneshot(get(&format!("https://{address}/"))).await.unwrap_err();
    assert!(error.is_connect());
    assert!(sources(&error).ends_with("no connection within 3s"), "{}", sources(&error));
}

#[test]
fn proxy_that_cannot_be_used_is_refused_without_its_password() {
    for url in ["socks5://ann:secret@host:1", "host:1", "http://ann:secret@ho st"] {
        let error = HttpClient::new().proxy(url).unwrap_err().to_string();
        assert!(error.starts_with("cannot use the proxy: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn ca_file_errors_name_the_file_and_the_cause() {
    let empty = Scratch::new("empty.pem", "no certificate here\n");
    let broken = Scratch::new("broken.pem", &CERTIFICATE.replace("MII", "!!!"));
    let absent = std::env::temp_dir().join("steadfast-there-is-no-such-file.pem");
    for (path, cause) in [(&empty.0, "it holds no PEM certificate"), (&broken.0, "base64"), (&absent, "No such file")] {
        let error = HttpClient::new().ca_file(path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains(cause), "{error}");
    }
}

#[test]
fn ca_file_adds_to_the_trusted_certificates() {
    let file = Scratch::new("ca.pem", CERTIFICATE);
    assert!(HttpClient::new().ca_file(&file.0).is_ok());
}

/// Self-signed for this test; its key was thrown away.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBkDCCATWgAwIBAgIUUofpVCgUzlHUINQUXKI9OK+8x5MwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRc3RlYWRmYXN0IHRlc3QgQ0EwIBcNMjYxMTIwMDcwOTAyWhgP
MjEyNjEwMjcwNzA5MDJaMBwxGjAYBgNVBAMMEXN0ZWFkZmFzdCB0ZXN0IENBMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyyTdnIgpdmck9UdmoVYmvvlNTA3QSkKY
/i+NhKhQUn62/Nn947/R++g0wnT+zGkqdShS42RUzDmd+rMMtN5M2qNTMFEwHQYD
VR0OBBYEFAMZHfVwyLv59SUTurS/VgG+mG4SMB8GA1UdIwQYMBaAFAMZHfVwyLv5
9SUTurS/VgG+mG4SMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIh
AOEzOK3v8R0gZKDgDd+iGZBZ+uIFazqAEjC5aRrpPcxvAiEA4Tlj/4rl4Ofos2/r
LdkVrwRr9Rlxz1pvIG3gz9rF2oY=
-----END CERTIFICATE-----
";
