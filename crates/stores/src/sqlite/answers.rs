//! The answers of a cache, in the file.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, Error, OptionalExtension as _, types::ValueRef};
use tokio::runtime::Handle;

use super::{Sqlite, clock::now, forget::Table};
use crate::quota::{AnswerQuota, STEP, millis};
use steadfast::layers::cache::{Answer, AnswerOwner, AnswerStore, CacheKey, StoreLookup};

/// The time limit of a lookup. A provider's call costs more, but no lookup is worth waiting for.
const LIMIT: Duration = Duration::from_millis(500);
/// The number of waiting jobs beyond which an answer is not stored.
const WAITING: usize = 64;

const LOOK: &str = "SELECT answer FROM answers WHERE key = ?1 AND until > ?2";
const KEEP: &str = "REPLACE INTO answers (key, feature, until, bytes, answer) VALUES (?1, ?2, ?3, ?4, ?5)";
const FORGET: &str = "DELETE FROM answers WHERE ?1 IS NULL OR feature = ?1";
const OVER: &str = "DELETE FROM answers WHERE number IN
    (SELECT number FROM answers WHERE until <= ?1 ORDER BY until LIMIT ?2)";
const TAKEN: &str = "SELECT coalesce(sum(bytes), 0) FROM answers";
const FIRST: &str = "DELETE FROM answers WHERE number IN (
    SELECT number FROM (SELECT number, sum(bytes) OVER (ORDER BY number DESC) AS newer FROM answers)
    WHERE newer > ?1 ORDER BY number LIMIT ?2)";

/// Answers that outlive the process, and are shared by the processes that use the file.
///
/// They take up to 1 GiB, beyond which the oldest answer is deleted first. A lookup that takes longer than half a
/// second finds nothing, and an answer behind many others in the queue is not stored: a slow disk delays no request.
/// The number of answers is unknown.
///
/// ```
/// use std::time::Duration;
/// use steadfast::{CacheHandle, CacheLayer};
/// use steadfast_stores::sqlite::Sqlite;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), steadfast::store::StoreError> {
/// # let path = std::env::temp_dir().join(format!("steadfast-doc-{}.db", std::process::id()));
/// let file = Sqlite::open(&path)?;
/// let cache = CacheLayer::over(&CacheHandle::over(file)).ttl(Duration::from_secs(600));
/// # drop(cache);
/// # let _ = std::fs::remove_file(path);
/// # Ok(()) }
/// ```
impl AnswerStore for Sqlite {
    fn get(&self, key: &CacheKey) -> StoreLookup {
        let (file, key) = (self.clone(), *key.as_bytes());
        StoreLookup::Pending(Box::pin(async move {
            let lookup = || file.call("looking up an answer", move |file| look(file, &key));
            let bytes = file.inner.answers.guard.call(LIMIT, lookup, |_| true).await.ok()??;
            match Answer::from_bytes(&bytes) {
                Ok(answer) => Some(Arc::new(answer)),
                Err(error) => {
                    tracing::debug!(%error, "unreadable answer in the file");
                    None
                }
            }
        }))
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        let jobs = &self.inner.jobs;
        if jobs.max_capacity() - jobs.capacity() > WAITING {
            return;
        }
        let store = self.clone();
        self.queue(move |file| write(file, &store.inner.answers.quota, &key, &answer));
    }

    fn retain(&self, _: &dyn Fn(&Answer) -> bool) {
        // This store cannot list all answers; see `forget`.
    }

    fn forget(&self, feature: Option<&str>) {
        let feature = feature.map(str::to_owned);
        self.queue(move |file| file.execute(FORGET, [feature]).map(drop));
    }

    fn forget_owner(&self, owner: &AnswerOwner) {
        let (file, owner) = (self.clone(), owner.clone());
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = file.delete_owner(Table::Answers, owner).await {
                tracing::warn!(%error, "answers not deleted");
            }
        });
    }

    fn len(&self) -> usize {
        0
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn set_max_bytes(&self, bytes: u64) {
        self.inner.answers.quota.set_max_bytes(bytes);
    }
}

impl Sqlite {
    /// Returns the current trouble of a cache's answers.
    pub fn trouble(&self) -> Option<steadfast::store::StoreTrouble> {
        self.inner.answers.guard.trouble()
    }

    /// Queues work that no caller waits for.
    fn queue(&self, work: impl FnOnce(&mut Connection) -> Result<(), Error> + Send + 'static) {
        let name = self.inner.file.clone();
        let job = move |file: &mut Connection| {
            if let Err(error) = work(file) {
                tracing::warn!(%error, file = &*name, "cached answers not changed");
            }
        };
        if self.inner.jobs.try_send(Box::new(job)).is_err() {
            tracing::warn!(file = &*self.inner.file, "cached answers not changed: too many jobs wait for the file");
        }
    }
}

fn look(file: &Connection, key: &[u8; 32]) -> Result<Option<Vec<u8>>, Error> {
    let bytes = file.query_row(LOOK, (key, now()), |row| match row.get_ref(0)? {
        ValueRef::Blob(answer) => Ok(answer.to_vec()),
        // Treated like an unreadable one.
        _ => Ok(Vec::new()),
    });
    bytes.optional()
}

fn write(file: &Connection, quota: &AnswerQuota, key: &CacheKey, answer: &Answer) -> Result<(), Error> {
    let bytes = answer.to_bytes();
    let Some(taken) = quota.size_of(&bytes) else { return Ok(()) };
    let until = now().saturating_add(millis(answer.usable_for()));
    file.execute(KEEP, (key.as_bytes(), answer.feature(), until, taken, bytes))?;
    if quota.add(taken) {
        file.execute(OVER, (now(), STEP))?;
        let max_bytes = quota.max_bytes();
        while file.query_row(TAKEN, (), |row| row.get::<_, i64>(0))? > max_bytes {
            if file.execute(FIRST, (max_bytes, STEP))? == 0 {
                break;
            }
        }
    }
    Ok(())
}
