//! The fake provider: all protocols, answers that are ready before they are asked for, and a switch that takes it down
//! or spoils its answers.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use memchr::memmem;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{
    dialect::{Dialect, Mode},
    http::{Connection, Kind},
    pace,
};

/// The provider's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Whole answers at once.
    Answers,
    /// 503 at once.
    Down,
    /// The first [`BEFORE_CUT`] events of a stream, [`PACE`] apart, or half an answer, and then the connection's end.
    Cut,
    /// Whole answers after [`LATE`].
    Late,
    /// The head of an answer, and then nothing.
    Silent,
    /// Whole answers, of whose streams the events come [`PACE`] apart.
    Paced,
}

impl Way {
    const ALL: [Self; 6] = [Self::Answers, Self::Down, Self::Cut, Self::Late, Self::Silent, Self::Paced];
}

/// The events of a stream that is cut.
pub const BEFORE_CUT: usize = 20;
/// The time until the first byte of a provider that is late.
pub const LATE: Duration = Duration::from_secs(30);
/// The time between two events of a paced stream.
pub const PACE: Duration = Duration::from_millis(20);

/// A provider on a port of its own. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The index in [`Way::ALL`].
    way: AtomicU8,
    asked: AtomicU64,
    /// Before the first byte of an answer.
    latency: Duration,
    /// Between two events of a stream.
    pace: Duration,
    /// Of each dialect.
    answers: [Answers; Dialect::ALL.len()],
}

/// The answers, byte for byte.
#[derive(Debug)]
struct Answers {
    plain: Vec<u8>,
    /// The head, and each event as a chunk.
    stream: Vec<Vec<u8>>,
}

impl Provider {
    /// Listens on a free port of loopback and answers in tasks of this runtime.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start(latency: Duration, pace: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answers = Dialect::ALL.map(Answers::of);
        let shared = Arc::new(Shared { way: AtomicU8::new(0), asked: AtomicU64::new(0), latency, pace, answers });
        let provider = Self { address, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A caller that leaves is no failure of the provider's.
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Ok(provider)
    }

    /// Sets the behaviour from the next request on.
    pub fn set_way(&self, way: Way) {
        self.shared.way.store(way as u8, Ordering::Relaxed);
    }

    /// Returns the number of requests so far.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    let mut body = Vec::new();
    while let Some(head) = connection.head(Kind::Request).await? {
        connection.body(head.framing, &mut body).await?;
        shared.asked.fetch_add(1, Ordering::Relaxed);
        let way = Way::ALL[usize::from(shared.way.load(Ordering::Relaxed))];
        match way {
            Way::Down => {
                connection.send(DOWN).await?;
                continue;
            }
            Way::Late => sleep(LATE).await,
            _ if !shared.latency.is_zero() => sleep(shared.latency).await,
            _ => {}
        }
        let answers = &shared.answers[Dialect::of(&head.path) as usize];
        match (mode(&head.path, &body), way) {
            (Mode::Plain | Mode::Picture, Way::Cut) => {
                return connection.send(&answers.plain[..answers.plain.len() / 2]).await;
            }
            (Mode::Stream, Way::Cut) => {
                // At their pace: of a begin that comes at once with its end, a caller need not see anything.
                return paced(&mut connection, &answers.stream[..BEFORE_CUT], shared.pace).await;
            }
            (mode, Way::Silent) => {
                connection.send(answers.head(mode)).await?;
                // Until the other side has left.
                return connection.head(Kind::Request).await.map(|_| ());
            }
            (Mode::Stream, Way::Paced) => {
                paced(&mut connection, &answers.stream, shared.pace).await?;
            }
            (Mode::Plain | Mode::Picture, _) => connection.send(&answers.plain).await?,
            (Mode::Stream, _) => {
                for piece in &answers.stream {
                    connection.send(piece).await?;
                    // Each event is a write of its own, as a model's tokens are, and others have their turn between
                    // two.
                    match shared.pace {
                        Duration::ZERO => tokio::task::yield_now().await,
                        pace => sleep(pace).await,
                    }
                }
            }
        }
        if head.closes {
            break;
        }
    }
    Ok(())
}

/// Sends pieces at a model's pace, and returns a pace after the last. A pace of the provider's own is by tokio's timer,
/// which paused time moves.
async fn paced(connection: &mut Connection, pieces: &[Vec<u8>], own: Duration) -> io::Result<()> {
    let begun = Instant::now();
    for (piece, number) in pieces.iter().zip(1..) {
        connection.send(piece).await?;
        match own {
            Duration::ZERO => pace::until(begun + PACE * number).await,
            own => sleep(own).await,
        }
    }
    Ok(())
}

/// Returns the mode that a path or a body asks for, the latter with or without a space before the value.
fn mode(path: &str, body: &[u8]) -> Mode {
    if path.contains(":streamGenerateContent") {
        return Mode::Stream;
    }
    const FIELD: &[u8] = b"\"stream\":";
    let value = memmem::find(body, FIELD).map(|at| body[at + FIELD.len()..].trim_ascii_start());
    if value.is_some_and(|value| value.starts_with(b"true")) { Mode::Stream } else { Mode::Plain }
}

impl Answers {
    fn of(dialect: Dialect) -> Self {
        let answer = dialect.answer();
        let length = answer.len();
        let plain =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}");
        let mut stream: Vec<Vec<u8>> = dialect.events().iter().map(|event| chunk(event)).collect();
        stream[0].splice(0..0, STREAM.bytes());
        if let Some(last) = stream.last_mut() {
            last.extend_from_slice(b"0\r\n\r\n");
        }
        Self { plain: plain.into_bytes(), stream }
    }

    /// The head alone.
    fn head(&self, mode: Mode) -> &[u8] {
        if mode == Mode::Stream {
            return STREAM.as_bytes();
        }
        let end = memmem::find(&self.plain, b"\r\n\r\n").map_or(0, |at| at + 4);
        &self.plain[..end]
    }
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

const DOWN: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 91\r\n\r\n\
    {\"error\":{\"type\":\"server_error\",\"message\":\"The server is down for maintenance\",\"code\":503}}";

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(provider: &Provider, dialect: Dialect, mode: Mode) -> (u16, Vec<u8>) {
        let stream = TcpStream::connect(provider.address).await.unwrap();
        let mut connection = Connection::new(stream).unwrap();
        let body = dialect.request("m", mode);
        let head = format!("POST {} HTTP/1.1\r\ncontent-length: {}\r\n\r\n", dialect.path(mode), body.len());
        connection.send(format!("{head}{body}").as_bytes()).await.unwrap();
        let head = connection.head(Kind::Response).await.unwrap().unwrap();
        let mut body = Vec::new();
        connection.body(head.framing, &mut body).await.unwrap();
        (head.status, body)
    }

    #[tokio::test]
    async fn answers_are_whole_and_a_provider_that_is_down_says_so() {
        let provider = Provider::start(Duration::ZERO, Duration::ZERO).await.unwrap();
        for dialect in Dialect::ALL {
            for mode in [Mode::Plain, Mode::Stream] {
                let (status, body) = ask(&provider, dialect, mode).await;
                assert!(status == 200 && dialect.is_whole(mode, &body), "{dialect:?} {mode:?}");
            }
        }
        provider.set_way(Way::Down);
        let (status, body) = ask(&provider, Dialect::OpenAi, Mode::Plain).await;
        assert!(status == 503 && serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        assert_eq!(provider.asked(), 2 * Dialect::ALL.len() as u64 + 1);
    }
}
