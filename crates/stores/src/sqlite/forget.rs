//! Deletion of answers by their owner.
//!
//! Only the answer itself names its owner, so this reads all answers: a few at a time, because other calls wait for the
//! file.

use rusqlite::{Connection, Error, types::ValueRef};

use super::Sqlite;
use steadfast::{
    layers::cache::{Answer, AnswerOwner},
    store::StoreError,
};

/// The number of answers that one step reads.
const STEP: i64 = 64;

/// A table of answers, and its key.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Answers,
    Keys,
}

impl Table {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Answers => ("answers", "number"),
            Self::Keys => ("idempotency", "ticket"),
        }
    }
}

impl Sqlite {
    /// Returns the number of deleted answers.
    pub(super) async fn delete_owner(&self, table: Table, owner: AnswerOwner) -> Result<u64, StoreError> {
        let (mut after, mut gone) = (0, 0);
        loop {
            let owner = owner.clone();
            let (last, count) = self.call("forgetting answers", move |file| step(file, table, after, &owner)).await?;
            gone += count;
            match last {
                Some(last) => after = last,
                None => return Ok(gone),
            }
        }
    }
}

/// Runs one step. Returns the last id that it read, if there may be more, and the number of deleted answers.
fn step(file: &mut Connection, table: Table, after: i64, owner: &AnswerOwner) -> Result<(Option<i64>, u64), Error> {
    let (table, number) = table.names();
    let mut found = Vec::new();
    let (mut last, mut count) = (after, 0);
    {
        let mut sql = file.prepare(&format!(
            "SELECT {number}, answer FROM {table} WHERE {number} > ?1 AND answer IS NOT NULL ORDER BY {number} LIMIT ?2"
        ))?;
        let mut rows = sql.query((after, STEP))?;
        while let Some(row) = rows.next()? {
            (last, count) = (row.get(0)?, count + 1);
            if let ValueRef::Blob(bytes) = row.get_ref(1)?
                && Answer::from_bytes(bytes).is_ok_and(|answer| answer.is_of(owner))
            {
                found.push(last);
            }
        }
    }
    for found in &found {
        file.execute(&format!("DELETE FROM {table} WHERE {number} = ?1"), [found])?;
    }
    Ok(((count == STEP).then_some(last), found.len() as u64))
}
