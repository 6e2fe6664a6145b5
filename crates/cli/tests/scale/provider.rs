//! A provider of both dialects, in a process of its own: ten thousand connections take more files than one process may
//! have open beside as many clients.
//!
//! A stream whose prompt says `hold` stands still after its first token, until it is let go. What else it answers to
//! whom is in [`answers`](super::answers).

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream as Blocking},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};

use super::answers::{Answer, ERROR, answer};

/// The handle on it. Dropped, it ends.
pub(crate) struct Provider {
    child: Child,
    commands: Option<ChildStdin>,
    /// The harness says something once a minute, and ends where nobody is there to read it.
    _said: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Provider {
    pub(crate) fn start() -> Self {
        super::take_files();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["provider::the_process", "--exact", "--ignored", "--nocapture"])
            .env("STEADFAST_SCALE_PROVIDER", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the provider starts");
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let address =
            said.by_ref().lines().find_map(|line| Some(line.unwrap().strip_prefix("provider at ")?.to_owned()));
        let commands = child.stdin.take();
        Self { child, commands, _said: said, address: address.expect("the provider says where it is") }
    }

    /// Lets all streams go on that stand still.
    pub(crate) fn release(&mut self) {
        self.say("release");
    }

    /// From now on first tokens take about so many milliseconds, and so many calls in a hundred fail: those of
    /// Anthropic's dialect, and never all.
    pub(crate) fn act(&mut self, latency: u64, failing: u64) {
        self.say(&format!("act {latency} {failing}"));
    }

    /// Returns the number of calls (`calls`), own failures (`failed`), current calls (`now`) and the highest number at
    /// once (`most`).
    pub(crate) fn stats(&self) -> Value {
        let mut connection = Blocking::connect(&self.address).unwrap();
        connection.write_all(b"GET /stats HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn say(&mut self, command: &str) {
        self.commands.as_mut().unwrap().write_all(format!("{command}\n").as_bytes()).unwrap();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It ends with its input; should it not, then by force.
        drop(self.commands.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the provider of the other tests, which start it"]
fn the_process() {
    if std::env::var_os("STEADFAST_SCALE_PROVIDER").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (held, release) = watch::channel(false);
    let play = Arc::new(Play { release, ..Play::default() });
    let listener = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        // Ten thousand come at once.
        socket.listen(4096).unwrap()
    });
    // The harness has written the beginning of a line.
    println!("\nprovider at {}", listener.local_addr().unwrap());
    runtime.spawn(serve(listener, play.clone()));
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        match *line.split(' ').collect::<Vec<_>>() {
            ["release"] => drop(held.send_replace(true)),
            ["act", latency, failing] => {
                play.latency.store(latency.parse().unwrap(), Ordering::Relaxed);
                play.failing.store(failing.parse().unwrap(), Ordering::Relaxed);
            }
            _ => panic!("no such command: {line}"),
        }
    }
    // Nobody listens to what the harness would say now.
    std::process::exit(0);
}

/// The provider's settings and counters.
struct Play {
    release: watch::Receiver<bool>,
    latency: AtomicU64,
    failing: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
    now: AtomicU64,
    most: AtomicU64,
}

impl Default for Play {
    fn default() -> Self {
        let [latency, failing, calls, failed, now, most] = Default::default();
        Self { release: watch::channel(false).1, latency, failing, calls, failed, now, most }
    }
}

impl Play {
    /// A number that looks like chance and is the same in each run.
    fn dice(number: u64, sides: u64) -> u64 {
        fastrand::Rng::with_seed(number).u64(..sides)
    }

    fn stats(&self) -> Value {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({"calls": of(&self.calls), "failed": of(&self.failed), "now": of(&self.now), "most": of(&self.most)})
    }
}

/// A call under way.
struct Call<'a>(&'a Play);

impl<'a> Call<'a> {
    fn begin(play: &'a Play) -> (Self, u64) {
        let number = play.calls.fetch_add(1, Ordering::Relaxed);
        let now = play.now.fetch_add(1, Ordering::Relaxed) + 1;
        play.most.fetch_max(now, Ordering::Relaxed);
        (Self(play), number)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(listener: TcpListener, play: Arc<Play>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, play.clone()))),
            Err(error) => panic!("the provider has no more connections: {error}"),
        }
    }
}

async fn connection(mut stream: TcpStream, play: Arc<Play>) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await {
        if head.starts_with("GET /stats ") {
            let stats = play.stats().to_string();
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{stats}").as_bytes()).await;
            return;
        }
        let (_call, number) = Call::begin(&play);
        let latency = play.latency.load(Ordering::Relaxed);
        if latency > 0 {
            sleep(Duration::from_millis(latency / 2 + Play::dice(number, latency))).await;
        }
        let fails = head.contains("/v1/messages") && Play::dice(!number, 100) < play.failing.load(Ordering::Relaxed);
        let answer = if fails {
            play.failed.fetch_add(1, Ordering::Relaxed);
            ERROR[usize::from(number % 2 == 0)].clone()
        } else {
            answer(&head, &body)
        };
        let sent = match answer {
            Answer::Whole { status, content_type, body } => {
                let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: {content_type}\r\n{ACCOUNT}");
                stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
            }
            Answer::Stream { first, last, stands_still } => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{ACCOUNT}transfer-encoding: chunked\r\n\r\n"
                );
                let begun = stream.write_all(format!("{head}{:x}\r\n{first}\r\n", first.len()).as_bytes()).await;
                let mut release = play.release.clone();
                if stands_still {
                    tokio::select! {
                        released = release.wait_for(|released| *released) => if released.is_err() { return },
                        () = gone(&stream) => return,
                    }
                }
                let ended = stream.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes()).await;
                begun.and(ended)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The headers of the charged account, which callers must not see.
const ACCOUNT: &str = "openai-organization: org-of-the-provider\r\nopenai-project: project-of-the-provider\r\n\
                       anthropic-organization-id: org-of-the-provider\r\n";

/// Ends once the other side has closed.
async fn gone(stream: &TcpStream) {
    while stream.peek(&mut [0]).await.is_ok_and(|read| read > 0) {
        sleep(Duration::from_millis(50)).await;
    }
}

/// Head and body of the next request.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
            if read.len() >= whole {
                let body = String::from_utf8_lossy(&read[end + 4..whole]).into_owned();
                read.drain(..whole);
                return Some((head, body));
            }
        }
        // Not for long: thousands of these stand still with what they have.
        read.reserve(1024);
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
        if read.capacity() > 4096 && read.is_empty() {
            read.shrink_to(0);
        }
    }
}
