//! What an HTTP status means where nothing that comes with it says more.

use http::StatusCode;

use crate::ErrorKind;

/// What a status means where the body says nothing.
pub(super) fn of_known_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 | 403 => ErrorKind::Auth,
        402 => ErrorKind::QuotaExhausted,
        404 | 410 => ErrorKind::NotFound,
        // 499: some servers say so when they gave up the request themselves.
        408 | 499 | 504 | 524 => ErrorKind::Timeout,
        // Both large SDKs repeat a conflict, so that it is the server's.
        409 | 425 => ErrorKind::Server,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        // 498: Groq's "capacity exceeded".
        498 | 503 | 529 => ErrorKind::Overloaded,
        400..=499 => ErrorKind::InvalidRequest,
        _ => ErrorKind::Server,
    }
}

/// The same of an answer that no API wrote, such as a proxy's page. `waits` says whether it tells when to come again.
pub(super) fn of_page(status: StatusCode, waits: bool) -> ErrorKind {
    match of_known_status(status) {
        // No API refused the key: what stands before it refused this request.
        _ if status == StatusCode::FORBIDDEN => ErrorKind::Blocked,
        // A 429 that no API wrote, and that names no time, is a sign of an overloaded front.
        ErrorKind::RateLimited if !waits => ErrorKind::Overloaded,
        kind => kind,
    }
}
