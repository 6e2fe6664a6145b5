//! Classification of SQLite's errors.

use rusqlite::{Error, ErrorCode};

use steadfast::store::StoreErrorKind;

/// Returns the kind of an error of a file that was opened before.
pub(super) fn kind(error: &Error) -> StoreErrorKind {
    match error {
        Error::SqliteFailure(cause, _) | Error::SqlInputError { error: cause, .. } => kind_of_code(cause.code),
        // A value is not of the type that was written.
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
        // SQLite reports `Unknown` for a missing table: the file was changed from outside.
        ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::ConstraintViolation
        | ErrorCode::TypeMismatch
        | ErrorCode::Unknown => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}

/// Returns the kind of an error of opening a file. A file that is no database is misnamed and not damaged, and so is
/// one that cannot be opened.
pub(super) fn kind_at_open(error: &Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::CannotOpen) => StoreErrorKind::Misconfigured,
        _ => kind(error),
    }
}
