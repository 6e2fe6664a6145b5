//! The registry of keys and orders in the database.

use std::{str::FromStr, sync::Arc, time::Duration};

use tokio_postgres::{Client, Error, IsolationLevel, Row};

use super::Postgres;
use crate::{
    ledger_columns::signed,
    registry::{
        self, EntryKind, KnownEntries, RegistryChange, RegistryChanges, RegistryEdit, RegistryEntry, RegistryOutcome,
        RegistrySnapshot, RegistryStore, StoreFuture,
    },
};
use steadfast::store::{StoreError, StoreErrorKind};

/// Orders come one after the other, so that revisions appear in their order; whoever reads does not wait.
const LOCK: &str = "SET LOCAL lock_timeout = '5s'; LOCK TABLE steadfast_registry_changes IN EXCLUSIVE MODE";
const LATEST: &str = "SELECT coalesce(max(revision), 0), steadfast_now() FROM steadfast_registry_changes";
const ENTRIES: &str = "SELECT kind, name, document, revision FROM steadfast_registry WHERE kind = $1 ORDER BY name";
const SOME: &str = "SELECT kind, name, document, revision FROM steadfast_registry
    JOIN unnest($1::text[], $2::text[]) AS wanted (kind, name) USING (kind, name)";
const LATER: &str = "SELECT revision, at, actor, action, kind, name, before, after FROM steadfast_registry_changes
    WHERE revision > $1 ORDER BY revision LIMIT $2";
const EARLIER: &str = "SELECT revision, at, actor, action, kind, name, before, after FROM steadfast_registry_changes
    WHERE revision < $1 AND ($3::text IS NULL OR kind = $3 AND name = $4) ORDER BY revision DESC LIMIT $2";
const LOG: &str = "INSERT INTO steadfast_registry_changes (revision, at, actor, action, kind, name, before, after)
    SELECT revision, $2, $3, action, kind, name, before, after
    FROM unnest($1::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
        AS change (revision, action, kind, name, before, after)";
const DELETE: &str = "DELETE FROM steadfast_registry AS had USING unnest($1::text[], $2::text[]) AS gone (kind, name)
    WHERE had.kind = gone.kind AND had.name = gone.name";
const PUT: &str = "INSERT INTO steadfast_registry (kind, name, document, revision)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])";

/// A row that cannot be read, or the reason of the database.
enum RegistryError {
    Postgres(Error),
    Unknown(registry::UnknownEntryKind),
}

impl From<Error> for RegistryError {
    fn from(cause: Error) -> Self {
        Self::Postgres(cause)
    }
}

impl From<registry::UnknownEntryKind> for RegistryError {
    fn from(cause: registry::UnknownEntryKind) -> Self {
        Self::Unknown(cause)
    }
}

fn count(row: &Row, column: usize) -> Result<u64, Error> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

fn text(row: &Row, column: usize) -> Result<Arc<str>, Error> {
    Ok(row.try_get::<_, &str>(column)?.into())
}

fn entry(row: &Row) -> Result<RegistryEntry, RegistryError> {
    let kind = EntryKind::from_str(row.try_get(0)?)?;
    Ok(RegistryEntry { kind, name: text(row, 1)?, document: text(row, 2)?, revision: count(row, 3)? })
}

fn change(row: &Row) -> Result<RegistryChange, RegistryError> {
    let document = |column| Ok::<_, Error>(row.try_get::<_, Option<&str>>(column)?.map(Arc::from));
    Ok(RegistryChange {
        revision: count(row, 0)?,
        at: Duration::from_millis(count(row, 1)?),
        actor: text(row, 2)?,
        action: text(row, 3)?,
        kind: EntryKind::from_str(row.try_get(4)?)?,
        name: text(row, 5)?,
        before: document(6)?,
        after: document(7)?,
    })
}

fn changes(rows: &[Row]) -> Result<Vec<RegistryChange>, RegistryError> {
    rows.iter().map(change).collect()
}

async fn read(client: &mut Client, kind: EntryKind) -> Result<RegistrySnapshot, RegistryError> {
    let reading = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let reading = reading.start().await?;
    let revision = count(&reading.query_one(LATEST, &[]).await?, 0)?;
    let entries = reading.query(ENTRIES, &[&kind.name()]).await?.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(RegistrySnapshot { revision, entries })
}

async fn apply(client: &mut Client, actor: &str, edits: Vec<RegistryEdit>) -> Result<RegistryOutcome, RegistryError> {
    let writing = client.transaction().await?;
    writing.batch_execute(LOCK).await?;
    let row = writing.query_one(LATEST, &[]).await?;
    let (latest, at) = (count(&row, 0)?, Duration::from_millis(count(&row, 1)?));
    let (kinds, names): (Vec<_>, Vec<_>) = edits.iter().map(|edit| (edit.kind.name(), &*edit.name)).unzip();
    let found = writing.query(SOME, &[&kinds, &names]).await?;
    let found = found.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let known = found.into_iter().map(|found| ((found.kind, found.name), (found.revision, found.document)));
    let changes = match registry::changes(actor, at, latest, &mut known.collect::<KnownEntries>(), edits) {
        Ok(changes) => changes,
        Err((kind, name)) => return Ok(RegistryOutcome::Conflict(kind, name)),
    };
    let revision = changes.last().map_or(latest, |change| change.revision);
    let revisions: Vec<i64> = changes.iter().map(|change| signed(change.revision)).collect();
    let texts = |text: fn(&RegistryChange) -> &str| changes.iter().map(text).collect::<Vec<_>>();
    let (actions, kinds, names) =
        (texts(|change| &change.action), texts(|change| change.kind.name()), texts(|change| &change.name));
    let documents = |document: fn(&RegistryChange) -> Option<&str>| changes.iter().map(document).collect::<Vec<_>>();
    let (before, after) = (documents(|change| change.before.as_deref()), documents(|change| change.after.as_deref()));
    let at = signed(at.as_millis().try_into().unwrap_or(u64::MAX));
    writing.execute(LOG, &[&revisions, &at, &actor, &actions, &kinds, &names, &before, &after]).await?;
    writing.execute(DELETE, &[&kinds, &names]).await?;
    // Of several changes of one entry the last one counts.
    let mut last = std::collections::BTreeMap::new();
    for change in &changes {
        last.insert((change.kind, &*change.name), change);
    }
    let kept = last.into_values().filter_map(|change| Some((change, change.after.as_deref()?)));
    let (mut kinds, mut names, mut documents, mut revisions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (change, document) in kept {
        kinds.push(change.kind.name());
        names.push(&*change.name);
        documents.push(document);
        revisions.push(signed(change.revision));
    }
    writing.execute(PUT, &[&kinds, &names, &documents, &revisions]).await?;
    writing.commit().await?;
    Ok(RegistryOutcome::Applied(revision))
}

impl Postgres {
    fn registry_failed(&self, what: &'static str, cause: RegistryError) -> StoreError {
        match cause {
            RegistryError::Postgres(cause) => self.failed(what, cause),
            RegistryError::Unknown(cause) => {
                StoreError::new(StoreErrorKind::NewerSchema, cause.to_string()).with_source(cause)
            }
        }
    }
}

impl RegistryStore for Postgres {
    fn read(&self, kind: EntryKind) -> StoreFuture<'_, RegistrySnapshot> {
        Box::pin(async move {
            const WHAT: &str = "reading the registry";
            let mut client = self.client(WHAT).await?;
            read(&mut client, kind).await.map_err(|cause| self.registry_failed(WHAT, cause))
        })
    }

    fn changes(&self, after: u64, limit: usize) -> StoreFuture<'_, RegistryChanges> {
        Box::pin(async move {
            const WHAT: &str = "reading the registry's changes";
            let client = self.client(WHAT).await?;
            let read = async {
                // Before the changes: a later one has the next turn.
                let latest = count(&client.query_one(LATEST, &[]).await?, 0)?;
                if latest <= after {
                    return Ok(RegistryChanges { latest, changes: Vec::new() });
                }
                let rows = client.query(LATER, &[&signed(after), &signed(limit as u64)]).await?;
                Ok(RegistryChanges { latest, changes: changes(&rows)? })
            };
            read.await.map_err(|cause| self.registry_failed(WHAT, cause))
        })
    }

    fn history<'a>(
        &'a self,
        name: Option<(EntryKind, &'a str)>,
        before: Option<u64>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<RegistryChange>> {
        Box::pin(async move {
            const WHAT: &str = "reading the registry's changes";
            let client = self.client(WHAT).await?;
            let (before, limit) = (before.map_or(i64::MAX, signed), signed(limit as u64));
            let (kind, name) = (name.map(|(kind, _)| kind.name()), name.map(|(_, name)| name));
            let read = async { changes(&client.query(EARLIER, &[&before, &limit, &kind, &name]).await?) };
            read.await.map_err(|cause| self.registry_failed(WHAT, cause))
        })
    }

    fn apply<'a>(&'a self, actor: &'a str, edits: Vec<RegistryEdit>) -> StoreFuture<'a, RegistryOutcome> {
        Box::pin(async move {
            const WHAT: &str = "changing keys";
            let mut client = self.client(WHAT).await?;
            apply(&mut client, actor, edits).await.map_err(|cause| self.registry_failed(WHAT, cause))
        })
    }
}
