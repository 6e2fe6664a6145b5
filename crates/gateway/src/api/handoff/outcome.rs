//! Errors of the desk, in JSON.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use steadfast::store::StoreErrorKind;
use steadfast_handoff::{DeskError, TaskId};

use crate::api::admin::{error, wrong};

/// The seconds to wait before asking again: for a pending answer, and for a store that is down.
pub(super) const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Returns the response to an error of the desk.
pub(super) fn desk_error(problem: &DeskError) -> Response<Body> {
    let status = match problem {
        DeskError::Unknown { .. } => StatusCode::NOT_FOUND,
        DeskError::AlreadyAnswered { .. } | DeskError::ClaimedByAnother { .. } | DeskError::NotClaimed { .. } => {
            StatusCode::CONFLICT
        }
        DeskError::Expired { .. } => StatusCode::GONE,
        DeskError::Invalid { .. } => StatusCode::BAD_REQUEST,
        // Other tasks are readable.
        DeskError::Store(store) if store.kind() == StoreErrorKind::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
        DeskError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if let DeskError::Store(store) = problem {
        tracing::warn!(problem = %store, "store of tasks failed");
    }
    let mut response = error(status, problem.name(), &problem.to_string());
    if matches!(problem, DeskError::Store(store) if store.heals()) {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS);
    }
    response
}

/// Returns the response of a gateway without tasks.
pub(super) fn no_desk() -> Response<Body> {
    let message = "this gateway hands nothing to people: its configuration has no tier with `provider: handoff`";
    error(StatusCode::NOT_FOUND, "no_handoff", message)
}

/// Returns the task that a path names.
pub(super) fn id(text: &str) -> Result<TaskId, Box<Response<Body>>> {
    text.parse().map_err(|problem: steadfast_handoff::InvalidTaskId| wrong(problem.to_string()).into())
}

#[cfg(test)]
mod tests {
    use steadfast::store::StoreError;

    use super::*;

    #[test]
    fn a_store_that_is_ill_is_told_from_a_task_that_is_damaged() {
        for (kind, status, again) in [
            (StoreErrorKind::Unavailable, 503, true),
            (StoreErrorKind::Full, 503, false),
            (StoreErrorKind::ReadOnly, 503, false),
            (StoreErrorKind::Corrupt, 500, false),
        ] {
            let response = desk_error(&DeskError::Store(StoreError::new(kind, "reading a task")));
            assert_eq!(response.status(), status, "{kind:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), again, "{kind:?}");
        }
    }
}
