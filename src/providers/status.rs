//! What an HTTP status means that comes with no API's error.

use http::StatusCode;

use crate::ErrorKind;

/// The kind of an answer that no API wrote, such as a proxy's page. `waits` says whether it tells when to come again.
pub(super) fn of_page(status: StatusCode, waits: bool) -> ErrorKind {
    match ErrorKind::from_status(status) {
        // No API refused the key: what stands before it refused this request.
        _ if status == StatusCode::FORBIDDEN => ErrorKind::Blocked,
        // A 429 that no API wrote, and that names no time, is a sign of an overloaded front.
        ErrorKind::RateLimited if !waits => ErrorKind::Overloaded,
        kind => kind,
    }
}
