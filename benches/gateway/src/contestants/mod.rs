//! The contestants. Each gets one process with one thread or worker for its work, two providers in order, and no
//! settings that a careful operator would not make: connections that are kept, no log for each request.

mod haproxy;
mod list;
mod litellm;
mod liter_llm;
mod nginx;
mod onwards;
mod portkey;
mod steadfast;
mod tensorzero;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub use list::{ALL, DIRECT, LITELLM, NGINX, PORTKEY, STEADFAST, TRANSLATED};

use crate::{dialect::Dialect, load::Target};

/// A gateway that can be started.
#[derive(Debug)]
pub struct Gateway {
    pub version: String,
    pub command: Command,
    pub target: Target,
    /// The file in which one that chooses its port itself says its address.
    pub says: Option<PathBuf>,
}

/// The longest silence of a provider that each contestant bears, in its head and in a stream, where it has a setting.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A gateway's settings.
#[derive(Debug)]
pub struct Surroundings {
    pub primary: SocketAddr,
    pub backup: SocketAddr,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// A folder of its own.
    pub folder: PathBuf,
    /// The folder in which the others are installed.
    pub gateways: PathBuf,
    /// The binary of steadfast.
    pub steadfast: PathBuf,
    /// The worker processes or threads, of those that can have more than one.
    pub workers: usize,
}

impl Surroundings {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn target(&self, dialect: Dialect, model: &str) -> Target {
        Target::of(self.listen, dialect, model)
    }
}

/// A row of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Contestant {
    pub name: &'static str,
    /// Its part here, in a few words.
    pub what: &'static str,
    pub measured: Measured,
    /// For one that translates, the row of the same program without translation.
    pub beside: Option<&'static str>,
    make: Option<Make>,
}

/// The share of it that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// In every round and every cell.
    Whole,
    /// With both providers up alone.
    Up,
    /// In instructions alone, which need no time of a quiet machine.
    Instructions,
    /// In instructions of whole answers alone: it has no streams.
    Answers,
    /// In one round, each cell for longer: it answers a hundred requests a second, not ten thousand.
    Once,
    /// In one round, with both providers up and 16 callers alone: the translations of others.
    Sixteen,
}

/// A gateway for these surroundings, or why there is none.
type Make = fn(&Surroundings) -> Result<Gateway, String>;

impl Contestant {
    /// A row of this name, measured as a whole.
    pub const fn new(name: &'static str, what: &'static str, make: Option<Make>) -> Self {
        Self { name, what, measured: Measured::Whole, beside: None, make }
    }

    const fn measured(mut self, measured: Measured) -> Self {
        self.measured = measured;
        self
    }

    const fn beside(mut self, name: &'static str) -> Self {
        self.beside = Some(name);
        self
    }

    /// True of steadfast in any of its ways.
    pub fn is_steadfast(&self) -> bool {
        self.name.starts_with(STEADFAST)
    }

    /// True of those that have all columns: each program once, in its plainest form.
    pub fn is_tried(&self) -> bool {
        matches!(self.measured, Measured::Whole | Measured::Once) || self.name == DIRECT
    }

    /// True where there is a gateway between the load and the provider.
    pub fn is_gateway(&self) -> bool {
        self.make.is_some()
    }

    /// The gateway, ready to start; `None` where there is none between the load and the provider.
    ///
    /// # Errors
    ///
    /// Why it cannot be measured here.
    pub fn gateway(&self, surroundings: &Surroundings) -> Result<Option<Gateway>, String> {
        self.make.map(|make| make(surroundings)).transpose()
    }
}

/// A port that is free now.
pub fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Returns a program's version, or the reason why it does not run.
fn version(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .env("RUST_LOG", "off")
        .output()
        .map_err(|error| format!("{}: {error}; benches/gateway/install installs it", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().find(|line| line.contains('.')).unwrap_or_default().trim().to_owned())
}

/// The path, if there is something.
fn installed(path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() { Ok(path) } else { Err("it is not installed; benches/gateway/install does that".to_owned()) }
}
