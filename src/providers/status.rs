//! The meaning of an HTTP status without an API's error.

use http::StatusCode;

use crate::ErrorKind;

/// Returns the kind of an answer that no API wrote, such as a proxy's page. `waits` is true if the answer names a wait.
/// `is_said` is true if it may be an API's after all: words, or fields of an unknown shape.
pub(super) fn of_page(status: StatusCode, waits: bool, is_said: bool) -> ErrorKind {
    match ErrorKind::from_status(status) {
        // No API refused the key: a server before it refused this request.
        _ if status == StatusCode::FORBIDDEN => ErrorKind::Blocked,
        // A 429 that no API wrote, and that names no time, is a sign of an overloaded front.
        ErrorKind::RateLimited if !waits => ErrorKind::Overloaded,
        // A page or an empty body is no verdict on the request: a firewall or a proxy never gave it to the API.
        ErrorKind::InvalidRequest if !is_said => ErrorKind::Blocked,
        kind => kind,
    }
}
