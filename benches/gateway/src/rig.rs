//! The two providers, and contestants that are started between the load and them.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    contestants::{Contestant, Gateway, Surroundings, free_port},
    dialect::{Dialect, Mode},
    load::{self, Target},
    process::{CORE, Process},
    provider::Provider,
};

/// The two providers, and where things are.
#[derive(Clone, Debug)]
pub struct Rig {
    pub primary: Provider,
    pub backup: Provider,
    pub folder: PathBuf,
    pub gateways: PathBuf,
    pub steadfast: PathBuf,
    /// The program that each contestant runs under, with its arguments.
    pub under: &'static [&'static str],
}

/// A contestant that answers.
#[derive(Debug)]
pub struct Running {
    pub target: Target,
    pub version: String,
    /// `None` where there is no gateway.
    pub process: Option<Process>,
    folder: PathBuf,
}

impl Running {
    /// Returns the end that its process has come to by itself, with its last words; `None` while it runs.
    pub fn death(&mut self, when: &str) -> Option<String> {
        let process = self.process.as_mut()?;
        process.has_ended().then(|| format!("{when}; its last words: {}", last_words(&self.folder)))
    }
}

/// The last lines of what a contestant has said.
fn last_words(folder: &Path) -> String {
    let log = fs::read(folder.join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() { "none".to_owned() } else { last.join(" / ") }
}

impl Rig {
    /// One in the same places, with providers of its own.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn apart(&self) -> io::Result<Self> {
        let start = || Provider::start(Duration::ZERO, Duration::ZERO);
        Ok(Self { primary: start().await?, backup: start().await?, ..self.clone() })
    }

    /// Returns the folder of a contestant, with what it says in the file `log`.
    pub fn folder_of(&self, contestant: &Contestant) -> PathBuf {
        self.folder.join(contestant.name.replace([' ', ','], "-"))
    }

    /// Starts a contestant with one worker on its core, and waits until it answers.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub async fn start(&self, contestant: &Contestant) -> Result<Running, String> {
        self.start_at(contestant, 1, CORE, None).await
    }

    /// Starts a contestant with so many workers on these cores, and waits until it answers. The first provider may be
    /// another than the rig's.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub async fn start_at(
        &self,
        contestant: &Contestant,
        workers: usize,
        cores: &str,
        primary: Option<SocketAddr>,
    ) -> Result<Running, String> {
        let listen = free_port().map_err(|error| error.to_string())?;
        let folder = self.folder_of(contestant);
        fs::create_dir_all(&folder).map_err(|error: io::Error| error.to_string())?;
        let surroundings = Surroundings {
            primary: primary.unwrap_or(self.primary.address),
            backup: self.backup.address,
            listen,
            folder: folder.clone(),
            gateways: self.gateways.clone(),
            steadfast: self.steadfast.clone(),
            workers,
        };
        let Some(Gateway { version, command, mut target, says }) = contestant.gateway(&surroundings)? else {
            let target = Target::of(surroundings.primary, Dialect::OpenAi, "gpt-4o-mini");
            return Ok(Running { target, version: String::new(), process: None, folder });
        };
        let mut process = Process::start(&command, self.under, cores, &folder).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let mut answering: Option<Instant> = None;
        loop {
            let said = says.as_ref().and_then(|file| fs::read_to_string(file).ok()?.parse().ok());
            target.address = said.unwrap_or(target.address);
            let asked = tokio::time::timeout(START, load::ask(&target, Mode::Plain)).await;
            let problem = match asked.unwrap_or_else(|_| Err("no answer".to_owned())) {
                Ok(()) => return Ok(Running { target, version, process: Some(process), folder }),
                Err(problem) => problem,
            };
            // An answer begins with its status, or with the fault that it has.
            if problem.contains(": ") && answering.is_none() {
                answering = Some(Instant::now());
            }
            if process.has_ended() {
                return Err(format!("it ends at its start: {problem}; its last words: {}", last_words(&folder)));
            }
            if begun.elapsed() > START || answering.is_some_and(|since| since.elapsed() > WRONG) {
                return Err(format!("it does not answer right: {problem}; its last words: {}", last_words(&folder)));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The longest time to a gateway's first answer: a Python one imports for a while.
const START: Duration = Duration::from_secs(120);
/// The longest time with answers that are not right: some answer with errors while they start.
const WRONG: Duration = Duration::from_secs(20);
