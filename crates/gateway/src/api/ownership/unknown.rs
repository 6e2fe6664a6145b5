//! The words of an unknown id, in the protocol of its caller. A foreign id has the same.

use http::StatusCode;
use serde_json::json;
use steadfast::{Dialect, ErrorKind, LlmError};

use super::names::MAX_ID;

/// The beginnings of ids, and the names of their objects. Those of items have no row.
const KINDS: [(&str, &str); 16] = [
    ("file", "File"),
    ("cfile_", "File"),
    ("assistant-", "File"),
    ("vs_", "Vector store"),
    ("vsfb_", "File batch"),
    ("cntr_", "Container"),
    ("container_", "Container"),
    ("conv_", "Conversation"),
    ("batch_", "Batch"),
    ("msgbatch_", "Batch"),
    ("asst_", "Assistant"),
    ("thread_", "Thread"),
    ("upload_", "Upload"),
    ("ftjob-", "Fine-tuning job"),
    ("skill_", "Skill"),
    ("video_", "Video"),
];

/// Returns the error of an id that is unknown, or another caller's: which of the two is nobody else's to know.
pub(crate) fn unknown(id: &str, dialect: Dialect) -> LlmError {
    let id: String = id.chars().take(MAX_ID).collect();
    let kind = KINDS.iter().find(|(beginning, _)| id.starts_with(beginning)).map_or("Object", |(_, kind)| kind);
    if dialect == Dialect::Gemini {
        let message = match id.starts_with("files/") {
            true => format!("You do not have permission to access the {id} or it may not exist."),
            false => format!("{id} not found (or permission denied)"),
        };
        let body = json!({"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}});
        return refused(StatusCode::FORBIDDEN, dialect, message, body);
    }
    not_found(format!("{kind} with id '{id}' not found: no object of this key has this id"), dialect)
}

/// Returns the error of an object that is not there, with these words.
pub(crate) fn not_found(message: String, dialect: Dialect) -> LlmError {
    let body = match dialect {
        Dialect::Anthropic => json!({"type": "error", "error": {"type": "not_found_error", "message": message}}),
        _ => json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}}),
    };
    refused(StatusCode::NOT_FOUND, dialect, message, body)
}

/// Returns the error of a response that is unknown, or another caller's.
pub(crate) fn unknown_response(id: &str) -> LlmError {
    let id: String = id.chars().take(MAX_ID).collect();
    let message = format!("Previous response with id '{id}' not found.");
    let body = json!({"error": {
        "message": &message,
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": RESPONSE_NOT_FOUND,
    }});
    refused(StatusCode::BAD_REQUEST, Dialect::Responses, message, body).with_code(RESPONSE_NOT_FOUND)
}

/// Returns the error of an item that is unknown, or another caller's.
pub(crate) fn unknown_item(id: &str) -> LlmError {
    let id: String = id.chars().take(MAX_ID).collect();
    let message = format!("Item with id '{id}' not found.");
    let body = json!({"error": {"message": message, "type": "invalid_request_error", "param": "input", "code": null}});
    refused(StatusCode::NOT_FOUND, Dialect::Responses, message, body)
}

const RESPONSE_NOT_FOUND: &str = "previous_response_not_found";

fn refused(status: StatusCode, dialect: Dialect, message: String, body: serde_json::Value) -> LlmError {
    LlmError::new(ErrorKind::NotFound, message)
        .with_status(status)
        .with_dialect(dialect)
        .with_raw(body.to_string().into())
}
