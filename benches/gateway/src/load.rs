//! The load: so many callers, each of whom asks again as soon as it has its answer.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    dialect::{Dialect, Mode},
    http::{Connection, Kind},
};

/// The request, and its address.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub dialect: Dialect,
    pub model: String,
    /// Beyond those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The begin of the path, before the dialect's own.
    pub prefix: &'static str,
}

impl Target {
    /// One without further headers, at the dialect's own path.
    pub fn of(address: SocketAddr, dialect: Dialect, model: &str) -> Self {
        Self { address, dialect, model: model.to_owned(), headers: Vec::new(), prefix: "" }
    }
}

/// The form of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub mode: Mode,
    pub connections: usize,
    /// A new connection for each request.
    pub fresh: bool,
}

/// The result of a load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The durations of the whole answers, in microseconds.
    pub micros: Histogram<u64>,
    pub seconds: f64,
    pub failures: u64,
    /// The first failure.
    pub failure: Option<String>,
}

impl Outcome {
    pub fn requests(&self) -> u64 {
        self.micros.len()
    }

    pub fn per_second(&self) -> f64 {
        self.requests() as f64 / self.seconds
    }

    /// In milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.micros.value_at_quantile(share) as f64 / 1e3
    }
}

/// Callers at work.
#[derive(Debug)]
pub struct Load {
    callers: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    micros: Histogram<u64>,
    failures: u64,
    failure: Option<String>,
    since: Instant,
}

impl Counted {
    fn new() -> Self {
        // Two digits are within a percent.
        let micros = Histogram::new_with_bounds(1, 120_000_000, 2).expect("bounds that are in order");
        Self { micros, failures: 0, failure: None, since: Instant::now() }
    }
}

impl Shared {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Sets the callers to work, in tasks of this runtime.
    pub fn start(target: &Target, shape: Shape) -> Self {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), counted: Mutex::new(Counted::new()) });
        let request: Arc<[u8]> = request(target, shape.mode).into();
        let mut callers = JoinSet::new();
        for _ in 0..shape.connections {
            callers.spawn(call(Caller::new(target, shape), request.clone(), shared.clone()));
        }
        Self { callers, shared }
    }

    /// Discards the results so far, which were for warming up.
    pub fn begin(&self) {
        *self.shared.counted() = Counted::new();
    }

    /// Returns the results since [`begin`](Self::begin). The callers go on.
    pub fn so_far(&self) -> Outcome {
        let counted = self.shared.counted();
        Outcome {
            micros: counted.micros.clone(),
            seconds: counted.since.elapsed().as_secs_f64(),
            failures: counted.failures,
            failure: counted.failure.clone(),
        }
    }

    /// Waits until so many requests have their answers, and returns the results so far.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub async fn until(&self, requests: u64) -> Result<Outcome, String> {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let outcome = self.so_far();
            if let Some(failure) = outcome.failure {
                return Err(failure);
            }
            if outcome.requests() >= requests {
                return Ok(outcome);
            }
        }
    }

    /// Ends it; who waits for an answer for longer than this leaves without it.
    pub async fn end(mut self, patience: Duration) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = async { while self.callers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, ended).await;
    }
}

/// Asks once.
///
/// # Errors
///
/// Returns the fault of an answer that is not whole.
pub async fn ask(target: &Target, mode: Mode) -> Result<(), String> {
    let shape = Shape { mode, connections: 1, fresh: true };
    Caller::new(target, shape).ask(&request(target, shape.mode)).await
}

/// The bytes of a request.
pub(crate) fn request(target: &Target, mode: Mode) -> Vec<u8> {
    let body = target.dialect.request(&target.model, mode);
    let headers: String = target.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "POST {}{} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: load/1.0\r\n\
         authorization: Bearer sk-load\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        target.prefix,
        target.dialect.path(mode),
        target.address,
        body.len(),
    )
    .into_bytes()
}

async fn call(mut caller: Caller, request: Arc<[u8]>, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answered = caller.ask(&request).await;
        let took = asked.elapsed();
        let failed = answered.is_err();
        {
            let mut counted = shared.counted();
            match answered {
                Ok(()) => {
                    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                    counted.micros.saturating_record(micros);
                }
                Err(failure) => {
                    counted.failures += 1;
                    counted.failure.get_or_insert(failure);
                }
            }
        }
        if failed {
            caller.connection = None;
            // A caller that is refused at once does not ask a million times.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One caller, who keeps its connection if that is wanted.
#[derive(Debug)]
pub(crate) struct Caller {
    address: SocketAddr,
    dialect: Dialect,
    shape: Shape,
    connection: Option<Connection>,
    body: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(target: &Target, shape: Shape) -> Self {
        let Target { address, dialect, .. } = *target;
        Self { address, dialect, shape, connection: None, body: Vec::new() }
    }

    /// Asks, and judges the answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        let kept = self.connection.is_some();
        match self.exchange(request).await {
            Ok(Some(status)) => self.judge(status),
            // Closed between two requests, as a server may: once more on a new one.
            Ok(None) | Err(_) if kept && self.body.is_empty() => {
                self.connection = None;
                match self.exchange(request).await {
                    Ok(Some(status)) => self.judge(status),
                    Ok(None) => Err("closed without an answer".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Ok(None) => Err("closed without an answer".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn judge(&self, status: u16) -> Result<(), String> {
        if status == 200 && self.dialect.is_whole(self.shape.mode, &self.body) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.body);
        let what = if status == 200 { "no whole answer, " } else { "" };
        Err(format!("{what}{status}: {}", text.chars().take(300).collect::<String>()))
    }

    /// The status; the body is in `body`.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<Option<u16>> {
        self.body.clear();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::new(TcpStream::connect(self.address).await?)?,
        };
        connection.send(request).await?;
        let Some(head) = connection.head(Kind::Response).await? else { return Ok(None) };
        connection.body(head.framing, &mut self.body).await?;
        self.connection = Some(connection).filter(|_| !head.closes && !self.shape.fresh);
        Ok(Some(head.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Provider, Way};

    #[tokio::test]
    async fn what_is_whole_is_counted_and_what_is_not_is_a_failure() {
        let provider = Provider::start(Duration::ZERO, Duration::ZERO).await.unwrap();
        let target = Target::of(provider.address, Dialect::OpenAi, "m");
        for (mode, fresh) in [(Mode::Plain, false), (Mode::Stream, false), (Mode::Stream, true)] {
            let load = Load::start(&target, Shape { mode, connections: 3, fresh });
            while load.so_far().requests() < 9 {
                tokio::task::yield_now().await;
            }
            assert_eq!(load.so_far().failures, 0);
            load.end(Duration::from_secs(5)).await;
        }
        provider.set_way(Way::Down);
        assert!(ask(&target, Mode::Plain).await.unwrap_err().starts_with("503"));
    }
}
