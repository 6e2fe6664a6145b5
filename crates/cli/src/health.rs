//! `steadfast health`: a readiness check for containers without a shell and for scripts.

use std::{io, time::Duration};

use clap::Args;
use http::{Uri, uri::Scheme};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::Failure;

/// Checks that a gateway is ready: exit code 0 if it is, 1 if it is not or does not answer
#[derive(Args)]
pub(crate) struct Health {
    /// The URL to check
    #[arg(long, value_name = "URL", env = "STEADFAST_HEALTH_URL", default_value = "http://127.0.0.1:8080/readyz")]
    url: Uri,

    /// The seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    timeout: u64,
}

impl Health {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // The gateway speaks no TLS itself.
        if self.url.scheme() != Some(&Scheme::HTTP) {
            return Err(Failure::usage(format_args!("{}: the URL must begin with http://", self.url)));
        }
        let not = |what: &str| Failure::Unready(format!("{}: {what}", self.url));
        match timeout(Duration::from_secs(self.timeout), status(&self.url)).await {
            Ok(Ok(Some(200..=299))) => Ok(()),
            Ok(Ok(Some(status))) => Err(not(&format!("not ready, status {status}"))),
            Ok(Ok(None)) => Err(not("the server does not speak HTTP")),
            Ok(Err(error)) => Err(not(&error.to_string())),
            Err(_) => Err(not("no answer in time")),
        }
    }
}

/// The longest status line that is read, in bytes.
const LONGEST: u64 = 256;

/// Returns the status of the answer to one request; `None` if it is not HTTP.
async fn status(url: &Uri) -> io::Result<Option<u16>> {
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(80);
    let mut stream = TcpStream::connect((host.trim_start_matches('[').trim_end_matches(']'), port)).await?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut answer = stream.take(LONGEST);
    while !head.contains(&b'\n') && answer.read_buf(&mut head).await? > 0 {}
    Ok(parse(&head))
}

fn parse(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\n').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| rest.get(..3)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_its_line_and_from_nothing_else() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nx: y\r\n"), Some(200));
        assert_eq!(parse(b"HTTP/1.1 503 Service Unavailable\r\n"), Some(503));
        for nonsense in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 2", b"200 OK", b"SSH-2.0-x 200", b"\xff\xff 200\n"] {
            assert_eq!(parse(nonsense), None);
        }
    }
}
