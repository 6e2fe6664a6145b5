//! Requests on a connection, of any bytes.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use crate::{lock::lock, mutation::pieces};

/// A request: its method and target, and its body.
type Seen = (String, Vec<u8>);

/// A connection that brings these bytes in pieces, and takes whatever is written.
struct Pieces(Vec<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whatever the pieces: no request is served that a strict reader of the same bytes would not find there.
///
/// # Panics
///
/// One is.
pub fn requests(bytes: &[u8], seed: u64) {
    let strict = strict(bytes);
    for longest in [1, 5, 200, 1 << 16] {
        let mut pieces: Vec<_> = pieces(bytes, longest, seed).into_iter().map(<[u8]>::to_vec).collect();
        pieces.reverse();
        let served = served(Pieces(pieces));
        assert!(
            strict.starts_with(&served),
            "in pieces of up to {longest} bytes: served {served:?}, strict {strict:?}, of {:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

/// Returns the requests that were served whole.
fn served(connection: Pieces) -> Vec<Seen> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let (head, body) = request.into_parts();
            let status = match body.collect().await {
                Ok(body) => {
                    let body = body.to_bytes().to_vec();
                    lock(&seen).push((format!("{} {}", head.method, head.uri), body));
                    StatusCode::OK
                }
                Err(_) => StatusCode::BAD_REQUEST,
            };
            let mut response = Response::new(Empty::<Bytes>::new());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Socket::new(connection));
    let mut http = http1::Builder::new();
    let mut connection = pin!(http.header_read_timeout(None).half_close(true).serve_connection(io, service));
    // All of it is there, so that it waits for nothing but its turns.
    let mut context = Context::from_waker(Waker::noop());
    let ended = (0..1 << 20).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(ended, "the connection ends");
    std::mem::take(&mut *lock(&seen))
}

/// Returns the requests of a reader that ends at the first line break without CR in a head, and follows RFC 9112.
fn strict(mut bytes: &[u8]) -> Vec<Seen> {
    let mut requests = Vec::new();
    while let Some((request, rest)) = next(bytes) {
        requests.push(request);
        bytes = rest;
    }
    requests
}

fn next(mut bytes: &[u8]) -> Option<(Seen, &[u8])> {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let mut lines = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let (first, fields) = lines.split_first()?;
    let mut words = first.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (method, target) = (words.next()?, words.next()?);
    let values = |name: &str| -> Vec<String> {
        let fields = fields.iter().filter_map(|field| {
            let colon = field.iter().position(|byte| *byte == b':')?;
            let (own, value) = field.split_at(colon);
            own.eq_ignore_ascii_case(name.as_bytes()).then(|| String::from_utf8_lossy(&value[1..]).trim().to_owned())
        });
        fields.collect()
    };
    let (codings, lengths) = (values("transfer-encoding"), values("content-length"));
    let body = if codings.is_empty() {
        let length = lengths.first().map_or(Some(0), |length| length.parse().ok())?;
        if lengths.iter().any(|other| other.parse() != Ok(length)) {
            return None;
        }
        let (body, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        body.to_vec()
    } else {
        let mut body = Vec::new();
        loop {
            let (size, rest) = line(bytes)?;
            let digits: Vec<u8> = size.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
            if size == 0 {
                bytes = rest;
                break;
            }
            let (chunk, rest) = rest.split_at_checked(size)?;
            body.extend_from_slice(chunk);
            bytes = rest.strip_prefix(b"\r\n")?;
        }
        loop {
            let (trailer, rest) = line(bytes)?;
            bytes = rest;
            if trailer.is_empty() {
                break;
            }
        }
        body
    };
    // A fragment is no part of a target.
    let target = target.split(|byte| *byte == b'#').next()?;
    let head = [method, target].map(String::from_utf8_lossy).join(" ");
    Some(((head, body), bytes))
}

/// Returns the bytes before and behind a line's end, CRLF; nothing if a line ends otherwise.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some((bytes[..end].strip_suffix(b"\r")?, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::mutated;

    const GOOD: [&str; 3] = [
        "POST /a HTTP/1.1\r\nhost: a\r\nContent-Length: 7\r\n\r\na\nb\n\ncdPOST /b HTTP/1.1\r\nhost: a\r\n\
         Transfer-encoding:chunked\r\n\r\n3;x=y\r\n\n\n\n\r\nA\r\n123456789\n\r\n0\r\nx: y\r\n\r\nGET /c HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcPOST /c HTTP/1.1\r\n\
         content-length: 0\r\nhost: a\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1b\r\nPOST /x HTTP/1.1\r\nhost: a\r\n\r\n0\r\n\r\n",
    ];
    const WORDS: [&str; 14] = [
        "\r\n",
        "\n",
        "\r",
        "\n\r\n",
        "\0",
        ":",
        " ",
        "content-length: 3\r\n",
        "transfer-encoding: chunked\r\n",
        "0\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\n\r\n",
        "x: y\r\n",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        ";x",
    ];

    #[test]
    fn what_is_good_is_served_whole() {
        for (good, count) in GOOD.into_iter().zip([3, 3, 1]) {
            let strict = strict(good.as_bytes());
            assert_eq!(strict.len(), count, "{good}");
            assert_eq!(served(Pieces(vec![good.as_bytes().to_vec()])), strict);
        }
    }

    /// Inputs of the target in `fuzz/`.
    #[test]
    fn inputs_that_were_found_hold() {
        requests(b"POST /#a HTTP/1.1\r\nhoct:se\r\ncontent-length: 07\r\n\r\na\nb\n\ncd", 0);
    }

    #[test]
    fn no_request_is_served_that_a_strict_reader_does_not_find() {
        let mut random = fastrand::Rng::with_seed(9);
        for seed in 0..3_000 {
            let good = GOOD[random.usize(..GOOD.len())].as_bytes();
            requests(&mutated(good, &WORDS, &mut random), seed);
        }
    }
}
