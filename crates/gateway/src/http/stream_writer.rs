//! The writer of streamed answers: the head, and each event as a chunk as soon as it arrives.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    pin::Pin,
    task::Poll,
    time::UNIX_EPOCH,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, Response, header, response};
use http_body::{Body as _, Frame};
use httpdate::HttpDate;
use steadfast_internal::wall_clock;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::socket::Socket;

/// The number of bytes at which the writer flushes although more are ready.
const FLUSH_AT: usize = 16 << 10;
/// The capacity that a waiting stream keeps of its buffer: room for a usual event.
const KEPT_CAPACITY: usize = 512;
/// The number of bytes of the caller's next request that are read during an answer. Reading is how a disconnect shows.
const READ_AHEAD: usize = 8 << 10;

/// Marks a response that [`send`] can send: it is a stream, and its request has been read to the last byte. An unread
/// rest would be taken for the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectStream;

/// Sends a whole response in chunks. With `closes` it is the last one on this connection, and its head says so.
///
/// # Errors
///
/// The caller has disconnected or does not read, or the body broke. The connection must then end, for the response has
/// not.
pub(crate) async fn send<S>(socket: &mut Socket<S>, response: Response<Body>, closes: bool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (head, mut body) = response.into_parts();
    let mut out = encode_head(&head, closes);
    drop(head);
    loop {
        let next = poll_fn(|cx| {
            // A disconnected caller needs nothing more.
            if let Poll::Ready(left) = socket.poll_disconnect(READ_AHEAD, cx) {
                return Poll::Ready(Step::Disconnected(left));
            }
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Step::Frame(frame)),
                Poll::Pending if out.is_empty() => Poll::Pending,
                Poll::Pending => Poll::Ready(Step::Idle),
            }
        })
        .await;
        let is_over = match next {
            Step::Disconnected(error) => return Err(error),
            Step::Frame(Some(Err(error))) => return Err(io::Error::other(error)),
            Step::Frame(Some(Ok(frame))) => {
                // Streams have no trailers.
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    push_chunk(&data, &mut out);
                }
                if out.len() < FLUSH_AT {
                    continue;
                }
                false
            }
            Step::Frame(None) => {
                out.extend_from_slice(b"0\r\n\r\n");
                true
            }
            Step::Idle => false,
        };
        socket.write_all(&out).await?;
        if is_over {
            return socket.flush().await;
        }
        match out.capacity() {
            ..=KEPT_CAPACITY => out.clear(),
            _ => out = Vec::new(),
        }
    }
}

/// The next step of a stream.
enum Step {
    /// The caller has disconnected.
    Disconnected(io::Error),
    Frame(Option<Result<Frame<Bytes>, axum::Error>>),
    /// The body has no more at the moment.
    Idle,
}

/// Returns the head in its wire format.
fn encode_head(head: &response::Parts, closes: bool) -> Vec<u8> {
    const OWN_HEADERS: [HeaderName; 4] =
        [header::CONNECTION, header::CONTENT_LENGTH, header::DATE, header::TRANSFER_ENCODING];
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(name)) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    let date = HttpDate::from(UNIX_EPOCH + wall_clock::since_1970());
    // Writing to memory cannot fail.
    let _ = write!(out, "transfer-encoding: chunked\r\ndate: {date}\r\n\r\n");
    out
}

fn push_chunk(data: &[u8], out: &mut Vec<u8>) {
    out.reserve(data.len() + 20);
    // Writing to memory cannot fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    fn answer(events: &[&'static str]) -> Response<Body> {
        let events: Vec<_> =
            events.iter().map(|event| Ok::<_, io::Error>(Bytes::from_static(event.as_bytes()))).collect();
        let mut response = Response::new(Body::from_stream(futures_util::stream::iter(events)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        response
    }

    #[tokio::test]
    async fn a_stream_is_sent_in_chunks_and_ends_as_one() {
        for closes in [true, false] {
            let (ours, mut theirs) = duplex(1 << 20);
            let mut socket = Socket::new(ours);
            send(&mut socket, answer(&["data: 1\n\n", "", "data: 2\n\n"]), closes).await.unwrap();
            drop(socket);
            let mut read = String::new();
            theirs.read_to_string(&mut read).await.unwrap();
            let (head, body) = read.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{head}");
            assert!(head.contains("\r\ntransfer-encoding: chunked\r\n") && head.contains("\r\ndate: "), "{head}");
            assert!(!head.contains("content-length") && head.contains("connection: close") == closes, "{head}");
            assert_eq!(body, "9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_does_not_end_as_a_whole_one() {
        let broken = [Ok(Bytes::from_static(b"data: 1\n\n")), Err(io::Error::other("broken"))];
        let response = Response::new(Body::from_stream(futures_util::stream::iter(broken)));
        let (ours, mut theirs) = duplex(1 << 20);
        let mut socket = Socket::new(ours);
        send(&mut socket, response, false).await.unwrap_err();
        drop(socket);
        let mut read = String::new();
        theirs.read_to_string(&mut read).await.unwrap();
        assert!(!read.contains("0\r\n\r\n"), "{read}");
    }

    #[tokio::test]
    async fn a_caller_that_leaves_ends_its_stream_and_one_that_asks_ahead_does_not() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut socket = Socket::new(ours);
        let response = Response::new(Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>()));
        let sending = send(&mut socket, response, false);
        let leaving = async {
            theirs.write_all(b"GET /next HTTP/1.1\r\n").await.unwrap();
            tokio::task::yield_now().await;
            drop(theirs);
        };
        let (sent, ()) = tokio::join!(sending, leaving);
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let mut ahead = [0; 20];
        socket.read_exact(&mut ahead).await.unwrap();
        assert_eq!(&ahead, b"GET /next HTTP/1.1\r\n");
    }
}
