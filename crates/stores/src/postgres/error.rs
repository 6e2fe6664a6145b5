//! Classification of PostgreSQL's errors.

use std::{error::Error as _, io};

use tokio_postgres::{Error, error::DbError};
use tower::BoxError;

use steadfast::store::{StoreError, StoreErrorKind};

/// Converts an error of a server that was reached before.
pub(super) fn failed(what: String, error: Error) -> StoreError {
    let kind = match error.as_db_error() {
        Some(said) => kind_of_code(said.code().code()),
        None if error.is_closed() || is_of_the_connection(&error) => StoreErrorKind::Unavailable,
        // A row does not contain what was written.
        None => StoreErrorKind::Corrupt,
    };
    StoreError::new(kind, what).with_source(without_detail(error))
}

/// Converts an error of connecting. Unless server or network caused it, the URL is wrong.
pub(super) fn not_connected(what: String, error: Error) -> StoreError {
    let kind = match error.as_db_error() {
        Some(said) => kind_of_code(said.code().code()),
        None if error.is_closed() || is_of_the_connection(&error) => StoreErrorKind::Unavailable,
        None => StoreErrorKind::Misconfigured,
    };
    StoreError::new(kind, what).with_source(without_detail(error))
}

fn is_of_the_connection(error: &Error) -> bool {
    // rustls reports `InvalidData` for an untrusted certificate.
    let said = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    said.is_some_and(|said| said.kind() != io::ErrorKind::InvalidData)
}

/// Classifies SQLSTATE by the classes of PostgreSQL's documentation, appendix A.
fn kind_of_code(code: &str) -> StoreErrorKind {
    match code {
        "53100" => StoreErrorKind::Full,
        "25006" => StoreErrorKind::ReadOnly,
        "42501" | "3D000" | "3F000" => StoreErrorKind::Misconfigured,
        _ => match code.get(..2) {
            // Authorization and passwords.
            Some("28") => StoreErrorKind::Misconfigured,
            // The contents of a row, a missing table, a damaged page.
            Some("22" | "23" | "42" | "XX") => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Unavailable,
        },
    }
}

/// Returns the cause without its detail, which may contain a row.
fn without_detail(error: Error) -> BoxError {
    match error.as_db_error().map(DbError::message) {
        Some(message) => message.to_owned().into(),
        None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        for (code, kind) in [
            ("53100", StoreErrorKind::Full),
            ("53300", StoreErrorKind::Unavailable),
            ("57P01", StoreErrorKind::Unavailable),
            ("08006", StoreErrorKind::Unavailable),
            ("25006", StoreErrorKind::ReadOnly),
            ("28P01", StoreErrorKind::Misconfigured),
            ("3D000", StoreErrorKind::Misconfigured),
            ("42501", StoreErrorKind::Misconfigured),
            ("42P01", StoreErrorKind::Corrupt),
            ("XX001", StoreErrorKind::Corrupt),
            ("", StoreErrorKind::Unavailable),
        ] {
            assert_eq!(kind_of_code(code), kind, "{code}");
        }
    }
}
