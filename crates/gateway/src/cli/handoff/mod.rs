//! `steadfast handoff`: what was handed to people, found and answered from a terminal.

mod show;
mod source;

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use http::Uri;
use serde_json::json;
use steadfast::handoff::{TaskFilter, TaskId, TaskScope, TaskState};
use steadfast_gateway::tasks::{MAX_ANSWER_BYTES, TaskView};

use self::source::TaskSource;
use crate::cli::{Failure, terminal};

/// Find and answer what was handed to people
///
/// Either in the store itself (--store, or the one that a configuration names), or through a gateway that runs; then a key with
/// `handoff: true` or `admin: true` is needed, which is read from the environment: on a command line others would see it. Actor
/// waits for an answer has it at once, or within a second where it was written into the store. Exit codes: 1 where it is
/// refused, as of a task that is answered already or that somebody else is at, 2 where the command line or a file is wrong.
#[derive(Args)]
pub(crate) struct Handoff {
    /// The store of tasks: sqlite:FILE, or postgres://USER:PASSWORD@HOST/DATABASE, which is better kept in the variable
    /// STEADFAST_STORE: on a command line others see it
    #[arg(long, global = true, value_name = "STORE", conflicts_with_all = ["config", "url"])]
    store: Option<String>,

    /// A configuration: the store is its `stores.durable`
    #[arg(short, long, global = true, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,

    /// The gateway, where no store is named [default: STEADFAST_URL, or http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<Uri>,

    /// The environment variable that has the gateway's key
    #[arg(long, global = true, value_name = "NAME", default_value = "STEADFAST_HANDOFF_KEY")]
    key_env: String,

    /// Print JSON, as the gateway's paths answer it
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// List tasks: how far each is, why it was handed over, how old it is, who is at it, and how it begins
    List {
        /// Those in this state only: waiting, claimed, redriving, answered, expired
        #[arg(long, value_name = "STATE")]
        state: Option<TaskState>,
        /// Those of this feature only
        #[arg(long, value_name = "NAME")]
        feature: Option<String>,
        /// So many at most, from 1 to 1000
        #[arg(long, value_name = "TASKS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Those that come after this one
        #[arg(long, value_name = "TASK")]
        after: Option<TaskId>,
        /// The oldest first, in source of the newest
        #[arg(long)]
        oldest: bool,
    },
    /// Show a task: what was asked, why it was handed over, what was tried, and what was answered
    Show { task: TaskId },
    /// Claim a task, so that nobody else answers it meanwhile; again: hold it longer
    Claim {
        task: TaskId,
        #[command(flatten)]
        who: Actor,
    },
    /// Answer a task, once
    Answer {
        task: TaskId,
        /// The answer; `-` reads it from standard input
        #[arg(required_unless_present = "file")]
        text: Option<String>,
        /// A file with the answer
        #[arg(long, value_name = "FILE", conflicts_with = "text")]
        file: Option<PathBuf>,
        #[command(flatten)]
        who: Actor,
        /// Although somebody else is at it
        #[arg(long)]
        force: bool,
    },
    /// Give a claimed task back
    Release {
        task: TaskId,
        #[command(flatten)]
        who: Actor,
    },
    /// Delete tasks for good, whatever their state: one, all of a session, or all of a caller
    Forget {
        #[arg(required_unless_present_any = ["session", "tenant"], conflicts_with_all = ["session", "tenant"])]
        task: Option<TaskId>,
        /// All of this session
        #[arg(long, value_name = "NAME")]
        session: Option<String>,
        /// All of this caller: a gateway's key, by name; with --session, those of both
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(flatten)]
        who: Actor,
    },
    /// Have a model asked once more, as soon as one works
    Redrive {
        #[arg(required_unless_present = "all")]
        task: Option<TaskId>,
        /// All tasks that may still be answered
        #[arg(long, conflicts_with = "task")]
        all: bool,
    },
}

#[derive(Args)]
struct Actor {
    /// Actor it is, for others to see [default: USER, or the name of the gateway's key]
    #[arg(long = "as", value_name = "NAME", env = "STEADFAST_AS")]
    name: Option<String>,
}

impl Handoff {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // What is wrong with the order is said before anything is opened.
        let text = match &self.order {
            Order::Answer { text, file, .. } => Some(answer(text.as_deref(), file.as_ref())?),
            _ => None,
        };
        let source = TaskSource::open(self.store.as_deref(), self.config.as_deref(), self.url, &self.key_env).await?;
        let (value, text_form) = match self.order {
            Order::List { state, feature, limit, after, oldest } => {
                let mut filter = TaskFilter::new().limit(limit.into());
                (filter.state, filter.feature, filter.after, filter.oldest_first) = (state, feature, after, oldest);
                let listed = source.list(filter).await?;
                (json!(listed), show::list(&listed))
            }
            Order::Show { task } => of(&source.show(task).await?, show::whole),
            Order::Claim { task, who } => of(&source.claim(task, who.name).await?, show::whole),
            Order::Answer { task, who, force, .. } => {
                let answered = source.answer(task, who.name, text.unwrap_or_default(), force).await?;
                of(&answered, |_| format!("{task} is answered.\n"))
            }
            Order::Release { task, who } => {
                source.release(task, who.name).await?;
                (json!({ "released": true }), format!("{task} is given back.\n"))
            }
            Order::Forget { task, session, tenant, who } => {
                let which = match (task, session, tenant) {
                    (Some(task), ..) => TaskScope::Task(task),
                    (None, Some(session), tenant) => TaskScope::Session { session, tenant },
                    (None, None, Some(tenant)) => TaskScope::Tenant(tenant),
                    (None, None, None) => return Err(Failure::usage("say which: a task, --session or --tenant")),
                };
                let forgotten = source.forget(which, who.name).await?;
                let tasks = if forgotten == 1 { "1 task is".to_owned() } else { format!("{forgotten} tasks are") };
                (json!({ "forgotten": forgotten }), format!("{tasks} forgotten.\n"))
            }
            Order::Redrive { task, .. } => {
                let asked = source.redrive(task).await?;
                let tasks = if asked == 1 { "1 task".to_owned() } else { format!("{asked} tasks") };
                (json!({ "asked": asked }), format!("A model is asked again for {tasks}, as soon as one works.\n"))
            }
        };
        let text = if self.json { terminal::json(&value) } else { text_form };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }
}

fn of(task: &steadfast::handoff::Task, told: impl FnOnce(&TaskView<'_>) -> String) -> (serde_json::Value, String) {
    let shown = TaskView::new(task);
    (json!(shown), told(&shown))
}

/// The answer that is given, or what is wrong with it.
fn answer(text: Option<&str>, file: Option<&PathBuf>) -> Result<String, Failure> {
    let read = |from: &mut dyn Read, name: &str| {
        let cannot =
            |problem: &dyn fmt::Display| Failure::usage(format_args!("cannot read the answer from {name}: {problem}"));
        let mut bytes = Vec::new();
        // One byte more tells that it is too long.
        from.take(MAX_ANSWER_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|problem| cannot(&problem))?;
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(too_long());
        }
        let mut text = String::from_utf8(bytes).map_err(|problem| cannot(&problem.utf8_error()))?;
        // The last line's end is the editor's, and no part of an answer.
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        Ok(text)
    };
    let text = match (text, file) {
        (_, Some(path)) => {
            let name = path.display().to_string();
            let opened = File::open(path);
            let mut file = opened.map_err(|error| Failure::usage(format_args!("cannot open {name}: {error}")))?;
            read(&mut file, &name)?
        }
        (Some("-"), _) => read(&mut io::stdin().lock(), "standard input")?,
        (text, _) => text.unwrap_or_default().to_owned(),
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("there is nothing in the answer"));
    }
    if text.len() > MAX_ANSWER_BYTES { Err(too_long()) } else { Ok(text) }
}

fn too_long() -> Failure {
    Failure::usage(format_args!("an answer has {MAX_ANSWER_BYTES} bytes at most"))
}
