//! `steadfast demo outage` in a process of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    thread,
    time::Duration,
};

use crate::common::{
    Ran, STEADFAST, comes,
    http::{Answer, answer, send},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// The usual port, which this process or another program has: two demos that begin at once do not both take it.
static USUAL_PORT: LazyLock<Option<TcpListener>> = LazyLock::new(|| TcpListener::bind("127.0.0.1:8080").ok());

/// A demo that runs, killed when this is dropped.
pub(crate) struct Demo {
    child: Child,
    keys: Option<ChildStdin>,
    said: Arc<Mutex<String>>,
    /// The lines that were waited for until now.
    read: usize,
}

impl Demo {
    /// Starts one with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(STEADFAST);
        command.args(["demo", "outage"]).args(arguments).env_clear();
        Self::of(command)
    }

    /// Starts the one of this command, and waits until it takes keys.
    pub(crate) fn of(mut command: Command) -> Self {
        LazyLock::force(&USUAL_PORT);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (out, text) = (BufReader::new(child.stdout.take().unwrap()), said.clone());
        thread::spawn(move || {
            for line in out.lines() {
                text.lock().unwrap().push_str(&(line.unwrap() + "\n"));
            }
        });
        let mut demo = Self { keys: child.stdin.take(), child, said, read: 0 };
        demo.line("q ends");
        demo
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns all that it has said.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Returns the gateway's host and port.
    pub(crate) fn address(&self) -> String {
        let said = self.said();
        said.split("http://").nth(1).unwrap().split(',').next().unwrap().to_owned()
    }

    /// Waits for the next line with these words, and returns it.
    pub(crate) fn line(&mut self, words: &str) -> String {
        comes(PATIENCE, &format!("no line has {words:?}"), || {
            // It may have ended early.
            let has_ended = self.child.try_wait().unwrap().is_some();
            let said = self.said();
            assert!(!has_ended || said.contains(words), "it has ended");
            let (at, line) = said.lines().enumerate().skip(self.read).find(|(_, line)| line.contains(words))?;
            self.read = at + 1;
            Some(line.to_owned())
        })
    }

    /// Sends a key on a line.
    pub(crate) fn press(&mut self, key: &str) {
        self.keys.as_mut().unwrap().write_all(format!("{key}\n").as_bytes()).unwrap();
    }

    /// Ends the input.
    pub(crate) fn close_input(&mut self) {
        self.keys = None;
    }

    /// Calls a model, and returns the answer.
    pub(crate) fn call(&self, stream: bool) -> Answer {
        let body = format!(
            r#"{{"model":"mine","max_tokens":64,"stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        answer(send(&self.address(), "POST /v1/messages", "connection: close\r\n", &body))
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ran {
        let status = comes(PATIENCE, "it does not end", || self.child.try_wait().unwrap());
        self.line(" alone: ");
        Ran { code: status.code(), out: self.said(), err: String::new() }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}
