//! The lines of a journal.

use serde::{Deserialize, Serialize};

use crate::row::LedgerRow;

/// A line that is read. `R` is the row, owned or borrowed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record<R = LedgerRow> {
    /// A request has begun. The row has what is known, and an estimate of the amounts.
    Begun(R),
    /// A request has ended, or a row has come without a beginning.
    Ended(R),
}

impl Record<&LedgerRow> {
    /// Appends the line.
    pub(crate) fn encode(&self, lines: &mut Vec<u8>) {
        let start = lines.len();
        // A row has nothing that JSON lacks. Were it otherwise, the row would still reach the store by memory.
        match serde_json::to_writer(&mut *lines, self) {
            Ok(()) => lines.push(b'\n'),
            Err(_) => lines.truncate(start),
        }
    }
}

/// Reads a line, with or without its line feed.
pub(crate) fn decode(line: &[u8]) -> Option<Record> {
    serde_json::from_slice(line).ok()
}
