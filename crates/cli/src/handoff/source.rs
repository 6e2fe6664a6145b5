//! The source of tasks: a store that the command opens, or a gateway.

use std::path::Path;

use http::Uri;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use steadfast_gateway::tasks::MAX_NAME_BYTES;
use steadfast_handoff::{Desk, DeskError, Task, TaskFilter, TaskId, TaskScope, TaskStats, TaskSummary};
use steadfast_internal::system;

use crate::{
    Failure,
    remote::{Remote, escaped},
    store::{self, OpenStore},
};

pub(super) enum TaskSource {
    Store(Desk),
    Gateway(Remote),
}

/// A page of tasks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskPage {
    pub(super) tasks: Vec<TaskSummary>,
    pub(super) next: Option<TaskId>,
    pub(super) stats: TaskStats,
}

impl TaskSource {
    /// Opens the source that the command line names, else the environment.
    pub(super) async fn open(
        store: Option<&str>,
        config: Option<&Path>,
        url: Option<Uri>,
        key_env: &str,
    ) -> Result<Self, Failure> {
        let variable = |name| std::env::var(name).ok().filter(|said| !said.is_empty());
        let url = match (store, config, url) {
            (Some(store), ..) => return open_store(store).await.map(Self::Store),
            (_, Some(path), _) => return open_configured(path).await.map(Self::Store),
            (.., Some(url)) => url,
            (None, None, None) => match (variable("STEADFAST_STORE"), variable("STEADFAST_URL")) {
                (Some(store), _) => return open_store(&store).await.map(Self::Store),
                (None, Some(url)) => {
                    url.parse().map_err(|error| Failure::usage(format_args!("STEADFAST_URL: {error}")))?
                }
                (None, None) => Uri::from_static("http://127.0.0.1:8080"),
            },
        };
        Remote::of(url, key_env, "`handoff: true` or `admin: true`").map(Self::Gateway)
    }

    pub(super) async fn list(&self, filter: TaskFilter) -> Result<TaskPage, Failure> {
        match self {
            Self::Store(desk) => {
                let rows = filter.rows();
                let tasks = desk.list(filter).await.map_err(desk_failure)?;
                let next = tasks.last().filter(|_| tasks.len() == rows).map(|task| task.id);
                Ok(TaskPage { tasks, next, stats: desk.stats().await.map_err(desk_failure)? })
            }
            Self::Gateway(gateway) => {
                let order = if filter.oldest_first { "oldest" } else { "newest" };
                let mut path = format!("/handoff/tasks?order={order}&limit={}", filter.rows());
                for (name, value) in [
                    ("state", filter.state.map(|state| state.to_string())),
                    ("feature", filter.feature),
                    ("after", filter.after.map(|task| task.to_string())),
                ] {
                    if let Some(value) = value {
                        path += &format!("&{name}={}", escaped(&value));
                    }
                }
                read(gateway.ask(&path, None).await?)
            }
        }
    }

    pub(super) async fn show(&self, task: TaskId) -> Result<Task, Failure> {
        match self {
            Self::Store(desk) => desk.show(task).await.map_err(desk_failure),
            Self::Gateway(gateway) => read(gateway.ask(&format!("/handoff/tasks/{task}"), None).await?),
        }
    }

    pub(super) async fn claim(&self, task: TaskId, who: Option<String>) -> Result<Task, Failure> {
        match self {
            Self::Store(desk) => desk.claim(task, &actor(who)?).await.map_err(desk_failure),
            Self::Gateway(gateway) => read(order(gateway, task, "claim", actor_body(who)).await?),
        }
    }

    pub(super) async fn answer(
        &self,
        task: TaskId,
        who: Option<String>,
        text: String,
        force: bool,
    ) -> Result<Task, Failure> {
        match self {
            Self::Store(desk) => {
                let who = actor(who)?;
                let answered = match force {
                    false => desk.answer(task, &who, text).await,
                    true => desk.force_answer(task, &who, text).await,
                };
                answered.map_err(desk_failure)
            }
            Self::Gateway(gateway) => {
                let mut body = actor_body(who);
                (body["text"], body["force"]) = (text.into(), force.into());
                read(order(gateway, task, "answer", body).await?)
            }
        }
    }

    pub(super) async fn release(&self, task: TaskId, who: Option<String>) -> Result<(), Failure> {
        match self {
            Self::Store(desk) => desk.release(task, &actor(who)?).await.map_err(desk_failure),
            Self::Gateway(gateway) => order(gateway, task, "release", actor_body(who)).await.map(drop),
        }
    }

    /// Deletes tasks and returns their number. A gateway takes the reviewer's name from its key.
    pub(super) async fn forget(&self, which: TaskScope, who: Option<String>) -> Result<u64, Failure> {
        let gateway = match self {
            Self::Store(desk) => return desk.forget(which, &actor(who)?).await.map_err(desk_failure),
            Self::Gateway(gateway) => gateway,
        };
        let answer = match which {
            TaskScope::Task(task) => order(gateway, task, "forget", json!({})).await?,
            TaskScope::Session { session, tenant: None } => forget(gateway, json!({ "session": session })).await?,
            TaskScope::Session { session, tenant } => {
                forget(gateway, json!({ "session": session, "tenant": tenant })).await?
            }
            TaskScope::Tenant(tenant) => forget(gateway, json!({ "tenant": tenant })).await?,
            _ => return Err(Failure::usage("a gateway cannot do that")),
        };
        Ok(answer["forgotten"].as_u64().unwrap_or_default())
    }

    /// Redrives one task or all, and returns their number.
    pub(super) async fn redrive(&self, task: Option<TaskId>) -> Result<u64, Failure> {
        match (self, task) {
            (Self::Store(desk), Some(task)) => desk.redrive(task).await.map(|()| 1).map_err(desk_failure),
            (Self::Store(desk), None) => desk.redrive_all().await.map_err(desk_failure),
            (Self::Gateway(gateway), task) => {
                let asked = match task {
                    Some(task) => order(gateway, task, "redrive", json!({})).await?,
                    None => gateway.ask("/handoff/redrive", Some(json!({}))).await?,
                };
                Ok(asked["asked"].as_u64().unwrap_or_default())
            }
        }
    }
}

async fn order(gateway: &Remote, task: TaskId, what: &str, body: Value) -> Result<Value, Failure> {
    gateway.ask(&format!("/handoff/tasks/{task}/{what}"), Some(body)).await
}

async fn forget(gateway: &Remote, body: Value) -> Result<Value, Failure> {
    gateway.ask("/handoff/forget", Some(body)).await
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    let other = |error| Failure::Refused(format!("error: the gateway has another version: {error}"));
    serde_json::from_value(answer).map_err(other)
}

/// Returns the body of an order; without a name the gateway uses the key's.
fn actor_body(who: Option<String>) -> Value {
    who.map_or_else(|| json!({}), |who| json!({ "as": who }))
}

/// Returns the reviewer's name for a store, which knows no keys.
fn actor(who: Option<String>) -> Result<String, Failure> {
    let who = who.or_else(system::user_name).unwrap_or_default();
    if who.trim().is_empty() {
        return Err(Failure::usage("name the reviewer with --as NAME"));
    }
    if who.len() > MAX_NAME_BYTES || who.chars().any(char::is_control) {
        let problem = format!("a name has {MAX_NAME_BYTES} bytes at most, of characters that can be seen");
        return Err(Failure::usage(problem));
    }
    Ok(who)
}

fn desk_failure(problem: DeskError) -> Failure {
    match problem {
        DeskError::Store(problem) => store::failure(&problem),
        problem => Failure::Refused(format!("error: {problem}")),
    }
}

async fn open_configured(path: &Path) -> Result<Desk, Failure> {
    let (store, config) = OpenStore::open_configured(path, false).await?;
    let desk = Desk::over(store.tasks());
    Ok(match config.handoff.and_then(|said| said.visibility) {
        Some(time) => desk.visibility(time.0),
        None => desk,
    })
}

async fn open_store(store: &str) -> Result<Desk, Failure> {
    Ok(Desk::over(OpenStore::open(store, false).await?.tasks()))
}
