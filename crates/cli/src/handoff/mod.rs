//! `steadfast handoff`: tasks for people, listed and answered from a terminal.

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
use steadfast_gateway::tasks::{MAX_ANSWER_BYTES, TaskView};
use steadfast_handoff::{TaskFilter, TaskId, TaskScope, TaskState};

use self::source::TaskSource;
use crate::{Failure, terminal};

/// Find and answer tasks for people
///
/// Works on the store itself (--store, or a configuration's), or through a running gateway. A gateway needs a key with
/// `handoff: true` or `admin: true` in an environment variable, since other users can see a command line. The caller
/// gets an answer at once, or within a second if it was written into the store. Exit codes: 1 if the order is refused,
/// as for a task that is answered or claimed already; 2 if the command line or a file is wrong.
#[derive(Args)]
pub(crate) struct Handoff {
    /// The store of tasks: sqlite:FILE, or postgres://USER:PASSWORD@HOST/DATABASE. Prefer the variable STEADFAST_STORE:
    /// other users can see a command line
    #[arg(long, global = true, value_name = "STORE", conflicts_with_all = ["config", "url"])]
    store: Option<String>,

    /// A configuration, whose `stores.durable` is the store
    #[arg(short, long, global = true, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,

    /// The gateway, if no store is named [default: STEADFAST_URL, or http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<Uri>,

    /// The environment variable of the gateway's key
    #[arg(long, global = true, value_name = "NAME", default_value = "STEADFAST_HANDOFF_KEY")]
    key_env: String,

    /// Print the JSON of the gateway's paths
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// List tasks: state, reason, age, reviewer and beginning
    List {
        /// Only tasks in this state: waiting, claimed, redriving, answered, expired
        #[arg(long, value_name = "STATE")]
        state: Option<TaskState>,
        /// Only tasks of this feature
        #[arg(long, value_name = "NAME")]
        feature: Option<String>,
        /// The largest number of tasks, from 1 to 1000
        #[arg(long, value_name = "TASKS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Only tasks after this one
        #[arg(long, value_name = "TASK")]
        after: Option<TaskId>,
        /// Oldest first [default: newest first]
        #[arg(long)]
        oldest: bool,
    },
    /// Show a task: the conversation, the reason, earlier attempts and the answer
    Show { task: TaskId },
    /// Claim a task, so that no other reviewer answers it; claim it again to hold it longer
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
        /// Answer although another reviewer has claimed the task
        #[arg(long)]
        force: bool,
    },
    /// Release a claimed task
    Release {
        task: TaskId,
        #[command(flatten)]
        who: Actor,
    },
    /// Delete tasks in any state: one, all of a session, or all of a caller
    Forget {
        #[arg(required_unless_present_any = ["session", "tenant"], conflicts_with_all = ["session", "tenant"])]
        task: Option<TaskId>,
        /// Delete all tasks of this session
        #[arg(long, value_name = "NAME")]
        session: Option<String>,
        /// Delete all tasks of this caller (a gateway's key, by name); with --session, of that session only
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(flatten)]
        who: Actor,
    },
    /// Ask a model once more, as soon as one works
    Redrive {
        #[arg(required_unless_present = "all")]
        task: Option<TaskId>,
        /// Redrive all open tasks
        #[arg(long, conflicts_with = "task")]
        all: bool,
    },
}

#[derive(Args)]
struct Actor {
    /// The reviewer's name, for others to see [default: USER, or the name of the gateway's key]
    #[arg(long = "as", value_name = "NAME", env = "STEADFAST_AS")]
    name: Option<String>,
}

impl Handoff {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // A wrong order fails before anything is opened.
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
                    (None, None, None) => return Err(Failure::usage("name a task, --session or --tenant")),
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

fn of(task: &steadfast_handoff::Task, told: impl FnOnce(&TaskView<'_>) -> String) -> (serde_json::Value, String) {
    let shown = TaskView::new(task);
    (json!(shown), told(&shown))
}

/// Returns the answer, or its mistake.
fn answer(text: Option<&str>, file: Option<&PathBuf>) -> Result<String, Failure> {
    let read = |from: &mut dyn Read, name: &str| {
        let cannot =
            |problem: &dyn fmt::Display| Failure::usage(format_args!("cannot read the answer from {name}: {problem}"));
        let mut bytes = Vec::new();
        // One more byte shows that it is too long.
        from.take(MAX_ANSWER_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|problem| cannot(&problem))?;
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(too_long());
        }
        let mut text = String::from_utf8(bytes).map_err(|problem| cannot(&problem.utf8_error()))?;
        // Editors add the last line end; it is not part of the answer.
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
        return Err(Failure::usage("the answer is empty"));
    }
    if text.len() > MAX_ANSWER_BYTES { Err(too_long()) } else { Ok(text) }
}

fn too_long() -> Failure {
    Failure::usage(format_args!("an answer has {MAX_ANSWER_BYTES} bytes at most"))
}
