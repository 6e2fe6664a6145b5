//! A process of its own that hands requests over, as it is told line by line, until it is killed.
//!
//! It is this test's own program, run again for one test that does nothing else.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use steadfast::{ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, layers::fallback::Tier, provider_fn};
use steadfast_handoff::{Desk, Handoff};
use tower::{ServiceBuilder, ServiceExt as _};

use crate::durability::told::Told;

/// Names the store of the process.
const STORE: &str = "STEADFAST_DURABILITY_STORE";
/// Why its models answer nothing.
pub(crate) const REASON: &str = "overloaded";
/// What a store is that does not answer in time.
const LATE: &str = "the store cannot be reached";

/// A desk over what a name names: a file, or a database.
pub(crate) async fn desk(store: &str) -> Desk {
    if store.starts_with("postgres:") {
        return Desk::new(steadfast_stores::postgres::Postgres::connect(store).await.unwrap());
    }
    Desk::new(steadfast_stores::sqlite::Sqlite::open(store).unwrap())
}

/// Hands one request over: a model that is down, and people after it. Gives the task's id, or what kept it from being
/// one.
pub(crate) async fn asks(desk: &Desk, text: &str, key: Option<&str>) -> Result<String, String> {
    let down = provider_fn(|_| async {
        Err::<LlmResponse, _>(LlmError::new(ErrorKind::Overloaded, "no capacity").with_model("local", "small"))
    });
    let people = Tier::new("people", Handoff::new(desk)).human();
    let llm = ServiceBuilder::new().layer(FallbackLayer::new("model").push(people)).service(down);
    let mut request = LlmRequest::prompt(text);
    if let Some(key) = key {
        request = request.with_idempotency_key(key);
    }
    match llm.oneshot(request).await {
        Ok(response) => Ok(response.task_id().expect("people answer last").to_owned()),
        // The error is the model's; the last step was people's.
        Err(error) => Err(error.attempts().last().expect("two steps").message.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that others kill"]
async fn hands_over_what_it_is_told_to() {
    let Ok(store) = std::env::var(STORE) else { return };
    let desk = desk(&store).await;
    // On a line of its own, whatever the harness says before it.
    println!("\nready");
    let (sender, mut orders) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    while let Some(order) = orders.recv().await {
        let desk = desk.clone();
        tokio::spawn(async move {
            let words: Vec<_> = order.splitn(4, '\t').collect();
            match words[..] {
                ["ask", number, key, text] => match asks(&desk, text, (key != "-").then_some(key)).await {
                    Ok(task) => println!("asked\t{number}\t{task}"),
                    Err(error) if error.contains(LATE) => println!("refused\t{number}"),
                    Err(error) => println!("failed\t{number}\t{error}"),
                },
                ["answer", task, who, text] => match desk.answer(task.parse().unwrap(), who, text).await {
                    Ok(_) => println!("answered\t{task}\t{who}"),
                    // Whether the answer stands is not known, as after a kill.
                    Err(error) if error.to_string().contains(LATE) => {}
                    Err(error) => println!("failed\t{task}\t{error}"),
                },
                _ => panic!("{words:?}"),
            }
        });
    }
}

/// The process, ended when this is dropped.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    heard: Receiver<String>,
}

/// A line that a process has written.
pub(crate) enum Heard {
    Ready,
    /// The request of this number is queued as this task.
    Asked(usize, String),
    /// The store was late for the request of this number, on a machine that has other things to do.
    Refused(usize),
    /// This answer stands, of this person.
    Answered(String, String),
}

/// A machine that is slower than this has another problem.
const LONG: Duration = Duration::from_secs(60);

impl Process {
    pub(crate) fn start(store: &str) -> Self {
        let test = "durability::process::hands_over_what_it_is_told_to";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, heard) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { orders: child.stdin.take().unwrap(), child, heard }
    }

    /// Returns its next line.
    pub(crate) fn hear(&self) -> Heard {
        loop {
            match self.heard.recv_timeout(LONG) {
                Ok(line) => {
                    if let Some(heard) = heard(&line) {
                        return heard;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended by itself"),
            }
        }
    }

    pub(crate) fn ask(&mut self, told: &mut Told, number: usize, request: &Request) {
        told.sends(&request.text, request.key.is_some());
        let key = request.key.as_deref().unwrap_or("-");
        writeln!(self.orders, "ask\t{number}\t{key}\t{}", request.text).unwrap();
    }

    pub(crate) fn answer(&mut self, told: &mut Told, task: &str, who: &str, text: &str) {
        told.answers(task.parse().unwrap(), who, text);
        writeln!(self.orders, "answer\t{task}\t{who}\t{text}").unwrap();
    }

    /// Kills it with SIGKILL. Gives what it had said before and nobody had heard yet.
    pub(crate) fn kill(mut self) -> Vec<Heard> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Until the pipe's end.
        self.heard.iter().filter_map(|line| heard(&line)).collect()
    }
}

/// `None` for what the harness says. It reads whole lines only: the last one may have been cut.
fn heard(line: &str) -> Option<Heard> {
    let words: Vec<_> = line.splitn(3, '\t').collect();
    match words[..] {
        ["ready"] => Some(Heard::Ready),
        ["asked", number, task] => Some(Heard::Asked(number.parse().unwrap(), task.to_owned())),
        ["refused", number] => Some(Heard::Refused(number.parse().unwrap())),
        ["answered", task, who] => Some(Heard::Answered(task.to_owned(), who.to_owned())),
        ["failed", what, why] => panic!("{what}: {why}"),
        _ => None,
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that no other is like.
pub(crate) struct Request {
    pub(crate) text: String,
    /// Every second one has a key, by which it is known when it is sent again.
    pub(crate) key: Option<String>,
}

impl Request {
    /// From a word to several pages of the store.
    pub(crate) fn new(number: usize, random: &mut fastrand::Rng) -> Self {
        let length = if random.bool() { random.usize(0..200) } else { random.usize(0..40_000) };
        let text = format!("request {number} {}", "w".repeat(length));
        Self { text, key: number.is_multiple_of(2).then(|| format!("key-{number}")) }
    }
}
