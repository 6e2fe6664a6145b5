//! The official SDKs of three vendors in two languages, with their own repeats.
//!
//! One process of each follows all of its plans: to import an SDK takes seconds.

use std::{
    collections::HashMap,
    fmt,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    Begun, Client, Extent, Following,
    common::sdk,
    plan::{FIRST, Outcome, Plan},
    situations::Situation,
    world::{Dialect, World},
};

/// The situations in which SDKs are judged. In the others a client of a few lines shows all that there is to see.
const ALWAYS: &[&str] = &[
    "network-reset-1s",
    "network-refused-6s",
    "connection-ends-readme",
    "one-of-three-replicas-stops",
    "slow-readers",
    "sleep-and-wake-readme",
    "key-revoked-then-restart",
    "retired-fallback",
    "usage-limit-as-400-imported",
    "silent-before-the-first-token-streamed-impatient",
    "calls-429",
    "calls-503",
    "calls-529",
    "lasting-503",
];

/// The situations that need too much of a processor, or of time, for every run.
const MORE: &[&str] = &[
    "silent-before-the-first-token",
    "silent-before-the-first-token-streamed",
    "network-refused-1s",
    "network-reset-6s",
    "network-refused-15s",
    "network-reset-15s",
    "network-refused-60s",
    "network-reset-60s",
    "network-refused-6s-one-tier",
    "connection-ends",
    "goaway-unprocessed",
    "streams-130",
    "lasting-429",
    "lasting-503-readme",
];

/// An order to a process.
#[derive(Serialize)]
struct Order<'a> {
    run: u64,
    sdk: Dialect,
    base: &'a str,
    plan: &'a Plan,
}

/// A line that a process says of a run.
#[derive(Debug, Deserialize)]
struct Said {
    run: u64,
    /// The error of the call that comes before a plan.
    broken: Option<String>,
    outcomes: Option<Vec<Outcome>>,
}

/// A process with an SDK.
#[derive(Debug)]
struct Process {
    child: Mutex<Child>,
    orders: Mutex<ChildStdin>,
    /// The runs that wait, until the process has ended.
    runs: Arc<Mutex<HashMap<u64, UnboundedSender<Said>>>>,
    next: AtomicU64,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter starts");
        let (orders, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let runs: Arc<Mutex<HashMap<u64, UnboundedSender<Said>>>> = Arc::default();
        let waiting = runs.clone();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let said: Said = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if let Some(run) = waiting.lock().unwrap().get(&said.run) {
                    let _ = run.send(said);
                }
            }
            waiting.lock().unwrap().clear();
        });
        Self { child: Mutex::new(child), orders: Mutex::new(orders), runs, next: AtomicU64::new(0) }
    }

    /// Begins a run.
    fn order(&self, sdk: Dialect, base: &str, plan: &Plan) -> UnboundedReceiver<Said> {
        let (said, hears) = unbounded_channel();
        let run = self.next.fetch_add(1, Relaxed);
        self.runs.lock().unwrap().insert(run, said);
        let order = serde_json::to_string(&Order { run, sdk, base, plan }).unwrap();
        writeln!(self.orders.lock().unwrap(), "{order}").unwrap();
        hears
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// An SDK.
#[derive(Debug)]
pub(crate) struct Sdk {
    language: &'static str,
    vendor: Dialect,
    process: Process,
}

impl Sdk {
    /// Starts the SDKs that are there.
    pub(crate) fn all() -> Vec<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judge");
        let python = || sdk::python(&format!("{folder}/sdk.py"));
        let node = || {
            let (mut command, packages) = sdk::node(&format!("{folder}/sdk.mjs"))?;
            command.arg(packages);
            Some(command)
        };
        let mut all = Vec::new();
        for vendor in Dialect::ALL {
            for (language, command) in [("python", python()), ("node", node())] {
                all.extend(command.map(|command| Self { language, vendor, process: Process::start(command) }));
            }
        }
        all
    }
}

impl fmt::Display for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.language, self.vendor)
    }
}

impl Client for Sdk {
    fn name(&self) -> String {
        self.to_string()
    }

    fn dialect(&self) -> Dialect {
        self.vendor
    }

    fn takes(&self, situation: &Situation, extent: Extent) -> bool {
        let is_in = |names: &[&str]| names.contains(&&*situation.name);
        is_in(ALWAYS) || extent == Extent::All && is_in(MORE)
    }

    fn follow<'a>(&'a self, world: &'a Arc<World>, situation: &'a Situation, begun: Begun) -> Following<'a> {
        Box::pin(async move {
            let mut run = self.process.order(self.vendor, &world.target, &situation.plan);
            let broken = run.recv().await.expect("the process goes on").broken;
            begun();
            if let Some(error) = broken {
                println!("{situation}, {self}, before: {error}\n{}", world.log(), situation = situation.name);
                let error = format!("{FIRST} {error}");
                return vec![Outcome { served: false, seconds: 0.0, error }; situation.plan.calls.len()];
            }
            run.recv().await.expect("the process goes on").outcomes.expect("the outcomes")
        })
    }
}
