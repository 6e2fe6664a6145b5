//! The registry of keys and orders in the file.

use std::{str::FromStr, sync::Arc, time::Duration};

use rusqlite::{Connection, Error, OptionalExtension as _, Row, TransactionBehavior, types::Type};

use super::{Sqlite, clock::now};
use crate::{
    ledger_columns::signed,
    registry::{
        self, EntryKind, KnownEntries, RegistryChange, RegistryChanges, RegistryEdit, RegistryEntry, RegistryOutcome,
        RegistrySnapshot, RegistryStore, StoreFuture,
    },
};

const LATEST: &str = "SELECT coalesce(max(revision), 0) FROM registry_changes";
const ENTRIES: &str = "SELECT kind, name, document, revision FROM registry WHERE kind = ?1 ORDER BY name";
const ENTRY: &str = "SELECT revision, document FROM registry WHERE kind = ?1 AND name = ?2";
const LATER: &str = "SELECT revision, at, actor, action, kind, name, before, after FROM registry_changes
    WHERE revision > ?1 ORDER BY revision LIMIT ?2";
const EARLIER: &str = "SELECT revision, at, actor, action, kind, name, before, after FROM registry_changes
    WHERE revision < ?1 ORDER BY revision DESC LIMIT ?2";
const EARLIER_OF_NAME: &str = "SELECT revision, at, actor, action, kind, name, before, after FROM registry_changes
    WHERE revision < ?1 AND kind = ?3 AND name = ?4 ORDER BY revision DESC LIMIT ?2";
const LOG: &str = "INSERT INTO registry_changes (revision, at, actor, action, kind, name, before, after)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const PUT: &str = "INSERT OR REPLACE INTO registry (kind, name, document, revision) VALUES (?1, ?2, ?3, ?4)";
const DELETE: &str = "DELETE FROM registry WHERE kind = ?1 AND name = ?2";

fn kind(row: &Row<'_>, column: usize) -> Result<EntryKind, Error> {
    let name: String = row.get(column)?;
    EntryKind::from_str(&name).map_err(|cause| Error::FromSqlConversionFailure(column, Type::Text, Box::new(cause)))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

fn text(row: &Row<'_>, column: usize) -> Result<Arc<str>, Error> {
    Ok(row.get::<_, String>(column)?.into())
}

fn entry(row: &Row<'_>) -> Result<RegistryEntry, Error> {
    Ok(RegistryEntry { kind: kind(row, 0)?, name: text(row, 1)?, document: text(row, 2)?, revision: count(row, 3)? })
}

fn change(row: &Row<'_>) -> Result<RegistryChange, Error> {
    let document = |column| Ok::<_, Error>(row.get::<_, Option<String>>(column)?.map(Arc::from));
    Ok(RegistryChange {
        revision: count(row, 0)?,
        at: Duration::from_millis(count(row, 1)?),
        actor: text(row, 2)?,
        action: text(row, 3)?,
        kind: kind(row, 4)?,
        name: text(row, 5)?,
        before: document(6)?,
        after: document(7)?,
    })
}

fn latest(file: &Connection) -> Result<u64, Error> {
    file.query_row(LATEST, (), |row| count(row, 0))
}

fn apply(file: &mut Connection, actor: &str, edits: Vec<RegistryEdit>) -> Result<RegistryOutcome, Error> {
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut known = KnownEntries::new();
    {
        let mut sql = writing.prepare(ENTRY)?;
        for RegistryEdit { kind, name, .. } in &edits {
            let found = sql.query_row((kind.name(), &**name), |row| Ok((count(row, 0)?, text(row, 1)?))).optional()?;
            known.extend(found.map(|found| ((*kind, name.clone()), found)));
        }
    }
    let (at, latest) = (now(), latest(&writing)?);
    let changes = registry::changes(actor, Duration::from_millis(at.unsigned_abs()), latest, &mut known, edits);
    let changes = match changes {
        Ok(changes) => changes,
        Err((kind, name)) => return Ok(RegistryOutcome::Conflict(kind, name)),
    };
    let revision = changes.last().map_or(latest, |change| change.revision);
    {
        let (mut log, mut put, mut delete) = (writing.prepare(LOG)?, writing.prepare(PUT)?, writing.prepare(DELETE)?);
        for change in changes {
            let RegistryChange { revision, actor, action, kind, name, before, after, .. } = &change;
            let revision = signed(*revision);
            let (before, after) = (before.as_deref(), after.as_deref());
            log.execute((revision, at, &**actor, &**action, kind.name(), &**name, before, after))?;
            match after {
                Some(document) => put.execute((kind.name(), &**name, document, revision))?,
                None => delete.execute((kind.name(), &**name))?,
            };
        }
    }
    writing.commit()?;
    Ok(RegistryOutcome::Applied(revision))
}

impl RegistryStore for Sqlite {
    fn read(&self, kind: EntryKind) -> StoreFuture<'_, RegistrySnapshot> {
        Box::pin(self.call("reading the registry", move |file| {
            let reading = file.transaction()?;
            let revision = latest(&reading)?;
            let entries = reading.prepare(ENTRIES)?.query_map([kind.name()], entry)?.collect::<Result<_, _>>()?;
            Ok(RegistrySnapshot { revision, entries })
        }))
    }

    fn changes(&self, after: u64, limit: usize) -> StoreFuture<'_, RegistryChanges> {
        Box::pin(self.call("reading the registry's changes", move |file| {
            let reading = file.transaction()?;
            let latest = latest(&reading)?;
            let mut sql = reading.prepare(LATER)?;
            let rows = sql.query_map((signed(after), signed(limit as u64)), change)?;
            Ok(RegistryChanges { latest, changes: rows.collect::<Result<_, _>>()? })
        }))
    }

    fn history<'a>(
        &'a self,
        name: Option<(EntryKind, &'a str)>,
        before: Option<u64>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<RegistryChange>> {
        let name = name.map(|(kind, name)| (kind, name.to_owned()));
        Box::pin(self.call("reading the registry's changes", move |file| {
            let (before, limit) = (before.map_or(i64::MAX, signed), signed(limit as u64));
            match name {
                None => file.prepare(EARLIER)?.query_map((before, limit), change)?.collect(),
                Some((kind, name)) => {
                    let mut sql = file.prepare(EARLIER_OF_NAME)?;
                    sql.query_map((before, limit, kind.name(), name), change)?.collect()
                }
            }
        }))
    }

    fn apply<'a>(&'a self, actor: &'a str, edits: Vec<RegistryEdit>) -> StoreFuture<'a, RegistryOutcome> {
        let actor = actor.to_owned();
        Box::pin(self.call("changing the registry", move |file| apply(file, &actor, edits)))
    }
}
