//! Connections to `http://` servers are kept, and belong to the request that is on them.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::ServiceExt;

use super::{HttpClient, get, read_head};
use crate::{protocol::RequestBody, transport::ResponseBody};

const SHORT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// A server that is told what to do with each connection.
struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Asks, while the server does its part.
    async fn asked<T>(&self, client: &HttpClient, server: impl Future<Output = T>) -> (Response<ResponseBody>, T) {
        let asking = client.clone().oneshot(get(&format!("http://{}/", self.address)));
        let (response, served) = tokio::join!(asking, server);
        (response.unwrap(), served)
    }
}

async fn answer(stream: &mut TcpStream, answer: &[u8]) {
    read_head(stream).await;
    stream.write_all(answer).await.unwrap();
}

async fn text(response: Response<ResponseBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Ready once the client has closed the connection.
async fn closed(mut stream: TcpStream) {
    let _ = stream.read(&mut [0]).await.map(|read| assert_eq!(read, 0, "nothing more is sent"));
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_is_read() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let (response, mut stream) = server
        .asked(&client, async {
            let mut stream = server.accept().await;
            answer(&mut stream, SHORT).await;
            stream
        })
        .await;
    assert_eq!(text(response).await, "hi");
    for chunked in [false, true] {
        let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n";
        let said = if chunked { &chunks[..] } else { SHORT };
        let (response, ()) = server.asked(&client, answer(&mut stream, said)).await;
        assert_eq!(text(response).await, "hi");
    }
    let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
    let (response, ()) = server.asked(&client, answer(&mut stream, empty)).await;
    // It has no body to read.
    drop(response);
    let (response, ()) = server.asked(&client, answer(&mut stream, SHORT)).await;
    assert_eq!(text(response).await, "hi");
}

#[tokio::test]
async fn an_answer_whose_length_is_reached_need_not_be_asked_for_more() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let (mut response, mut stream) = server
        .asked(&client, async {
            let mut stream = server.accept().await;
            answer(&mut stream, SHORT).await;
            stream
        })
        .await;
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
    drop(response);
    let (response, ()) = server.asked(&client, answer(&mut stream, SHORT)).await;
    assert_eq!(text(response).await, "hi");
}

#[tokio::test]
async fn requests_at_once_have_a_connection_each() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let url = format!("http://{}/", server.address);
    let both = async { tokio::join!(client.clone().oneshot(get(&url)), client.clone().oneshot(get(&url))) };
    let serving = async {
        let mut streams = [server.accept().await, server.accept().await];
        for stream in &mut streams {
            answer(stream, SHORT).await;
        }
        streams
    };
    let ((first, second), _streams) = tokio::join!(both, serving);
    assert_eq!((text(first.unwrap()).await, text(second.unwrap()).await), ("hi".into(), "hi".into()));
}

#[tokio::test]
async fn an_answer_that_is_dropped_before_its_end_closes_its_connection() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhi";
    let (mut response, stream) = server
        .asked(&client, async {
            let mut stream = server.accept().await;
            answer(&mut stream, half).await;
            stream
        })
        .await;
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
    drop(response);
    closed(stream).await;
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let mut asking = Box::pin(client.oneshot(get(&format!("http://{}/", server.address))));
    let serving = async {
        let mut stream = server.accept().await;
        read_head(&mut stream).await;
        stream
    };
    let stream = tokio::select! {
        _ = &mut asking => panic!("nobody has answered"),
        stream = serving => stream,
    };
    drop(asking);
    closed(stream).await;
}

#[tokio::test]
async fn a_request_goes_out_on_a_new_connection_where_the_kept_one_was_closed() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    for _ in 0..3 {
        let (response, stream) = server
            .asked(&client, async {
                let mut stream = server.accept().await;
                answer(&mut stream, SHORT).await;
                stream
            })
            .await;
        assert_eq!(text(response).await, "hi");
        drop(stream);
        // After one exchange with the server, the system has reported the closed connection.
        let mut probe = TcpStream::connect(server.address).await.unwrap();
        drop(server.accept().await);
        assert_eq!(probe.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_its_connection_is_not_kept() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhi";
    let (response, ()) = server.asked(&client, async { answer(&mut server.accept().await, half).await }).await;
    assert!(response.into_body().collect().await.is_err());
    let (response, _stream) = server
        .asked(&client, async {
            let mut stream = server.accept().await;
            answer(&mut stream, SHORT).await;
            stream
        })
        .await;
    assert_eq!(text(response).await, "hi");
}

#[tokio::test]
async fn a_server_that_says_close_is_believed() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    for closing in
        [&b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"[..], b"HTTP/1.0 200 OK\r\n\r\nhi"]
    {
        let (response, ()) = server.asked(&client, async { answer(&mut server.accept().await, closing).await }).await;
        assert_eq!(text(response).await, "hi");
    }
}

#[tokio::test]
async fn a_large_body_goes_out_while_the_answer_comes() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let large = Bytes::from(vec![b'x'; 4 << 20]);
    let request = Request::post(format!("http://{}/", server.address)).body(RequestBody::from(large.clone())).unwrap();
    let echoing: JoinHandle<()> = tokio::spawn(async move {
        let mut stream = server.accept().await;
        let head = read_head(&mut stream).await;
        assert!(head.contains("content-length: 4194304\r\n"), "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4194304\r\n\r\n").await.unwrap();
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut (&mut from).take(4 << 20), &mut to).await.unwrap();
    });
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(text(response).await, large);
    echoing.await.unwrap();
}

#[tokio::test]
async fn host_is_the_servers_unless_the_request_says_another() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let mut request = get(&format!("http://{}/v1?x=1", server.address));
    for own in [false, true] {
        if own {
            request.headers_mut().insert(header::HOST, "elsewhere.test".parse().unwrap());
        }
        let serving = async {
            let mut stream = server.accept().await;
            let head = read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            head
        };
        let (response, head) = tokio::join!(client.clone().oneshot(request.clone()), serving);
        assert_eq!(response.unwrap().status(), StatusCode::OK);
        let host = if own { "elsewhere.test".to_owned() } else { server.address.to_string() };
        assert!(head.starts_with("GET /v1?x=1 HTTP/1.1\r\n") && head.contains(&format!("host: {host}\r\n")), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_let_go_in_its_time() {
    let (server, client) = (Server::new().await, HttpClient::new().no_proxy());
    let (response, stream) = server
        .asked(&client, async {
            let mut stream = server.accept().await;
            answer(&mut stream, SHORT).await;
            stream
        })
        .await;
    assert_eq!(text(response).await, "hi");
    let unused = Instant::now();
    closed(stream).await;
    let kept = unused.elapsed();
    assert!(kept >= Duration::from_secs(50) && kept <= Duration::from_secs(60), "{kept:?}");
    // No timer of the pool is left that would wake up.
    let before = Instant::now();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(before.elapsed(), Duration::from_secs(1));
}
