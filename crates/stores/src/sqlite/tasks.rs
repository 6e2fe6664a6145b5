//! Tasks handed to people, in the file.

use std::time::Duration;

use rusqlite::{
    Connection, Error, OptionalExtension as _, Row, ToSql, Transaction, TransactionBehavior, named_params,
    types::ValueRef,
};

use super::Sqlite;
use crate::record::{
    self, Columns, DELIVERY, DamagedColumn, HEAD, SUMMARY, WHOLE, count_of, is_in, log_damaged, signed, to_json,
};
use steadfast_handoff::{
    Claimant, Delivery, DeliveryKind, DeliveryOutcome, DeskError, NewAnswer, NewTask, PREVIEW, RedriveScope, Release,
    SWEEP_LIMIT, Task, TaskAnswer, TaskFilter, TaskFuture, TaskHead, TaskId, TaskScope, TaskState, TaskStats,
    TaskStore, TaskSummary, TaskUsage, UsageTotals,
};
use steadfast_internal::wall_clock;

/// An outer error is the file's failure, an inner one the task's.
type TaskOutcome<T> = Result<Result<T, DeskError>, Error>;

impl Columns for Row<'_> {
    fn text(&self, column: &'static str) -> Result<Option<String>, DamagedColumn> {
        match self.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            Ok(value) => value.as_str().map(|text| Some(text.to_owned())).map_err(|_| DamagedColumn(column)),
            Err(_) => Err(DamagedColumn(column)),
        }
    }

    fn number(&self, column: &'static str) -> Result<Option<i64>, DamagedColumn> {
        self.get(column).map_err(|_| DamagedColumn(column))
    }
}

/// Returns the time in Unix milliseconds: all processes of one machine have the same clock.
fn now() -> u64 {
    wall_clock::millis(wall_clock::since_1970())
}

fn until(now: u64, span: Duration) -> i64 {
    signed(now.saturating_add(wall_clock::millis(span)))
}

impl Sqlite {
    /// Runs this in a transaction, which an error rolls back.
    fn writing<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Transaction<'_>, u64) -> TaskOutcome<T> + Send + 'static,
    ) -> TaskFuture<'_, T> {
        Box::pin(async move {
            let done = self.call(what, move |file| {
                let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
                // The time is read once it is this connection's turn.
                let done = work(&writing, now())?;
                if done.is_ok() {
                    writing.commit()?;
                }
                Ok(done)
            });
            done.await?
        })
    }

    fn reading<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection, u64) -> TaskOutcome<T> + Send + 'static,
    ) -> TaskFuture<'_, T> {
        Box::pin(async move { self.call(what, move |file| work(&*file.transaction()?, now())).await? })
    }
}

/// Reads one row by the task's id with `record`.
fn read<T>(
    file: &Connection,
    id: TaskId,
    columns: &str,
    of: impl FnOnce(&Row<'_>) -> Result<T, DamagedColumn>,
) -> TaskOutcome<T> {
    let mut sql = file.prepare(&format!("SELECT {columns} FROM tasks WHERE id = ?1"))?;
    let found = sql.query_row([id.to_string()], |row| Ok(of(row))).optional()?;
    Ok(match found {
        None => Err(DeskError::Unknown { task: id }),
        Some(row) => row.map_err(|damaged| damaged.of(id).into()),
    })
}

fn head(file: &Connection, id: TaskId) -> TaskOutcome<TaskHead> {
    read(file, id, HEAD, |row| record::head(row))
}

fn whole(file: &Connection, id: TaskId, now: u64) -> TaskOutcome<Task> {
    let mut sql =
        file.prepare(&format!("SELECT {DELIVERY} FROM task_deliveries WHERE task = ?1 ORDER BY kind DESC"))?;
    let mut deliveries = Vec::new();
    let mut rows = sql.query([id.to_string()])?;
    while let Some(row) = rows.next()? {
        match record::delivery(row) {
            Ok(delivery) => deliveries.push(delivery),
            Err(damaged) => log_damaged(damaged),
        }
    }
    read(file, id, &format!("{HEAD}, {SUMMARY}, {WHOLE}"), |row| record::task(row, now, deliveries))
}

fn set_claim(file: &Connection, id: TaskId, by: &Claimant, until: i64) -> Result<(), Error> {
    let sql = "UPDATE tasks SET claim_kind = ?2, claim_name = ?3, claim_until = ?4 WHERE id = ?1";
    file.execute(sql, (id.to_string(), by.kind.name(), &by.name, until)).map(drop)
}

fn add_delivery(file: &Connection, delivery: &Delivery) -> Result<(), Error> {
    let sql = "INSERT INTO task_deliveries (id, task, kind, url, state, attempts, next_at) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)";
    let (kind, state, next_at) = (delivery.kind.name(), delivery.state.name(), delivery.next_at.map(signed));
    file.execute(sql, (&delivery.id, delivery.task.to_string(), kind, &delivery.url, state, next_at)).map(drop)
}

fn count(file: &Connection, sql: &str) -> Result<u64, Error> {
    file.query_row(sql, (), |row| row.get::<_, i64>(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

pub(super) const TAKEN: &str =
    "SELECT count(*) FILTER (WHERE answered_at IS NULL AND expires_at > ?1), coalesce(sum(bytes), 0),
    count(*) FILTER (WHERE answered_at IS NULL AND expires_at > ?1 AND tenant = ?2),
    coalesce(sum(bytes) FILTER (WHERE tenant = ?2), 0) FROM tasks";

/// Returns the totals of all tasks, and of this caller's. One pass over an index that has all of it.
fn usage(file: &Connection, tenant: Option<&str>, now: u64) -> Result<TaskUsage, Error> {
    let mut sql = file.prepare(TAKEN)?;
    sql.query_row((signed(now), tenant), |row| {
        let number = |at| row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or(0));
        let share = |at| Ok::<_, Error>(UsageTotals { tasks: number(at)?, bytes: number(at + 1)? });
        Ok(TaskUsage { all: share(0)?, of_caller: tenant.map(|_| share(2)).transpose()? })
    })
}

/// Returns early if a value cannot be read or written as this crate's own.
macro_rules! ok {
    ($done:expr) => {
        match $done {
            Ok(done) => done,
            Err(error) => return Ok(Err(error.into())),
        }
    };
}

impl TaskStore for Sqlite {
    fn is_durable(&self) -> bool {
        true
    }

    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId> {
        self.writing("writing a task down", move |file, now| {
            let id = task.id;
            if let Some(same) = &task.same_as {
                // An expired task no longer stands for the request.
                let sql = "UPDATE tasks SET same_as = NULL WHERE same_as = ?1 AND answered_at IS NULL AND expires_at <= ?2";
                file.execute(sql, (same, signed(now)))?;
            }
            let sql = "SELECT id FROM tasks WHERE id = ?1 OR same_as = ?2 ORDER BY id = ?1 DESC";
            let known = file.query_row(sql, (id.to_string(), &task.same_as), |row| Ok(row.id("id"))).optional()?;
            if let Some(known) = known {
                return Ok(known.map_err(|damaged| damaged.of(id).into()));
            }
            let (request, attempts) = (ok!(to_json(&task.request)), ok!(to_json(&task.attempts)));
            let caller = ok!(task.caller.as_ref().map(to_json).transpose());
            let bytes = (request.len() + attempts.len() + caller.as_ref().map_or(0, String::len)) as u64;
            ok!(task.limits.admit(bytes, &usage(file, task.tenant.as_deref(), now)?));
            let sql = "INSERT INTO tasks (id, created_at, expires_at, feature, session, tenant, reason, preview, requires_human,
                redrive, same_as, callback, request, attempts, caller, bytes)
                VALUES (:id, :created_at, :expires_at, :feature, :session, :tenant, :reason, :preview, :requires_human,
                :redrive, :same_as, :callback, :request, :attempts, :caller, :bytes)";
            file.execute(sql, named_params! {
                ":id": id.to_string(),
                ":created_at": signed(now),
                ":expires_at": until(now, task.ttl),
                ":feature": task.feature,
                ":session": task.session,
                ":tenant": task.tenant,
                ":reason": task.reason,
                ":preview": task.request.preview(PREVIEW),
                ":requires_human": task.requires_human,
                ":redrive": RedriveScope::initial(task.requires_human),
                ":same_as": task.same_as,
                ":callback": ok!(task.callback.as_ref().map(to_json).transpose()),
                ":request": request,
                ":attempts": attempts,
                ":caller": caller,
                ":bytes": signed(bytes),
            })?;
            if task.notify {
                add_delivery(file, &Delivery::new(id, DeliveryKind::Notification, None, now))?;
            }
            Ok(Ok(id))
        })
    }

    fn get(&self, id: TaskId) -> TaskFuture<'_, Task> {
        self.reading("reading a task", move |file, now| whole(file, id, now))
    }

    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState> {
        self.reading("reading a task", move |file, now| Ok(head(file, id)?.map(|head| head.state(now))))
    }

    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>> {
        self.reading("listing tasks", move |file, now| {
            let state = filter.state.map_or_else(|| "1".to_owned(), |state| is_in(state, now));
            let (beyond, order) = if filter.oldest_first { (">", "ASC") } else { ("<", "DESC") };
            let sql = format!(
                "SELECT {HEAD}, {SUMMARY} FROM tasks WHERE {state} AND (:feature IS NULL OR feature = :feature)
                AND (:tenant IS NULL OR tenant = :tenant) AND (:after IS NULL OR id {beyond} :after) ORDER BY id {order}"
            );
            let mut sql = file.prepare(&sql)?;
            let after = filter.after.map(|after| after.to_string());
            let parameters: &[(&str, &dyn ToSql)] =
                &[(":feature", &filter.feature), (":tenant", &filter.tenant), (":after", &after)];
            let mut rows = sql.query(parameters)?;
            let mut listed = Vec::new();
            // The limit is applied here, so that damaged rows take no places.
            while listed.len() < filter.rows()
                && let Some(row) = rows.next()?
            {
                match record::summary(row, now) {
                    Ok(summary) => listed.push(summary),
                    Err(damaged) => log_damaged(damaged),
                }
            }
            Ok(Ok(listed))
        })
    }

    fn stats(&self) -> TaskFuture<'_, TaskStats> {
        self.reading("counting tasks", |file, now| {
            let mut stats = TaskStats::default();
            for state in TaskState::ALL {
                *stats.of(state) = count(file, &count_of(state, "tasks", now))?;
            }
            // A damaged row counts, and has no age.
            let oldest = "SELECT min(created_at) FILTER (WHERE typeof(created_at) = 'integer') FROM tasks WHERE";
            let sql = format!("{oldest} {}", is_in(TaskState::Waiting, now));
            let oldest: Option<i64> = file.query_row(&sql, (), |row| row.get(0))?;
            stats.oldest_waiting_ms = oldest.map(|at| now.saturating_sub(u64::try_from(at).unwrap_or(now)));
            stats.deliveries_pending = count(file, "SELECT count(*) FROM task_deliveries WHERE next_at IS NOT NULL")?;
            stats.deliveries_dead = count(file, "SELECT count(*) FROM task_deliveries WHERE state = 'dead'")?;
            Ok(Ok(stats))
        })
    }

    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task> {
        self.writing("claiming a task", move |file, now| {
            ok!(ok!(head(file, id)?).check_free_for(&by, now));
            set_claim(file, id, &by, until(now, visibility))?;
            whole(file, id, now)
        })
    }

    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64> {
        self.writing("renewing a claim", move |file, now| {
            ok!(ok!(head(file, id)?).check_held_by(&by, now));
            set_claim(file, id, &by, until(now, visibility))?;
            Ok(Ok(now.saturating_add(wall_clock::millis(visibility))))
        })
    }

    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()> {
        self.writing("releasing a claim", move |file, now| {
            ok!(ok!(head(file, id)?).check_held_by(&by, now));
            let sql = "UPDATE tasks SET claim_kind = NULL, claim_name = NULL, claim_until = NULL WHERE id = ?1";
            file.execute(sql, [id.to_string()])?;
            if then == Release::ForPeople {
                let sql = "UPDATE tasks SET redrive = ?2 WHERE id = ?1";
                file.execute(sql, (id.to_string(), RedriveScope::NO))?;
            }
            Ok(Ok(()))
        })
    }

    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: RedriveScope) -> TaskFuture<'_, Option<Task>> {
        self.writing("claiming the oldest task", move |file, now| {
            let waiting = is_in(TaskState::Waiting, now);
            let sql = format!("SELECT id FROM tasks WHERE {waiting} AND redrive >= ?1 ORDER BY created_at, id LIMIT 1");
            loop {
                let id = file.query_row(&sql, [which.least()], |row| row.get::<_, String>(0)).optional()?;
                let Some(id) = id else { return Ok(Ok(None)) };
                let task = id.parse().map_err(|_| DamagedColumn("id"));
                let damaged = match task {
                    Ok(task) => match whole(file, task, now)? {
                        Ok(_) => {
                            set_claim(file, task, &by, until(now, visibility))?;
                            return Ok(whole(file, task, now)?.map(Some));
                        }
                        Err(DeskError::Store(_)) => DamagedColumn("request"),
                        Err(error) => return Ok(Err(error)),
                    },
                    Err(damaged) => damaged,
                };
                // It must not block the tasks after it; a person may look at it.
                log_damaged(damaged);
                file.execute("UPDATE tasks SET redrive = ?2 WHERE id = ?1", (id, RedriveScope::NO))?;
            }
        })
    }

    fn order_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64> {
        self.writing("ordering a redrive", move |file, now| {
            let asked = RedriveScope::Ordered.least();
            let Some(id) = id else {
                let sql = "UPDATE tasks SET redrive = ?1 WHERE answered_at IS NULL AND expires_at > ?2";
                return Ok(Ok(file.execute(sql, (asked, signed(now)))? as u64));
            };
            ok!(ok!(head(file, id)?).check_open(now));
            file.execute("UPDATE tasks SET redrive = ?2 WHERE id = ?1", (id.to_string(), asked))?;
            Ok(Ok(1))
        })
    }

    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task> {
        self.writing("writing an answer down", move |file, now| {
            let head = ok!(head(file, id)?);
            if head.answered.as_ref().is_some_and(|(by, _)| *by == answer.by)
                && ok!(read(file, id, "answer", |row| record::answer(row))?).is_some_and(|before| before.is(&answer))
            {
                return whole(file, id, now);
            }
            match force {
                true => ok!(head.check_open(now)),
                false => ok!(head.check_free_for(&answer.by, now)),
            }
            let by = answer.by.clone();
            let sql =
                "UPDATE tasks SET answered_kind = ?2, answered_name = ?3, answered_at = ?4, answer = ?5 WHERE id = ?1";
            let text = ok!(to_json(&TaskAnswer::of(answer, now)));
            file.execute(sql, (id.to_string(), by.kind.name(), by.name, signed(now), text))?;
            if let Some(callback) = ok!(read(file, id, "callback", |row| record::callback(row))?) {
                add_delivery(file, &Delivery::new(id, DeliveryKind::Callback, callback.into_url(), now))?;
            }
            whole(file, id, now)
        })
    }

    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>> {
        self.writing("reading due deliveries", move |file, now| {
            let sql = format!(
                "UPDATE task_deliveries SET attempts = attempts + 1, next_at = ?1 WHERE id IN (SELECT id FROM task_deliveries
                WHERE next_at <= ?2 ORDER BY next_at, rowid LIMIT ?3) RETURNING {DELIVERY}"
            );
            let mut sql = file.prepare(&sql)?;
            let mut rows = sql.query((until(now, lease), signed(now), signed(limit as u64)))?;
            let mut due = Vec::new();
            while let Some(row) = rows.next()? {
                match record::delivery(row) {
                    Ok(delivery) => due.push(delivery),
                    Err(damaged) => log_damaged(damaged),
                }
            }
            due.sort_by_key(|delivery| delivery.task);
            Ok(Ok(due))
        })
    }

    fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> TaskFuture<'_, bool> {
        self.writing("settling a delivery", move |file, now| {
            let (state, after, problem) = outcome.columns();
            let sql = "UPDATE task_deliveries SET state = ?3, next_at = ?4, problem = ?5
                WHERE id = ?1 AND attempts = ?2 AND state = 'pending'";
            let next_at = after.map(|after| until(now, after));
            let changed = file.execute(sql, (&delivery.id, delivery.attempts, state.name(), next_at, problem))?;
            Ok(Ok(changed > 0))
        })
    }

    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64> {
        self.writing("forgetting tasks", move |file, _| {
            let sql = "DELETE FROM tasks WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR session = ?2)
                AND (?3 IS NULL OR tenant = ?3)";
            Ok(Ok(file.execute(sql, which.columns())? as u64))
        })
    }

    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64> {
        self.writing("removing old tasks", move |file, now| {
            let before = signed(now.saturating_sub(wall_clock::millis(keep)));
            let sql = "DELETE FROM tasks WHERE id IN
                (SELECT id FROM tasks WHERE coalesce(answered_at, expires_at) < ?1 LIMIT ?2)";
            Ok(Ok(file.execute(sql, (before, SWEEP_LIMIT as i64))? as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::testing::Folder;
    use steadfast::{LlmRequest, store::StoreErrorKind};
    use steadfast_handoff::{Desk, Handoff, StoredRequest};

    fn task(text: &str) -> NewTask {
        NewTask::new(TaskId::new().unwrap(), StoredRequest::of(&LlmRequest::prompt(text)).unwrap())
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_what_is_there_is_served() {
        let folder = Folder::new("sqlite-tasks-full");
        let store = Sqlite::open(folder.file()).unwrap();
        let first = store.insert(task("hello")).await.unwrap();
        let limit = |file: &mut Connection| file.query_row("PRAGMA max_page_count = 40", (), |_| Ok(()));
        store.call("a limit", limit).await.unwrap();
        let large = "x".repeat(1_000_000);
        match store.insert(task(&large)).await.unwrap_err() {
            DeskError::Store(error) => assert_eq!(error.kind(), StoreErrorKind::Full, "{error}"),
            error => panic!("{error}"),
        }
        assert_eq!(store.get(first).await.unwrap().state, TaskState::Waiting);
        assert_eq!(store.stats().await.unwrap().waiting, 1, "nothing is half written");
        let error = Handoff::new(&Desk::new(store)).oneshot(LlmRequest::prompt(large)).await.unwrap_err();
        assert!(error.to_string().contains("the store is full"), "{error}");
    }
}
