//! What PostgreSQL's errors say of the store.

use std::{error::Error as _, io};

use tokio_postgres::{Error, error::DbError};
use tower::BoxError;

use crate::store::{StoreError, StoreErrorKind};

/// What a server that was reached before says.
pub(super) fn failed(what: String, error: Error) -> StoreError {
    let kind = match error.as_db_error() {
        Some(said) => kind_of_code(said.code().code()),
        None if error.is_closed() || is_of_the_connection(&error) => StoreErrorKind::Unavailable,
        // A row that does not hold what was written there.
        None => StoreErrorKind::Corrupt,
    };
    StoreError::new(kind, what).with_source(told(error))
}

/// What came of making a connection: what the server and the network have no part in is how it was named.
pub(super) fn not_connected(what: String, error: Error) -> StoreError {
    let kind = match error.as_db_error() {
        Some(said) => kind_of_code(said.code().code()),
        None if error.is_closed() || is_of_the_connection(&error) => StoreErrorKind::Unavailable,
        None => StoreErrorKind::Misconfigured,
    };
    StoreError::new(kind, what).with_source(told(error))
}

fn is_of_the_connection(error: &Error) -> bool {
    // rustls says `InvalidData` of a certificate that is not trusted.
    let said = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    said.is_some_and(|said| said.kind() != io::ErrorKind::InvalidData)
}

/// The classes of PostgreSQL's documentation, appendix A.
fn kind_of_code(code: &str) -> StoreErrorKind {
    match code {
        "53100" => StoreErrorKind::Full,
        "25006" => StoreErrorKind::ReadOnly,
        "42501" | "3D000" | "3F000" => StoreErrorKind::Misconfigured,
        _ => match code.get(..2) {
            // Who may come in, and by which password.
            Some("28") => StoreErrorKind::Misconfigured,
            // What is in a row, a table that is not there, a damaged page.
            Some("22" | "23" | "42" | "XX") => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Unavailable,
        },
    }
}

/// The cause without its detail, which may hold a row.
fn told(error: Error) -> BoxError {
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
