//! A caller that speaks raw HTTP, of which there can be thousands.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::http::Answer;

/// A text that no log may contain.
pub const SECRETS: [&str; 3] = ["of the prompt", "sk-of-the-provider", "sk-of-the-caller"];

/// A connection to the gateway.
#[derive(Debug)]
pub struct Client {
    /// The body of the response.
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// A request that either dialect takes, with secrets in it.
pub fn request(path: &str, stream: bool, words: &str) -> String {
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":50,"stream":{stream},"messages":[{{"role":"user","content":"the words of the prompt: {words}"}}]}}"#
    );
    let route = if path == "/v1/messages" { "" } else { "x-steadfast-feature: openai\r\n" };
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nx-api-key: sk-of-the-caller\r\n\
         {route}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request on a connection of its own.
pub async fn ask(address: &str, path: &str, stream: bool) -> io::Result<Answer> {
    let mut client = Client::connect(address).await?;
    client.send(request(path, stream, "hello")).await?;
    client.answer().await
}

impl Client {
    /// A refused connection is an outcome too.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends these bytes, whatever they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Reads until what was read holds this.
    pub async fn until(&mut self, text: &str) -> io::Result<()> {
        while !contains(&self.read, text.as_bytes()) {
            self.more().await?;
        }
        Ok(())
    }

    /// Reads until it has so many bytes.
    pub async fn at_least(&mut self, length: usize) -> io::Result<()> {
        while self.read.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    /// All that comes until the other side closes, or breaks off.
    pub async fn rest(mut self) -> String {
        while self.more().await.is_ok() {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Reads a whole response.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let head = self.take_until(b"\r\n\r\n").await?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let mut body = String::new();
        if header("transfer-encoding").is_some() {
            loop {
                let length = self.take_until(b"\r\n").await?;
                let length = usize::from_str_radix(length.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
                body += &self.take(length + 2).await?[..length];
                if length == 0 {
                    break;
                }
            }
        } else if let Some(length) = header("content-length") {
            body = self.take(length.parse().map_err(|_| io::ErrorKind::InvalidData)?).await?;
        }
        Ok(Answer { status, head, body })
    }

    async fn take_until(&mut self, end: &[u8]) -> io::Result<String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|bytes| bytes == end) {
                return self.take(at + end.len()).await;
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<String> {
        while self.read.len() < length {
            self.more().await?;
        }
        let taken = self.read.drain(..length).collect();
        String::from_utf8(taken).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    async fn more(&mut self) -> io::Result<()> {
        // Room for what comes and no more: there are ten thousand of these.
        self.read.reserve(1024);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|part| part == wanted)
}
