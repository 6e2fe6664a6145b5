//! The orders of reviewers.

use std::sync::Arc;

use axum::{
    Extension, RequestExt,
    body::Body,
    extract::{FromRequest, Path, State},
    response::IntoResponse,
};
use http::{Request, Response, StatusCode, Uri};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use steadfast_handoff::{DeskError, Task, TaskId};

use super::{
    Reviewer, ReviewerExtension, filter,
    outcome::{desk_error, id},
};
use crate::{
    api::{
        GatewayState,
        admin::{error, not_read, ok, wrong},
        body_error::BodyError,
    },
    limits::Settings,
    tasks::{MAX_ANSWER_BYTES, MAX_NAME_BYTES, TaskView},
};

fn task_response(task: &Task) -> Response<Body> {
    ok(&TaskView::new(task))
}

pub(super) async fn list(Extension(reviewer): ReviewerExtension, uri: Uri) -> Response<Body> {
    let filter = match filter::filter(&uri) {
        Ok(filter) => filter,
        Err(problem) => return wrong(problem),
    };
    let rows = filter.rows();
    let listed = async {
        let tasks = reviewer.desk.list(filter).await?;
        Ok((tasks, reviewer.desk.stats().await?))
    };
    match listed.await {
        Ok((tasks, stats)) => {
            let next = tasks.last().filter(|_| tasks.len() == rows).map(|task| task.id);
            ok(&json!({ "tasks": tasks, "next": next, "stats": stats, "you": &*reviewer.key.name }))
        }
        Err(problem) => desk_error(&problem),
    }
}

pub(super) async fn show(Extension(reviewer): ReviewerExtension, Path(task): Path<String>) -> Response<Body> {
    match id(&task) {
        Ok(task) => reviewer.desk.show(task).await.as_ref().map_or_else(desk_error, task_response),
        Err(refused) => *refused,
    }
}

/// The name of the reviewer; the key's name if left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Actor {
    #[serde(rename = "as")]
    who: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    text: String,
    #[serde(rename = "as")]
    who: Option<String>,
    #[serde(default)]
    force: bool,
}

/// An order without parameters.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptyOrder {}

const ACTOR: &str = r#"{"as": "name"}, or nothing"#;
pub(super) const EMPTY_ORDER: &str = "{}, or nothing";

/// An order that names only the reviewer, for the task in its path.
pub(super) struct TaskOrder {
    reviewer: Reviewer,
    task: TaskId,
    who: String,
}

impl FromRequest<Arc<GatewayState>> for TaskOrder {
    type Rejection = Response<Body>;

    async fn from_request(mut request: Request<Body>, gateway: &Arc<GatewayState>) -> Result<Self, Response<Body>> {
        let Extension(reviewer) =
            request.extract_parts::<ReviewerExtension>().await.map_err(IntoResponse::into_response)?;
        let Path(task) = request.extract_parts::<Path<String>>().await.map_err(IntoResponse::into_response)?;
        let task = id(&task).map_err(|refused| *refused)?;
        let Actor { who } = read(gateway, request, ACTOR).await?.unwrap_or_default();
        let who = actor_name(&reviewer, who).map_err(|refused| *refused)?;
        Ok(Self { reviewer, task, who })
    }
}

pub(super) async fn claim(TaskOrder { reviewer, task, who }: TaskOrder) -> Response<Body> {
    let done = reviewer.desk.claim(task, &who).await;
    log_order(&reviewer, &who, "claim", Some(task), done.as_ref().err());
    done.as_ref().map_or_else(desk_error, task_response)
}

pub(super) async fn renew(TaskOrder { reviewer, task, who }: TaskOrder) -> Response<Body> {
    match reviewer.desk.renew(task, &who).await {
        Ok(until) => ok(&json!({ "until": until })),
        Err(problem) => desk_error(&problem),
    }
}

pub(super) async fn release(TaskOrder { reviewer, task, who }: TaskOrder) -> Response<Body> {
    let done = reviewer.desk.release(task, &who).await;
    log_order(&reviewer, &who, "release", Some(task), done.as_ref().err());
    match done {
        Ok(()) => ok(&json!({ "released": true })),
        Err(problem) => desk_error(&problem),
    }
}

pub(super) async fn answer(
    State(gateway): State<Arc<GatewayState>>,
    Extension(reviewer): ReviewerExtension,
    Path(task): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let task = match id(&task) {
        Ok(task) => task,
        Err(refused) => return *refused,
    };
    let expected = r#"{"text": "..", "as": "name", "force": false}"#;
    let answer = match read::<Answer>(&gateway, request, expected).await {
        Ok(Some(answer)) => answer,
        Ok(None) => return wrong(format!("the body must be {expected}")),
        Err(refused) => return refused,
    };
    if answer.text.len() > MAX_ANSWER_BYTES {
        return too_long();
    }
    if answer.text.trim().is_empty() {
        return desk_error(&DeskError::Invalid { problem: "the answer is empty" });
    }
    let who = match actor_name(&reviewer, answer.who) {
        Ok(who) => who,
        Err(refused) => return *refused,
    };
    let done = match answer.force {
        false => reviewer.desk.answer(task, &who, answer.text).await,
        true => reviewer.desk.force_answer(task, &who, answer.text).await,
    };
    log_order(&reviewer, &who, "answer", Some(task), done.as_ref().err());
    done.as_ref().map_or_else(desk_error, task_response)
}

pub(super) async fn redrive(
    State(gateway): State<Arc<GatewayState>>,
    Extension(reviewer): ReviewerExtension,
    Path(task): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    let task = match id(&task) {
        Ok(task) => task,
        Err(refused) => return *refused,
    };
    if let Err(refused) = read::<EmptyOrder>(&gateway, request, EMPTY_ORDER).await {
        return refused;
    }
    let done = reviewer.desk.redrive(task).await;
    log_order(&reviewer, &reviewer.key.name, "redrive", Some(task), done.as_ref().err());
    match done {
        Ok(()) => ok(&json!({ "asked": 1 })),
        Err(problem) => desk_error(&problem),
    }
}

pub(super) async fn redrive_all(
    State(gateway): State<Arc<GatewayState>>,
    Extension(reviewer): ReviewerExtension,
    request: Request<Body>,
) -> Response<Body> {
    if let Err(refused) = read::<EmptyOrder>(&gateway, request, EMPTY_ORDER).await {
        return refused;
    }
    let done = reviewer.desk.redrive_all().await;
    log_order(&reviewer, &reviewer.key.name, "redrive", None, done.as_ref().err());
    match done {
        Ok(tasks) => ok(&json!({ "asked": tasks })),
        Err(problem) => desk_error(&problem),
    }
}

/// Logs an order, without any of the question or the answer.
fn log_order(reviewer: &Reviewer, by: &str, action: &'static str, task: Option<TaskId>, refused: Option<&DeskError>) {
    // Orders without effect may come as fast as their sender likes.
    let unsaid = match refused {
        None => 0,
        Some(_) => match reviewer.gateway.refusals.next_order_line(reviewer.key.name.clone()) {
            Some(unsaid) => unsaid,
            None => return,
        },
    };
    let task = task.map_or_else(|| "all".to_owned(), |task| task.to_string());
    let (key, refused, unsaid) = (&*reviewer.key.name, refused.map(DeskError::name), (unsaid > 0).then_some(unsaid));
    tracing::info!(key, by, action, task, refused, unsaid, "a reviewer's order");
}

fn actor_name(reviewer: &Reviewer, who: Option<String>) -> Result<String, Box<Response<Body>>> {
    let who = who.unwrap_or_else(|| reviewer.key.name.to_string());
    if who.len() > MAX_NAME_BYTES || who.chars().any(char::is_control) {
        return Err(
            wrong(format!("`as` is a name of at most {MAX_NAME_BYTES} bytes, of characters that can be seen")).into()
        );
    }
    Ok(who)
}

fn too_long() -> Response<Body> {
    let message = format!("an answer has {MAX_ANSWER_BYTES} bytes at most");
    error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message)
}

/// Reads the body of an order; `None` if it is empty.
pub(super) async fn read<T: DeserializeOwned>(
    gateway: &GatewayState,
    request: Request<Body>,
    expected: &str,
) -> Result<Option<T>, Response<Body>> {
    let (head, body) = request.into_parts();
    let settings = Settings { body: MAX_BODY, ..Settings::clone(&gateway.lifecycle.current.load()) };
    let key = head.extensions.get::<Reviewer>().map(|reviewer| &reviewer.key);
    let body = match gateway.reader(&settings, key).read(&head.headers, body).await {
        Ok(body) => body,
        Err(BodyError::TooLarge) => return Err(too_long()),
        Err(unread) => return Err(not_read(unread, &settings)),
    };
    if body.is_empty() {
        return Ok(None);
    }
    // The error has the place only: the words are the answer itself.
    serde_json::from_slice(&body).map(Some).map_err(|problem| {
        let (line, column) = (problem.line(), problem.column());
        let what = match problem.classify() {
            serde_json::error::Category::Data => "not what is expected",
            _ => "no JSON",
        };
        wrong(format!("the body is {what} at line {line}, column {column}; it must be {expected}"))
    })
}

/// The longest body, in bytes: JSON may write a byte of text in six.
const MAX_BODY: usize = 6 * MAX_ANSWER_BYTES + 4096;
