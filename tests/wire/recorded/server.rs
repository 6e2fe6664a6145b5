//! A small HTTP server on loopback: it answers each request with the recording that its path names, in pieces cut
//! anywhere, and keeps the request.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::recordings::Exchange;

/// A request as the server received it.
#[derive(Clone, Default)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Begins to serve. The exchange `n` is at `/<n>/`.
    pub(crate) async fn start(exchanges: Arc<Vec<Exchange>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(vec![Received::default(); exchanges.len()]));
        let all = received.clone();
        tokio::spawn(async move {
            let mut seed = 0;
            while let Ok((stream, _)) = listener.accept().await {
                seed += 1;
                tokio::spawn(serve(stream, exchanges.clone(), all.clone(), fastrand::Rng::with_seed(seed)));
            }
        });
        Self { address, received }
    }

    /// The newest request for the exchange `n`.
    pub(crate) fn received(&self, n: usize) -> Received {
        self.received.lock().unwrap()[n].clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    exchanges: Arc<Vec<Exchange>>,
    received: Arc<Mutex<Vec<Received>>>,
    mut rng: fastrand::Rng,
) {
    let _ = stream.set_nodelay(true);
    let mut read = Vec::new();
    while let Some((n, request)) = request(&mut stream, &mut read).await {
        received.lock().unwrap()[n] = request;
        if answer(&mut stream, &exchanges[n], &mut rng).await.is_err() {
            return;
        }
    }
}

/// The next request of a connection, and the exchange that it asks for.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(usize, Received)> {
    let head = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    let text = std::str::from_utf8(&read[..head]).expect("an HTTP head");
    let mut lines = text.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<http::HeaderName>().ok()?, value.parse().ok()?);
    }
    let length: usize = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    while read.len() < head + length {
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
    let body = read[head..head + length].to_vec();
    read.drain(..head + length);
    let n = path.split('/').nth(1)?.parse().ok()?;
    Some((n, Received { path, headers, body }))
}

async fn answer(stream: &mut TcpStream, exchange: &Exchange, rng: &mut fastrand::Rng) -> std::io::Result<()> {
    let mut out = format!("HTTP/1.1 {}\r\ntransfer-encoding: chunked\r\n", exchange.status.as_u16()).into_bytes();
    for (name, value) in &exchange.headers {
        out.extend_from_slice(format!("{name}: ").as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    for piece in pieces(&exchange.body, rng) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        // Sometimes several pieces arrive at once, sometimes each alone.
        if rng.u8(..) < 8 {
            stream.write_all(&out).await?;
            out.clear();
            tokio::task::yield_now().await;
        }
    }
    out.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&out).await
}

/// The bytes cut into pieces, small and large ones mixed.
pub(crate) fn pieces<'a>(mut bytes: &'a [u8], rng: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let longest = if rng.bool() { 7 } else { 1500 };
        let (piece, rest) = bytes.split_at(rng.usize(1..=bytes.len().min(longest)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
