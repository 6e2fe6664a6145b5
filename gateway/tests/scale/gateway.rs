//! The binary under test.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use super::client;
use crate::common::Folder;

/// A gateway that serves, ended when this is dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: String,
    said: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
    file: PathBuf,
    _folder: Folder,
}

impl Gateway {
    /// Serves what this configuration says.
    pub(crate) fn start(name: &str, config: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new(&format!("scale-{name}"));
        let file = folder.file("steadfast.yaml", config);
        // Another build of it can be measured by the same tests.
        let binary =
            std::env::var_os("STEADFAST_SCALE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_steadfast").into());
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()])
            .args(arguments)
            .env_remove("RUST_LOG")
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, saying) = (BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        let reading = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                saying.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("OPENAI_BASE_URL") {
            let read = stdout.read_line(&mut greeting).unwrap();
            assert_ne!(read, 0, "it ended early: {}", said.lock().unwrap());
        }
        let address = greeting.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        Self { child, address, said, reading: Some(reading), file, _folder: folder }
    }

    /// What it keeps in memory now and has kept at most, in kilobytes.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// How many files it has open, sockets included.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Changes its configuration, as editors do it: nobody reads half a file.
    pub(crate) fn configure(&self, config: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, config).unwrap();
        fs::rename(&new, &self.file).unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// What its log holds by now.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Asks it to stop; gives its log. It ends in good order, and has kept the secrets.
    pub(crate) fn end(self) -> String {
        self.signal("-TERM");
        self.ended()
    }

    /// Its log, once it has ended.
    pub(crate) fn ended(mut self) -> String {
        let status = self.child.wait().unwrap();
        self.reading.take().unwrap().join().unwrap();
        let said = self.said();
        assert_eq!(status.code(), Some(0), "{said}");
        for secret in client::SECRETS {
            assert!(!said.contains(secret), "{secret:?} is in the log: {said}");
        }
        said
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two tiers of one dialect each, with no limit on the way that a test is not about.
pub(crate) fn config(provider: &str, more: &str) -> String {
    format!(
        "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: http://{provider}
    api_key: ${{PROVIDER_KEY}}
    timeout: {{ attempt: 2m, idle: 10m, progress: 10m }}
  - name: gpt
    provider: openai
    model: gpt-4o
    base_url: http://{provider}/v1
    api_key: ${{PROVIDER_KEY}}
    timeout: {{ attempt: 2m, idle: 10m, progress: 10m }}
routes:
  - {{ name: openai, when: {{ features: [openai] }}, tiers: [gpt] }}
default_feature: {{ concurrency: 100000 }}
features:
  openai: {{ concurrency: 100000 }}
timeout: 5m
{more}"
    )
}
