//! What SQLite's errors say of the store.

use rusqlite::{Error, ErrorCode};

use crate::store::StoreErrorKind;

/// What is the matter with a file that was opened before.
pub(super) fn kind(error: &Error) -> StoreErrorKind {
    match error {
        Error::SqliteFailure(cause, _) | Error::SqlInputError { error: cause, .. } => kind_of_code(cause.code),
        // A value that is not of the kind that was written there.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..)
        | Error::QueryReturnedNoRows => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}

fn kind_of_code(code: ErrorCode) -> StoreErrorKind {
    match code {
        ErrorCode::DiskFull => StoreErrorKind::Full,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreErrorKind::ReadOnly,
        // `Unknown` is what SQLite says of a table that is not there: somebody has changed the file.
        ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::Unknown => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}

/// What is the matter with a file that is being opened: what is no database is not a damaged one, and what cannot be
/// opened is named wrongly.
pub(super) fn kind_at_open(error: &Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::CannotOpen) => StoreErrorKind::Misconfigured,
        _ => kind(error),
    }
}
