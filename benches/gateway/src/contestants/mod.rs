//! The contestants. Each gets one process with one thread or worker for its work, two providers in order, and no
//! settings that a careful operator would not make: connections that are kept, no log for each request.

mod litellm;
mod liter_llm;
mod nginx;
mod portkey;
mod steadfast;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{dialect::Dialect, load::Target};

/// A gateway that can be started.
#[derive(Debug)]
pub struct Gateway {
    pub version: String,
    pub command: Command,
    pub target: Target,
}

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
}

impl Surroundings {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    fn target(&self, dialect: Dialect, model: &str) -> Target {
        Target { address: self.listen, dialect, model: model.to_owned(), headers: Vec::new() }
    }
}

/// A row of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Contestant {
    pub name: &'static str,
    /// Its part here, in a few words.
    pub what: &'static str,
    pub measured: Measured,
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
}

/// A gateway for these surroundings, or why there is none.
type Make = fn(&Surroundings) -> Result<Gateway, String>;

impl Contestant {
    /// True of steadfast in any of its ways.
    pub fn is_steadfast(&self) -> bool {
        self.name.starts_with(STEADFAST)
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

pub const DIRECT: &str = "direct";
pub const NGINX: &str = "nginx";
pub const LITELLM: &str = "LiteLLM";
pub const PORTKEY: &str = "Portkey";
pub const STEADFAST: &str = "steadfast";

pub const ALL: [Contestant; 15] = [
    Contestant { name: DIRECT, what: "no gateway", measured: Measured::Up, make: None },
    Contestant { name: NGINX, what: "proxy_pass, one worker", measured: Measured::Whole, make: Some(nginx::gateway) },
    Contestant {
        name: STEADFAST,
        what: "OpenAI's dialect on both sides, one worker thread",
        measured: Measured::Whole,
        make: Some(steadfast::gateway),
    },
    Contestant {
        name: "steadfast, Anthropic",
        what: "Anthropic's dialect on both sides",
        measured: Measured::Up,
        make: Some(steadfast::anthropic),
    },
    Contestant {
        name: "steadfast, translated",
        what: "Anthropic's dialect for the caller, OpenAI's to the provider",
        measured: Measured::Up,
        make: Some(steadfast::translated),
    },
    Contestant {
        name: "steadfast, Responses",
        what: "OpenAI's Responses on both sides",
        measured: Measured::Up,
        make: Some(steadfast::responses),
    },
    Contestant {
        name: "steadfast, Responses to Messages",
        what: "Responses for the caller, Anthropic's dialect to the provider",
        measured: Measured::Instructions,
        make: Some(steadfast::responses_to_messages),
    },
    Contestant {
        name: "steadfast, Responses to Chat",
        what: "Responses for the caller, OpenAI's Chat Completions to the provider",
        measured: Measured::Instructions,
        make: Some(steadfast::responses_to_chat),
    },
    Contestant {
        name: "steadfast, Responses to Gemini",
        what: "Responses for the caller, Gemini's dialect to the provider",
        measured: Measured::Instructions,
        make: Some(steadfast::responses_to_gemini),
    },
    Contestant {
        name: "steadfast, Messages to Responses",
        what: "Anthropic's dialect for the caller, Responses to the provider",
        measured: Measured::Instructions,
        make: Some(steadfast::messages_to_responses),
    },
    Contestant {
        name: "steadfast, Chat to Responses",
        what: "OpenAI's Chat Completions for the caller, Responses to the provider",
        measured: Measured::Instructions,
        make: Some(steadfast::chat_to_responses),
    },
    Contestant {
        name: "steadfast, embeddings",
        what: "the vectors of 64 texts, half a megabyte in base64, through the lane",
        measured: Measured::Answers,
        make: Some(steadfast::embeddings),
    },
    Contestant { name: "liter-llm", what: "its proxy", measured: Measured::Whole, make: Some(liter_llm::gateway) },
    Contestant { name: PORTKEY, what: "Node, one process", measured: Measured::Once, make: Some(portkey::gateway) },
    Contestant { name: LITELLM, what: "its proxy, one worker", measured: Measured::Once, make: Some(litellm::gateway) },
];

/// A port that is free now.
pub fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Returns a program's version, or the reason why it does not run.
fn version(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
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
