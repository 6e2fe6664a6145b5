//! The part of HTTP/1.1 that both ends need, and no more: their cost comes from the contestants' share of the machine.

use std::io;

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One end of a connection, with what was read ahead.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    ahead: BytesMut,
}

/// The head of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of a request; empty in a response.
    pub path: String,
    /// Of a response; 0 in a request.
    pub status: u16,
    pub framing: Framing,
    /// The sender closes the connection after this message.
    pub closes: bool,
}

/// The length of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Of which kind the messages are that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

impl Connection {
    /// # Errors
    ///
    /// The socket refuses to send at once.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: BytesMut::with_capacity(READ) })
    }

    /// # Errors
    ///
    /// The other side is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next head; `None` where the other side has closed the connection between two messages.
    ///
    /// # Errors
    ///
    /// The connection breaks, or the bytes are no HTTP.
    pub async fn head(&mut self, kind: Kind) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = memmem::find(&self.ahead, b"\r\n\r\n") {
                let head = parse(kind, &self.ahead[..end + 4]).ok_or_else(|| wrong("no head of HTTP/1.1"))?;
                self.ahead.advance(end + 4);
                return Ok(Some(head));
            }
            if self.ahead.len() > LONGEST_HEAD {
                return Err(wrong("the head does not end"));
            }
            if self.read().await? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads the body behind a head into `body`, which is emptied first.
    ///
    /// # Errors
    ///
    /// The connection breaks before the body's end, or its chunks are none.
    pub async fn body(&mut self, mut framing: Framing, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        if let Framing::Length(length) = framing {
            self.at_least(length).await?;
        }
        while self.part(&mut framing, body).await? {}
        Ok(())
    }

    /// Appends what comes next of a body to `body`, a chunk or what can be read at once; false at the body's end.
    ///
    /// # Errors
    ///
    /// The connection breaks before the body's end, or its chunks are none.
    pub async fn part(&mut self, framing: &mut Framing, body: &mut Vec<u8>) -> io::Result<bool> {
        match framing {
            Framing::Length(0) => Ok(false),
            Framing::Length(left) => {
                self.at_least(1).await?;
                let length = self.ahead.len().min(*left);
                *left -= length;
                self.take(length, body);
                Ok(true)
            }
            Framing::Chunked => {
                let size = self.line().await?;
                if size == 0 {
                    // The trailers, up to an empty line.
                    while self.text_line().await? > 0 {}
                    return Ok(false);
                }
                self.at_least(size + 2).await?;
                self.take(size, body);
                self.ahead.advance(2);
                Ok(true)
            }
            Framing::UntilClose => {
                let more = !self.ahead.is_empty() || self.read().await? > 0;
                self.take(self.ahead.len(), body);
                Ok(more)
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.ahead.reserve(READ);
        self.stream.read_buf(&mut self.ahead).await
    }

    async fn at_least(&mut self, length: usize) -> io::Result<()> {
        while self.ahead.len() < length {
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.ahead[..length]);
        self.ahead.advance(length);
    }

    /// The size that the next line says.
    async fn line(&mut self) -> io::Result<usize> {
        loop {
            match httparse::parse_chunk_size(&self.ahead) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.ahead.advance(used);
                    return usize::try_from(size).map_err(|_| wrong("a chunk without bounds"));
                }
                Ok(httparse::Status::Partial) => self.at_least(self.ahead.len() + 1).await?,
                Err(_) => return Err(wrong("a chunk without a size")),
            }
        }
    }

    /// Passes over a line and gives its length without the end.
    async fn text_line(&mut self) -> io::Result<usize> {
        loop {
            if let Some(end) = memmem::find(&self.ahead, b"\r\n") {
                self.ahead.advance(end + 2);
                return Ok(end);
            }
            self.at_least(self.ahead.len() + 1).await?;
        }
    }
}

fn parse(kind: Kind, bytes: &[u8]) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let (path, status) = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut headers);
            request.parse(bytes).ok()?;
            (request.path?.to_owned(), 0)
        }
        Kind::Response => {
            let mut response = httparse::Response::new(&mut headers);
            response.parse(bytes).ok()?;
            (String::new(), response.code?)
        }
    };
    let of =
        |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
    let framing = match (of("transfer-encoding"), of("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (_, Some(length)) => Framing::Length(std::str::from_utf8(length).ok()?.trim().parse().ok()?),
        _ if kind == Kind::Request => Framing::Length(0),
        _ => Framing::UntilClose,
    };
    let closes = of("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    Some(Head { path, status, framing, closes: closes || framing == Framing::UntilClose })
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The number of bytes to ask for in one read.
const READ: usize = 32 << 10;
const LONGEST_HEAD: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (theirs, Connection::new(listener.accept().await.unwrap().0).unwrap())
    }

    #[tokio::test]
    async fn a_body_in_chunks_is_put_together_wherever_it_is_cut() {
        let text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\nHTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno";
        for cut in 1..text.len() {
            let (mut theirs, mut ours) = pair().await;
            let sending = async {
                theirs.write_all(&text[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                theirs.write_all(&text[cut..]).await.unwrap();
            };
            let reading = async {
                let mut body = Vec::new();
                let head = ours.head(Kind::Response).await.unwrap().unwrap();
                ours.body(head.framing, &mut body).await.unwrap();
                assert_eq!((head.status, &body[..]), (200, &b"abcdefg"[..]));
                let head = ours.head(Kind::Response).await.unwrap().unwrap();
                ours.body(head.framing, &mut body).await.unwrap();
                assert_eq!((head.status, &body[..]), (503, &b"no"[..]));
            };
            tokio::join!(sending, reading);
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        for text in [
            "content-length: 9\r\n\r\nshort",
            "transfer-encoding: chunked\r\n\r\n9\r\nshort",
            "transfer-encoding: chunked\r\n\r\n1\r\na\r\n",
        ] {
            let (mut theirs, mut ours) = pair().await;
            theirs.write_all(format!("HTTP/1.1 200 OK\r\n{text}").as_bytes()).await.unwrap();
            drop(theirs);
            let head = ours.head(Kind::Response).await.unwrap().unwrap();
            assert!(ours.body(head.framing, &mut Vec::new()).await.is_err(), "{text}");
        }
    }
}
