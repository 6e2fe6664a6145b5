//! Several processes that share a store make one call for each key: also where the one that makes it is killed.
//!
//! Each process is this test's own program run again, told by its environment what to do. The provider is a real HTTP
//! server of the parent's, which counts.

use std::{
    collections::HashSet,
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use steadfast::{
    IdempotencyLayer, LlmRequest,
    layers::idempotency::IdempotencyStore,
    provider_fn,
    providers::{OpenAi, simulated::Simulated},
};
use steadfast_simulator::SimulatedServer;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tower::{Layer as _, Service as _, ServiceExt as _};

use crate::contract::SECOND;

const PROCESSES: usize = 4;
const REQUESTS: usize = 250;
/// Long for a test, so that a slow machine renews it in time.
const LEASE: Duration = Duration::from_secs(5);
/// The number of a process's requests that are in flight at once.
const AT_ONCE: usize = 64;
/// Of all of it.
const LIMIT: Duration = Duration::from_secs(100);

const STORE: &str = "STEADFAST_TEST_PROCESS_STORE";
const PROVIDER: &str = "STEADFAST_TEST_PROCESS_PROVIDER";

/// The reports of a process, a line each.
#[derive(Debug, PartialEq)]
enum Said {
    Ready,
    /// It makes the call.
    Calls,
    /// An answer, by the hash of its bytes.
    Answer(u64),
}

impl Said {
    fn print(&self) {
        match self {
            Self::Ready => println!("\nsays ready"),
            Self::Calls => println!("\nsays calls"),
            Self::Answer(hash) => println!("\nsays answer {hash}"),
        }
    }

    fn of(line: &str) -> Option<Self> {
        match line.strip_prefix("says ")? {
            "ready" => Some(Self::Ready),
            "calls" => Some(Self::Calls),
            other => other.strip_prefix("answer ")?.parse().ok().map(Self::Answer),
        }
    }
}

/// The part of one of the processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests run it, each in several processes"]
async fn a_process() {
    let (store, provider) = (env::var(STORE).unwrap(), env::var(PROVIDER).unwrap());
    let leaf = OpenAi::compatible("simulated", &provider).unwrap().model("gpt-4o");
    let leaf = provider_fn(move |request| {
        Said::Calls.print();
        leaf.clone().call(request)
    });
    let llm = IdempotencyLayer::over(open(&store).await).lease(LEASE).store_timeout(10 * SECOND).layer(leaf);
    Said::Ready.print();
    // Until the parent says so, so that all begin at once.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    let asking = (0..REQUESTS).map(|_| {
        let llm = llm.clone();
        tokio::spawn(async move {
            let response = llm.oneshot(LlmRequest::prompt("hello").with_idempotency_key("one for all")).await.unwrap();
            let mut hash = DefaultHasher::new();
            response.body().wire().expect("in the provider's own bytes").1.hash(&mut hash);
            Said::Answer(hash.finish()).print();
        })
    });
    // A machine that is busy with more at once keeps a request from the store for so long that it goes on without it.
    let asked = stream::iter(asking).buffer_unordered(AT_ONCE).try_collect::<()>();
    timeout(LIMIT, asked).await.unwrap().unwrap();
}

/// The store that a process is told of.
async fn open(store: &str) -> Arc<dyn IdempotencyStore> {
    match store.split_once(':') {
        Some(("sqlite", file)) => Arc::new(steadfast_stores::sqlite::Sqlite::open(file).unwrap()),
        Some(("postgres", _)) => Arc::new(steadfast_stores::postgres::Postgres::connect(store).await.unwrap()),
        Some(("shared", there)) => {
            let (prefix, url) = there.split_once('|').unwrap();
            Arc::new(steadfast_stores::redis::Redis::open(url).unwrap().prefix(prefix).limit(5 * SECOND))
        }
        _ => panic!("no store that is compiled in: {store}"),
    }
}

/// One of the processes, which ends with this.
struct Process {
    child: std::process::Child,
    says: mpsc::UnboundedReceiver<Said>,
}

impl Process {
    fn start(store: &str, provider: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "contract::processes::a_process", "--nocapture", "--test-threads=1"])
            .env(STORE, store)
            .env(PROVIDER, format!("{provider}/v1"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sends, says) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for said in lines.map_while(Result::ok).filter_map(|line| Said::of(&line)) {
                let _ = sends.send(said);
            }
        });
        Self { child, says }
    }

    async fn is_ready(&mut self) {
        assert_eq!(timeout(LIMIT, self.says.recv()).await.unwrap(), Some(Said::Ready));
    }

    fn goes(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// Its answers, and how many calls it made.
    async fn answers(&mut self) -> (Vec<u64>, usize) {
        let (mut answers, mut calls) = (Vec::new(), 0);
        while let Some(said) = timeout(LIMIT, self.says.recv()).await.unwrap() {
            match said {
                Said::Answer(hash) => answers.push(hash),
                Said::Calls => calls += 1,
                Said::Ready => {}
            }
        }
        assert!(self.child.wait().unwrap().success());
        (answers, calls)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn started(store: &str, provider: &SimulatedServer) -> Vec<Process> {
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::start(store, &provider.base_url())).collect();
    for process in &mut processes {
        process.is_ready().await;
    }
    processes.iter_mut().for_each(Process::goes);
    processes
}

/// A thousand requests under one key in four processes: one call, and a thousand equal answers.
async fn a_thousand_duplicates_are_one_call(store: &str) {
    let provider = SimulatedServer::start(Simulated::new("gpt").latency(SECOND)).await.unwrap();
    let mut processes = started(store, &provider).await;
    let (mut answers, mut calls) = (Vec::new(), 0);
    for process in &mut processes {
        let (its, made) = process.answers().await;
        answers.extend(its);
        calls += made;
    }
    assert_eq!((answers.len(), calls, provider.handle().arrivals().len()), (PROCESSES * REQUESTS, 1, 1));
    assert_eq!(answers.iter().collect::<HashSet<_>>().len(), 1);
}

/// Killed while it makes the call: another makes it when the lease is over, and the rest have its answer.
async fn after_a_kill_one_more_call_is_made(store: &str) {
    let provider = SimulatedServer::start(Simulated::new("gpt").latency(2 * SECOND)).await.unwrap();
    let mut processes = started(store, &provider).await;
    let arrivals = || provider.handle().arrivals();
    let called = async {
        while arrivals().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, called).await.unwrap();
    let calls = async {
        loop {
            if let Some(place) = processes.iter_mut().position(|process| process.says.try_recv() == Ok(Said::Calls)) {
                return place;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let leader = timeout(LIMIT, calls).await.unwrap();
    let mut leader = processes.remove(leader);
    // SIGKILL, where there are signals.
    leader.child.kill().unwrap();
    leader.child.wait().unwrap();
    let killed = Instant::now();
    let mut answers = Vec::new();
    for process in &mut processes {
        answers.extend(process.answers().await.0);
    }
    let arrivals = arrivals();
    assert_eq!((answers.len(), arrivals.len()), ((PROCESSES - 1) * REQUESTS, 2));
    assert_eq!(answers.iter().collect::<HashSet<_>>().len(), 1);
    let taken_over = arrivals[1].saturating_duration_since(killed);
    assert!(taken_over <= LEASE + 2 * SECOND, "{taken_over:?}");
}

mod sqlite {
    use crate::testing::Folder;

    fn store(folder: &Folder) -> String {
        format!("sqlite:{}", folder.file().display())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_duplicates_in_four_processes_are_one_call() {
        let folder = Folder::new("processes");
        super::a_thousand_duplicates_are_one_call(&store(&folder)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_kill_one_more_call_is_made_within_the_lease() {
        let folder = Folder::new("processes-kill");
        super::after_a_kill_one_more_call_is_made(&store(&folder)).await;
    }
}

mod postgres {
    use crate::testing::Schema;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_duplicates_in_four_processes_are_one_call() {
        let Some(schema) = Schema::new("processes").await else { return };
        super::a_thousand_duplicates_are_one_call(schema.url()).await;
        schema.ends().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_kill_one_more_call_is_made_within_the_lease() {
        let Some(schema) = Schema::new("processes_kill").await else { return };
        super::after_a_kill_one_more_call_is_made(schema.url()).await;
        schema.ends().await;
    }
}

mod redis {
    /// Returns the address of the server for tests, if there is one, with a prefix of the test's own.
    fn store(test: &str) -> Option<String> {
        let Ok(url) = std::env::var("STEADFAST_TEST_REDIS") else {
            println!("skipped: STEADFAST_TEST_REDIS names no Redis");
            return None;
        };
        Some(format!("shared:steadfast-test-{}-{test}:|{url}", std::process::id()))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_duplicates_in_four_processes_are_one_call() {
        let Some(store) = store("processes") else { return };
        super::a_thousand_duplicates_are_one_call(&store).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_kill_one_more_call_is_made_within_the_lease() {
        let Some(store) = store("processes-kill") else { return };
        super::after_a_kill_one_more_call_is_made(&store).await;
    }
}
