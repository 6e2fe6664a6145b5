//! Tasks handed to people, in the database.

use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{Row, types::ToSql};

use super::Postgres;
use crate::record::{
    self, Columns, DELIVERY, DamagedColumn, HEAD, SUMMARY, WHOLE, count_of, is_in, log_damaged, signed, to_json,
};
use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_handoff::{
    Claimant, Delivery, DeliveryKind, DeliveryOutcome, DeskError, NewAnswer, NewTask, PREVIEW, RedriveScope, Release,
    SWEEP_LIMIT, Task, TaskAnswer, TaskFilter, TaskFuture, TaskHead, TaskId, TaskScope, TaskState, TaskStats,
    TaskStore, TaskSummary, TaskUsage, UsageTotals,
};
use steadfast_internal::wall_clock;

impl Columns for Row {
    fn text(&self, column: &'static str) -> Result<Option<String>, DamagedColumn> {
        self.try_get(column).map_err(|_| DamagedColumn(column))
    }

    fn number(&self, column: &'static str) -> Result<Option<i64>, DamagedColumn> {
        self.try_get(column).map_err(|_| DamagedColumn(column))
    }
}

/// A transaction, and its operation for errors.
struct Work<'a> {
    of: &'a Postgres,
    what: &'static str,
    transaction: Transaction<'a>,
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

fn until(now: u64, span: Duration) -> i64 {
    signed(now.saturating_add(wall_clock::millis(span)))
}

impl Postgres {
    async fn work<'a>(&'a self, what: &'static str, client: &'a mut Object) -> Result<Work<'a>, StoreError> {
        let transaction = client.transaction().await.map_err(|cause| self.failed(what, cause))?;
        Ok(Work { of: self, what, transaction })
    }
}

impl Work<'_> {
    async fn rows(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        self.transaction.query(sql, parameters).await.map_err(|cause| self.of.failed(self.what, cause))
    }

    async fn row(&self, sql: &str, parameters: Parameters<'_>) -> Result<Option<Row>, StoreError> {
        self.transaction.query_opt(sql, parameters).await.map_err(|cause| self.of.failed(self.what, cause))
    }

    async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, StoreError> {
        self.transaction.execute(sql, parameters).await.map_err(|cause| self.of.failed(self.what, cause))
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(|cause| self.of.failed(self.what, cause))
    }

    /// Returns the time by the one clock of all processes, in Unix milliseconds.
    async fn now(&self) -> Result<u64, StoreError> {
        self.count("SELECT steadfast_now()").await
    }

    async fn count(&self, sql: &str) -> Result<u64, StoreError> {
        let number = match self.row(sql, &[]).await? {
            Some(row) => row.try_get::<_, Option<i64>>(0).map_err(|cause| self.of.failed(self.what, cause))?,
            None => None,
        };
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    /// Reads one row by the task's id with `record`. `lock` keeps other transactions from it until this one's end.
    async fn read<T>(
        &self,
        id: TaskId,
        columns: &str,
        lock: &str,
        of: impl FnOnce(&Row) -> Result<T, DamagedColumn>,
    ) -> Result<T, DeskError> {
        let sql = format!("SELECT {columns} FROM steadfast_tasks WHERE id = $1 {lock}");
        let row = self.row(&sql, &[&id.to_string()]).await?.ok_or(DeskError::Unknown { task: id })?;
        of(&row).map_err(|damaged| damaged.of(id).into())
    }

    async fn head(&self, id: TaskId, lock: &str) -> Result<TaskHead, DeskError> {
        self.read(id, HEAD, lock, record::head).await
    }

    async fn whole(&self, id: TaskId, now: u64) -> Result<Task, DeskError> {
        let sql = format!("SELECT {DELIVERY} FROM steadfast_task_deliveries WHERE task = $1 ORDER BY kind DESC");
        let deliveries = self.rows(&sql, &[&id.to_string()]).await?;
        let deliveries = readable(&deliveries, record::delivery).collect();
        self.read(id, &format!("{HEAD}, {SUMMARY}, {WHOLE}"), "", |row| record::task(row, now, deliveries)).await
    }

    async fn set_claim(&self, id: TaskId, by: &Claimant, until: i64) -> Result<(), StoreError> {
        let sql = "UPDATE steadfast_tasks SET claim_kind = $2, claim_name = $3, claim_until = $4 WHERE id = $1";
        self.execute(sql, &[&id.to_string(), &by.kind.name(), &by.name, &until]).await.map(drop)
    }

    /// Returns the totals of all tasks, and of this caller's. One pass over an index that has all of it.
    async fn usage(&self, tenant: Option<&str>, now: u64) -> Result<TaskUsage, StoreError> {
        let sql =
            "SELECT count(*) FILTER (WHERE answered_at IS NULL AND expires_at > $1), coalesce(sum(bytes), 0)::bigint,
            count(*) FILTER (WHERE answered_at IS NULL AND expires_at > $1 AND tenant = $2),
            coalesce(sum(bytes) FILTER (WHERE tenant = $2), 0)::bigint FROM steadfast_tasks";
        let Some(row) = self.row(sql, &[&signed(now), &tenant]).await? else { return Ok(TaskUsage::default()) };
        let number = |at: usize| match row.try_get::<_, i64>(at) {
            Ok(number) => Ok(u64::try_from(number).unwrap_or(0)),
            Err(cause) => Err(self.of.failed(self.what, cause)),
        };
        let share = |at| Ok::<_, StoreError>(UsageTotals { tasks: number(at)?, bytes: number(at + 1)? });
        Ok(TaskUsage { all: share(0)?, of_caller: tenant.map(|_| share(2)).transpose()? })
    }

    async fn add_delivery(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let sql = "INSERT INTO steadfast_task_deliveries (id, task, kind, url, state, attempts, next_at)
            VALUES ($1, $2, $3, $4, $5, 0, $6)";
        let (kind, state, next_at) = (delivery.kind.name(), delivery.state.name(), delivery.next_at.map(signed));
        let task = delivery.task.to_string();
        self.execute(sql, &[&delivery.id, &task, &kind, &delivery.url, &state, &next_at]).await.map(drop)
    }
}

/// Returns the rows that can be read.
fn readable<T>(rows: &[Row], of: impl Fn(&Row) -> Result<T, DamagedColumn>) -> impl Iterator<Item = T> {
    rows.iter().filter_map(move |row| of(row).map_err(log_damaged).ok())
}

/// The time limit of writing a task down. It may apply twice, if the server's absence shows only then.
const PATIENCE: Duration = Duration::from_millis(400);
const LOCKED: &str = "FOR UPDATE";
/// The number of attempts of an insert, for the case that the conflicting task is deleted meanwhile.
const TRIES: usize = 3;

impl TaskStore for Postgres {
    fn is_durable(&self) -> bool {
        true
    }

    fn call_timeout(&self) -> Duration {
        PATIENCE
    }

    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId> {
        let what = "writing a task down";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let (id, preview) = (task.id.to_string(), task.request.preview(PREVIEW));
            let (request, attempts) = (to_json(&task.request)?, to_json(&task.attempts)?);
            let callback = task.callback.as_ref().map(to_json).transpose()?;
            let caller = task.caller.as_ref().map(to_json).transpose()?;
            for _ in 0..TRIES {
                let work = self.work(what, &mut client).await?;
                let now = work.now().await?;
                // An expired task no longer stands for the request.
                let sql = "UPDATE steadfast_tasks SET same_as = NULL
                    WHERE same_as = $1 AND answered_at IS NULL AND expires_at <= $2";
                work.execute(sql, &[&task.same_as, &signed(now)]).await?;
                // A repeat is not counted as another task.
                let sql = "SELECT id FROM steadfast_tasks WHERE id = $1 OR same_as = $2 ORDER BY id = $1 DESC LIMIT 1";
                if let Some(known) = work.row(sql, &[&id, &task.same_as]).await? {
                    work.commit().await?;
                    return known.id("id").map_err(|damaged| damaged.of(task.id).into());
                }
                let bytes = (request.len() + attempts.len() + caller.as_ref().map_or(0, String::len)) as u64;
                task.limits.admit(bytes, &work.usage(task.tenant.as_deref(), now).await?)?;
                // Of concurrent inserts of the same task, one succeeds.
                let sql = "INSERT INTO steadfast_tasks (id, created_at, expires_at, feature, session, tenant, reason, preview,
                    requires_human, redrive, same_as, callback, request, attempts, bytes, caller)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING";
                let parameters: Parameters<'_> = &[
                    &id,
                    &signed(now),
                    &until(now, task.ttl),
                    &task.feature,
                    &task.session,
                    &task.tenant,
                    &task.reason,
                    &preview,
                    &i64::from(task.requires_human),
                    &RedriveScope::initial(task.requires_human),
                    &task.same_as,
                    &callback,
                    &request,
                    &attempts,
                    &signed(bytes),
                    &caller,
                ];
                if work.execute(sql, parameters).await? > 0 {
                    if task.notify {
                        work.add_delivery(&Delivery::new(task.id, DeliveryKind::Notification, None, now)).await?;
                    }
                    work.commit().await?;
                    return Ok(task.id);
                }
                // Another insert was faster; the next attempt finds it.
                work.commit().await?;
            }
            Err(StoreError::new(StoreErrorKind::Unavailable, what).into())
        })
    }

    fn get(&self, id: TaskId) -> TaskFuture<'_, Task> {
        let what = "reading a task";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let now = work.now().await?;
            work.whole(id, now).await
        })
    }

    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState> {
        let what = "reading a task";
        Box::pin(async move {
            let client = self.client(what).await?;
            // Waiters call this often: one statement, prepared once.
            let sql = format!("SELECT {HEAD}, steadfast_now() AS now FROM steadfast_tasks WHERE id = $1");
            let failed = |cause| self.failed(what, cause);
            let prepared = client.prepare_cached(&sql).await.map_err(failed)?;
            let row = client.query_opt(&prepared, &[&id.to_string()]).await.map_err(failed)?;
            let row = row.ok_or(DeskError::Unknown { task: id })?;
            let state = record::head(&row).and_then(|head| {
                let now = row.positive("now")?.ok_or(DamagedColumn("now"))?;
                Ok(head.state(now))
            });
            state.map_err(|damaged| damaged.of(id).into())
        })
    }

    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>> {
        let what = "listing tasks";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let now = work.now().await?;
            let state = filter.state.map_or_else(|| "true".to_owned(), |state| is_in(state, now));
            let (beyond, order) = if filter.oldest_first { (">", "ASC") } else { ("<", "DESC") };
            let sql = format!(
                "SELECT {HEAD}, {SUMMARY} FROM steadfast_tasks WHERE {state} AND ($1::text IS NULL OR feature = $1)
                AND ($2::text IS NULL OR tenant = $2) AND ($3::text IS NULL OR id {beyond} $3) ORDER BY id {order} LIMIT $4"
            );
            let after = filter.after.map(|after| after.to_string());
            let rows = signed(filter.rows() as u64);
            let rows = work.rows(&sql, &[&filter.feature, &filter.tenant, &after, &rows]).await?;
            Ok(readable(&rows, |row| record::summary(row, now)).collect())
        })
    }

    fn stats(&self) -> TaskFuture<'_, TaskStats> {
        let what = "counting tasks";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let now = work.now().await?;
            let mut stats = TaskStats::default();
            for state in TaskState::ALL {
                *stats.of(state) = work.count(&count_of(state, "steadfast_tasks", now)).await?;
            }
            if stats.waiting > 0 {
                let sql =
                    format!("SELECT min(created_at) FROM steadfast_tasks WHERE {}", is_in(TaskState::Waiting, now));
                stats.oldest_waiting_ms = Some(now.saturating_sub(work.count(&sql).await?));
            }
            let table = "SELECT count(*) FROM steadfast_task_deliveries WHERE";
            stats.deliveries_pending = work.count(&format!("{table} next_at IS NOT NULL")).await?;
            stats.deliveries_dead = work.count(&format!("{table} state = 'dead'")).await?;
            Ok(stats)
        })
    }

    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task> {
        let what = "claiming a task";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let head = work.head(id, LOCKED).await?;
            let now = work.now().await?;
            head.check_free_for(&by, now)?;
            work.set_claim(id, &by, until(now, visibility)).await?;
            let task = work.whole(id, now).await?;
            work.commit().await?;
            Ok(task)
        })
    }

    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64> {
        let what = "renewing a claim";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let head = work.head(id, LOCKED).await?;
            let now = work.now().await?;
            head.check_held_by(&by, now)?;
            work.set_claim(id, &by, until(now, visibility)).await?;
            work.commit().await?;
            Ok(now.saturating_add(wall_clock::millis(visibility)))
        })
    }

    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()> {
        let what = "releasing a claim";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let head = work.head(id, LOCKED).await?;
            head.check_held_by(&by, work.now().await?)?;
            let sql =
                "UPDATE steadfast_tasks SET claim_kind = NULL, claim_name = NULL, claim_until = NULL WHERE id = $1";
            work.execute(sql, &[&id.to_string()]).await?;
            if then == Release::ForPeople {
                let sql = "UPDATE steadfast_tasks SET redrive = $2 WHERE id = $1";
                work.execute(sql, &[&id.to_string(), &RedriveScope::NO]).await?;
            }
            Ok(work.commit().await?)
        })
    }

    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: RedriveScope) -> TaskFuture<'_, Option<Task>> {
        let what = "claiming the oldest task";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let now = work.now().await?;
            // Rows that another transaction is about to take are skipped.
            let sql = format!(
                "SELECT id FROM steadfast_tasks WHERE {} AND redrive >= $1 ORDER BY created_at, id LIMIT 1
                FOR UPDATE SKIP LOCKED",
                is_in(TaskState::Waiting, now)
            );
            let mut found = None;
            while let Some(row) = work.row(&sql, &[&which.least()]).await? {
                let damaged = match row.id("id") {
                    Ok(id) => match work.whole(id, now).await {
                        Ok(_) => {
                            work.set_claim(id, &by, until(now, visibility)).await?;
                            found = Some(work.whole(id, now).await?);
                            break;
                        }
                        Err(DeskError::Store(error)) if error.kind() == StoreErrorKind::Corrupt => {
                            DamagedColumn("request")
                        }
                        Err(error) => return Err(error),
                    },
                    Err(damaged) => damaged,
                };
                // It must not block the tasks after it; a person may look at it.
                log_damaged(damaged);
                let id: String = row.try_get("id").map_err(|cause| self.failed(what, cause))?;
                let sql = "UPDATE steadfast_tasks SET redrive = $2 WHERE id = $1";
                work.execute(sql, &[&id, &RedriveScope::NO]).await?;
            }
            work.commit().await?;
            Ok(found)
        })
    }

    fn order_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64> {
        let what = "ordering a redrive";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let asked = RedriveScope::Ordered.least();
            let count = match id {
                Some(id) => {
                    let head = work.head(id, LOCKED).await?;
                    head.check_open(work.now().await?)?;
                    let sql = "UPDATE steadfast_tasks SET redrive = $2 WHERE id = $1";
                    work.execute(sql, &[&id.to_string(), &asked]).await?
                }
                None => {
                    let now = signed(work.now().await?);
                    // Locks are taken in one order, so that concurrent callers wait for one another and do not
                    // deadlock.
                    let sql =
                        "WITH open AS (SELECT id FROM steadfast_tasks WHERE answered_at IS NULL AND expires_at > $2
                        ORDER BY id FOR UPDATE)
                        UPDATE steadfast_tasks AS task SET redrive = $1 FROM open WHERE task.id = open.id";
                    work.execute(sql, &[&asked, &now]).await?
                }
            };
            work.commit().await?;
            Ok(count)
        })
    }

    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task> {
        let what = "writing an answer down";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let head = work.head(id, LOCKED).await?;
            let now = work.now().await?;
            if head.answered.as_ref().is_some_and(|(by, _)| *by == answer.by)
                && work.read(id, "answer", "", record::answer).await?.is_some_and(|before| before.is(&answer))
            {
                return work.whole(id, now).await;
            }
            match force {
                true => head.check_open(now)?,
                false => head.check_free_for(&answer.by, now)?,
            }
            let by = answer.by.clone();
            let text = to_json(&TaskAnswer::of(answer, now))?;
            let sql = "UPDATE steadfast_tasks SET answered_kind = $2, answered_name = $3, answered_at = $4, answer = $5
                WHERE id = $1";
            work.execute(sql, &[&id.to_string(), &by.kind.name(), &by.name, &signed(now), &text]).await?;
            if let Some(callback) = work.read(id, "callback", "", record::callback).await? {
                work.add_delivery(&Delivery::new(id, DeliveryKind::Callback, callback.into_url(), now)).await?;
            }
            let task = work.whole(id, now).await?;
            work.commit().await?;
            Ok(task)
        })
    }

    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>> {
        let what = "reading due deliveries";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let now = work.now().await?;
            let sql = format!(
                "UPDATE steadfast_task_deliveries SET attempts = attempts + 1, next_at = $1 WHERE id IN
                (SELECT id FROM steadfast_task_deliveries WHERE next_at <= $2 ORDER BY next_at LIMIT $3
                FOR UPDATE SKIP LOCKED) RETURNING {DELIVERY}"
            );
            let rows = work.rows(&sql, &[&until(now, lease), &signed(now), &signed(limit as u64)]).await?;
            work.commit().await?;
            let mut due: Vec<Delivery> = readable(&rows, record::delivery).collect();
            due.sort_by_key(|delivery| delivery.task);
            Ok(due)
        })
    }

    fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> TaskFuture<'_, bool> {
        let what = "settling a delivery";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let now = work.now().await?;
            let (state, after, problem) = outcome.columns();
            let sql = "UPDATE steadfast_task_deliveries SET state = $3, next_at = $4, problem = $5
                WHERE id = $1 AND attempts = $2 AND state = 'pending'";
            let (attempts, next_at) = (i64::from(delivery.attempts), after.map(|after| until(now, after)));
            let changed = work.execute(sql, &[&delivery.id, &attempts, &state.name(), &next_at, &problem]).await?;
            work.commit().await?;
            Ok(changed > 0)
        })
    }

    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64> {
        let what = "forgetting tasks";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let (id, session, tenant) = which.columns();
            let sql = "DELETE FROM steadfast_tasks WHERE ($1::text IS NULL OR id = $1)
                AND ($2::text IS NULL OR session = $2) AND ($3::text IS NULL OR tenant = $3)";
            let forgotten = work.execute(sql, &[&id, &session, &tenant]).await?;
            work.commit().await?;
            Ok(forgotten)
        })
    }

    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64> {
        let what = "removing old tasks";
        Box::pin(async move {
            let mut client = self.client(what).await?;
            let work = self.work(what, &mut client).await?;
            let before = signed(work.now().await?.saturating_sub(wall_clock::millis(keep)));
            let sql = "DELETE FROM steadfast_tasks WHERE id IN (SELECT id FROM steadfast_tasks
                WHERE coalesce(answered_at, expires_at) < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
            let swept = work.execute(sql, &[&before, &(SWEEP_LIMIT as i64)]).await?;
            work.commit().await?;
            Ok(swept)
        })
    }
}
