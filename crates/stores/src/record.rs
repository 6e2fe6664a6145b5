//! Tasks as rows of a database, read back in one place for all databases.

use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_handoff::{
    Callback, Claimant, ClaimantKind, Delivery, DeliveryKind, DeliveryState, Task, TaskAnswer, TaskClaim, TaskHead,
    TaskId, TaskState, TaskSummary,
};

/// The column that makes a row unreadable as a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamagedColumn(pub(crate) &'static str);

impl DamagedColumn {
    pub(crate) fn of(self, id: TaskId) -> StoreError {
        StoreError::new(StoreErrorKind::Corrupt, format!("the column `{}` of {id}", self.0))
    }
}

/// A row of any database.
pub(crate) trait Columns {
    fn text(&self, column: &'static str) -> Result<Option<String>, DamagedColumn>;
    fn number(&self, column: &'static str) -> Result<Option<i64>, DamagedColumn>;

    fn required(&self, column: &'static str) -> Result<String, DamagedColumn> {
        self.text(column)?.ok_or(DamagedColumn(column))
    }

    /// Reads a time, or a count.
    fn positive(&self, column: &'static str) -> Result<Option<u64>, DamagedColumn> {
        self.number(column)?.map(|number| u64::try_from(number).map_err(|_| DamagedColumn(column))).transpose()
    }

    fn id(&self, column: &'static str) -> Result<TaskId, DamagedColumn> {
        self.required(column)?.parse().map_err(|_| DamagedColumn(column))
    }

    fn claimant(&self, kind: &'static str, name: &'static str) -> Result<Option<Claimant>, DamagedColumn> {
        let Some(said) = self.text(kind)? else { return Ok(None) };
        let known = [ClaimantKind::Person, ClaimantKind::Redrive];
        let kind = known.into_iter().find(|known| known.name() == said).ok_or(DamagedColumn(kind))?;
        Ok(Some(Claimant { kind, name: self.required(name)? }))
    }
}

/// The columns of a [`TaskHead`].
pub(crate) const HEAD: &str = "id, created_at, expires_at, claim_kind, claim_name, claim_until, answered_kind, answered_name, \
    answered_at";
/// The further columns of a [`TaskSummary`].
pub(crate) const SUMMARY: &str = "feature, session, tenant, reason, preview";
/// The further columns of a [`Task`].
pub(crate) const WHOLE: &str = "requires_human, request, attempts, caller, answer";
/// The columns of a [`Delivery`].
pub(crate) const DELIVERY: &str = "id, task, kind, url, state, attempts, next_at, problem";

pub(crate) fn head(row: &impl Columns) -> Result<TaskHead, DamagedColumn> {
    let claim = match (row.claimant("claim_kind", "claim_name")?, row.positive("claim_until")?) {
        (Some(by), Some(until)) => Some(TaskClaim::new(by, until)),
        (None, None) => None,
        _ => return Err(DamagedColumn("claim_until")),
    };
    let answered = match (row.claimant("answered_kind", "answered_name")?, row.positive("answered_at")?) {
        (Some(by), Some(at)) => Some((by, at)),
        (None, None) => None,
        _ => return Err(DamagedColumn("answered_at")),
    };
    let (created_at, expires_at) = (row.positive("created_at")?, row.positive("expires_at")?);
    Ok(TaskHead {
        id: row.id("id")?,
        created_at: created_at.ok_or(DamagedColumn("created_at"))?,
        expires_at: expires_at.ok_or(DamagedColumn("expires_at"))?,
        claim,
        answered,
    })
}

pub(crate) fn summary(row: &impl Columns, now: u64) -> Result<TaskSummary, DamagedColumn> {
    let head = head(row)?;
    Ok(TaskSummary {
        id: head.id,
        state: head.state(now),
        feature: row.text("feature")?,
        session: row.text("session")?,
        tenant: row.text("tenant")?,
        created_at: head.created_at,
        expires_at: head.expires_at,
        reason: row.required("reason")?,
        claim: head.claim_at(now),
        answered_at: head.answered.as_ref().map(|(_, at)| *at),
        preview: row.required("preview")?,
    })
}

pub(crate) fn task(row: &impl Columns, now: u64, deliveries: Vec<Delivery>) -> Result<Task, DamagedColumn> {
    let head = head(row)?;
    let TaskSummary { id, state, feature, session, tenant, created_at, expires_at, reason, claim, .. } =
        summary(row, now)?;
    let answer = answer(row)?;
    if answer.is_some() != head.answered.is_some() {
        return Err(DamagedColumn("answer"));
    }
    Ok(Task {
        id,
        state,
        feature,
        session,
        tenant,
        created_at,
        expires_at,
        requires_human: row.number("requires_human")?.ok_or(DamagedColumn("requires_human"))? != 0,
        reason,
        attempts: json("attempts", &row.required("attempts")?)?,
        caller: row.text("caller")?.map(|text| json("caller", &text)).transpose()?,
        request: json("request", &row.required("request")?)?,
        claim,
        answer,
        deliveries,
    })
}

/// Reads the answer, if there is one.
pub(crate) fn answer(row: &impl Columns) -> Result<Option<TaskAnswer>, DamagedColumn> {
    row.text("answer")?.map(|text| json("answer", &text)).transpose()
}

/// Reads the receiver of the callback.
pub(crate) fn callback(row: &impl Columns) -> Result<Option<Callback>, DamagedColumn> {
    row.text("callback")?.map(|text| json("callback", &text)).transpose()
}

pub(crate) fn delivery(row: &impl Columns) -> Result<Delivery, DamagedColumn> {
    let (kind, state) = (row.required("kind")?, row.required("state")?);
    let kinds = [DeliveryKind::Notification, DeliveryKind::Callback];
    let states = [DeliveryState::Pending, DeliveryState::Done, DeliveryState::Dead];
    let attempts = row.positive("attempts")?.and_then(|attempts| u32::try_from(attempts).ok());
    Ok(Delivery {
        id: row.required("id")?,
        task: row.id("task")?,
        kind: kinds.into_iter().find(|known| known.name() == kind).ok_or(DamagedColumn("kind"))?,
        url: row.text("url")?,
        state: states.into_iter().find(|known| known.name() == state).ok_or(DamagedColumn("state"))?,
        attempts: attempts.ok_or(DamagedColumn("attempts"))?,
        next_at: row.positive("next_at")?,
        problem: row.text("problem")?,
    })
}

fn json<T: serde::de::DeserializeOwned>(column: &'static str, text: &str) -> Result<T, DamagedColumn> {
    // The parser's error may quote the request.
    serde_json::from_str(text).map_err(|_| DamagedColumn(column))
}

/// Serializes a value of this crate's own types, which never fail to serialize.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|cause| StoreError::new(StoreErrorKind::Corrupt, "a value").with_source(cause))
}

/// Converts a number to the databases' type.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns SQL that counts a table's tasks in a state now, without reading rows where an index suffices.
pub(crate) fn count_of(state: TaskState, table: &str, now: u64) -> String {
    let count = |condition: &str| format!("SELECT count(*) FROM {table} WHERE {condition}");
    match state {
        TaskState::Answered => format!("SELECT (SELECT count(*) FROM {table}) - ({})", count("answered_at IS NULL")),
        open => count(&is_in(open, now)),
    }
}

/// Returns an SQL condition for tasks in a state now.
pub(crate) fn is_in(state: TaskState, now: u64) -> String {
    let open = format!("answered_at IS NULL AND expires_at > {now}");
    match state {
        TaskState::Waiting => format!("{open} AND (claim_until IS NULL OR claim_until <= {now})"),
        TaskState::Claimed => format!("{open} AND claim_until > {now} AND claim_kind = 'person'"),
        TaskState::Redriving => format!("{open} AND claim_until > {now} AND claim_kind = 'redrive'"),
        TaskState::Answered => "answered_at IS NOT NULL".to_owned(),
        TaskState::Expired => format!("answered_at IS NULL AND expires_at <= {now}"),
    }
}

/// Logs a row that cannot be read and is left out of a list.
pub(crate) fn log_damaged(damaged: DamagedColumn) {
    tracing::warn!(event = "task_unreadable", column = damaged.0);
}
