//! `GET /handoff/answers/{id}`: the outcome of a request that was handed to people, for its caller.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode, Uri, header};
use steadfast::{Dialect, translate::encode_message};
use steadfast_handoff::{DeskError, Task, TaskState};

use super::outcome::{RETRY_SECONDS, desk_error, id, no_desk};
use crate::api::{
    GatewayState,
    admin::{ok, wrong},
    keys::Key,
    query, refusal,
};

pub(crate) async fn answer(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    Path(task): Path<String>,
    uri: Uri,
) -> Response<Body> {
    let Some(desk) = gateway.desk() else { return no_desk() };
    let (id, dialect) =
        match id(&task).and_then(|id| Ok((id, dialect(&uri).map_err(|problem| Box::new(wrong(problem)))?))) {
            Ok(asked) => asked,
            Err(refused) => return *refused,
        };
    let task = match desk.show(id).await {
        Ok(task) if is_of(&task, key.as_deref()) => task,
        // Another caller's task looks like an unknown one.
        Ok(_) => return desk_error(&DeskError::Unknown { task: id }),
        Err(problem) => return desk_error(&problem),
    };
    match (task.state, &task.answer, dialect) {
        (TaskState::Expired, ..) => desk_error(&DeskError::Expired { task: id, at: task.expires_at }),
        (_, None, _) => {
            let mut response = ok(&task.result());
            *response.status_mut() = StatusCode::ACCEPTED;
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS);
            response
        }
        (_, Some(_), None) => ok(&task.result()),
        (_, Some(answer), Some(dialect)) => {
            let mut message = answer.message.clone();
            message.model.get_or_insert_with(|| answer.model.clone().unwrap_or_else(|| PERSON.to_owned()));
            let mut response = refusal::json(StatusCode::OK, encode_message(&message, dialect).body);
            response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
            response
        }
    }
}

/// The model's name for a person's answer.
const PERSON: &str = "person";

/// Returns whether the task belongs to the caller with this key. Without keys, all callers are the same.
fn is_of(task: &Task, key: Option<&Arc<Key>>) -> bool {
    key.is_some_and(|key| key.is_admin()) || task.tenant.as_deref() == key.map(|key| &*key.name)
}

/// Returns the dialect in which the caller wants the answer; `None` for none.
fn dialect(uri: &Uri) -> Result<Option<Dialect>, String> {
    let mut dialect = None;
    for [name, value] in query::pairs(uri)? {
        dialect = match (&*name, &*value) {
            ("dialect", "anthropic") => Some(Dialect::Anthropic),
            ("dialect", "openai") => Some(Dialect::OpenAi),
            ("dialect", "responses") => Some(Dialect::Responses),
            ("dialect", "gemini") => Some(Dialect::Gemini),
            ("dialect", _) => return Err("`dialect` is `anthropic`, `openai`, `responses` or `gemini`".to_owned()),
            // Unknown parameters are ignored, as on the paths of the models.
            _ => dialect,
        };
    }
    Ok(dialect)
}
