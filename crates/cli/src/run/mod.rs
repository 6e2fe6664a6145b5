//! `steadfast run`: a client at a gateway of its own, for as long as it runs.

mod child;
mod client;
mod gateway;
mod summary;

use std::{
    env,
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    panic,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use clap::Args;
use http::Uri;
use steadfast_gateway::ServeOptions;
use steadfast_internal::system;
use steadfast_stack::Environment;
use tokio::{sync::oneshot, time::timeout};

use self::{client::Client, gateway::RunningGateway};
use super::{Failure, exit::say, init::Draft, serve::log_panic, terminal::printable};

/// Run a client at a gateway, and say at its end what failed over
///
/// The command gets this terminal, its own arguments, and the variables by which it finds the gateway: Claude Code
/// (`claude`), Codex (`codex`), Gemini CLI (`gemini`), OpenCode (`opencode`) and aider (`aider`) get theirs, any other
/// command those of all vendors' SDKs.
///
/// Without --url the gateway is part of this process, on a free port of this machine, and ends with the client. Its
/// models are those of the configuration; without one, those whose keys are in the environment, as `steadfast init`
/// would write them.
///
/// Exit code: the client's, or 128 and the number of the signal that ended it; 127 if there is no such program, 126 if
/// it cannot be started; 2 if the configuration is wrong, 1 if there is no gateway.
#[derive(Args)]
pub(crate) struct Run {
    /// The configuration [env: STEADFAST_CONFIG]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["url", "simulated"])]
    config: Option<PathBuf>,

    /// A gateway that runs already, in place of one of its own [env: STEADFAST_URL]
    #[arg(long, value_name = "URL", conflicts_with = "simulated")]
    url: Option<Uri>,

    /// Simulated models, for a first look: no answer means anything
    #[arg(long)]
    simulated: bool,

    /// The environment variable of the caller's key, where the gateway has keys
    #[arg(long, value_name = "NAME", default_value = "STEADFAST_KEY")]
    key_env: String,

    /// The log of the gateway, which is appended [default: steadfast/run.log in the folder for state]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,

    /// The client and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The gateway that is to be used.
enum Source {
    Running(Uri),
    Own(Box<ServeOptions>),
}

/// The time for answers that nobody may wait for any more.
const GRACE: Duration = Duration::from_secs(1);
/// The time for the words at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The longest log that another run appends to, in bytes.
const LONGEST_LOG: u64 = 4 << 20;

impl Run {
    /// Runs the client, and returns its exit code.
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self.source()? {
            Source::Running(url) => self.at(url, false, None).await,
            Source::Own(options) => self.beside(*options).await,
        }
    }

    /// Chooses the gateway: the command line before the environment, and a gateway or a file before keys.
    fn source(&self) -> Result<Source, Failure> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let is_said = self.config.is_some() || self.simulated;
        let url = match (&self.url, variable("STEADFAST_URL").filter(|_| !is_said)) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(url)) => {
                let url = url.to_str().and_then(|url| url.parse().ok());
                Some(url.ok_or_else(|| Failure::usage("the variable STEADFAST_URL has no URL"))?)
            }
            (None, None) => None,
        };
        if let Some(url) = url {
            return Ok(Source::Running(url));
        }
        let mut options = ServeOptions::default();
        options.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        options.grace = Some(GRACE);
        options.config = self.config.clone().or_else(|| variable("STEADFAST_CONFIG").map(PathBuf::from));
        if self.simulated {
            options.config = None;
        } else if options.config.is_none() {
            let draft = Draft::of(&Environment::process()).ok_or_else(|| {
                Failure::usage(format_args!(
                    "no models: name a file with --config (`steadfast init` writes one), a gateway with --url, or set one \
                     of {}; --simulated is for a first look",
                    Draft::variables()
                ))
            })?;
            options.in_memory = Some(draft.config()?);
            let keys: Vec<_> = draft.models.iter().map(|found| found.variable).collect();
            let tiers = draft.tiers().join(", then ");
            self.say(format_args!("no file: {tiers} ({}); `steadfast init` writes one", keys.join(", ")));
        }
        options.log_file = self.log_file.clone().or_else(log_file);
        options.log = if options.log_file.is_some() { "info" } else { "off" }.to_owned();
        Ok(Source::Own(Box::new(options)))
    }

    /// Runs the client beside a gateway of its own.
    async fn beside(&self, options: ServeOptions) -> Result<ExitCode, Failure> {
        panic::set_hook(Box::new(log_panic));
        let log = options.log_file.clone();
        let (listening, listens) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = options.serve_until(async { _ = stopped.await }, listening);
        let running = async {
            // Without an address the gateway has failed, and says why.
            let address: SocketAddr = listens.await.ok()?;
            let url = Uri::builder().scheme("http").authority(address.to_string()).path_and_query("/").build();
            let ended = match url {
                Ok(url) => self.at(url, true, log).await,
                Err(error) => Err(Failure::Unready(error.to_string())),
            };
            drop(stop);
            Some(ended)
        };
        let (served, ended) = tokio::join!(serving, running);
        match (served, ended) {
            (Ok(()), None) => Err(Failure::Unready("error: the gateway ended at once".to_owned())),
            (Err(error), None) => Err(error.into()),
            (served, Some(ended)) => {
                if let Err(error) = served {
                    say(format_args!("steadfast: the gateway failed: {}\n", printable(&error.to_string())));
                }
                ended
            }
        }
    }

    /// Runs the client at this gateway, which may be its own and have a log.
    async fn at(&self, url: Uri, is_own: bool, log: Option<PathBuf>) -> Result<ExitCode, Failure> {
        let gateway = RunningGateway::find(url, &self.key_env).await?;
        let (program, arguments) = self.command.split_first().ok_or_else(|| Failure::usage("no command"))?;
        let client = Client::of(program);
        let mut command = Command::new(system::program(program));
        client.lead(&mut command, &gateway.address());
        command.args(arguments);
        let name = program.to_string_lossy();
        let code = child::run(command).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let hint = client.installation().map(|how| format!(": `{how}` installs it")).unwrap_or_default();
                Failure::Client(127, format!("error: there is no program `{name}`{hint}"))
            }
            _ => Failure::Client(126, format!("error: cannot start `{name}`: {error}")),
        })?;
        if !self.quiet {
            let advice = client.advice().filter(|_| code != 0);
            self.sum_up(&gateway, is_own, log, advice).await;
        }
        Ok(code.into())
    }

    async fn sum_up(&self, gateway: &RunningGateway, is_own: bool, log: Option<PathBuf>, advice: Option<&str>) {
        // A gateway that hangs does not keep the terminal.
        match timeout(LAST_WORDS, gateway.summary()).await {
            Ok(Ok(summary)) if summary.is_empty() => {
                if let Some(advice) = advice {
                    self.say(format_args!("{advice}"));
                }
            }
            Ok(Ok(summary)) => {
                self.say(format_args!("{summary}"));
                if !is_own && !gateway.has_keys() {
                    self.say(format_args!("these are of all callers of {} since then", gateway.address().url));
                }
                if let Some(log) = log.filter(|_| summary.has_failures()) {
                    self.say(format_args!("more in {}", log.display()));
                }
            }
            Ok(Err(_)) | Err(_) => self.say(format_args!("the gateway does not say what became of the requests")),
        }
    }

    /// Tells the person at the terminal, unless that is not wanted.
    fn say(&self, words: std::fmt::Arguments<'_>) {
        if !self.quiet {
            for line in words.to_string().lines() {
                say(format_args!("steadfast: {}\n", printable(line)));
            }
        }
    }
}

/// Returns the file of the log in the user's folder for state, if there is such a folder.
fn log_file() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let state = || folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let state = state().or_else(|| folder("LOCALAPPDATA"))?.join("steadfast");
    fs::create_dir_all(&state).ok()?;
    let log = state.join("run.log");
    if fs::metadata(&log).is_ok_and(|log| log.len() > LONGEST_LOG) {
        // Another run may have been quicker.
        let _ = fs::rename(&log, state.join("run.log.1"));
    }
    Some(log)
}
