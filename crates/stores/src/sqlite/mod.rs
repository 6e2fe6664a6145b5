//! State in one file, with SQLite.
//!
//! # When to use it, and when not
//!
//! Use it where one machine is enough: the file outlives every crash of the process, and several processes of one
//! machine may share it. Do not use it on a network file system, where SQLite's locks and its shared memory do not
//! work; there, and for several machines, use PostgreSQL.
//!
//! # The file's contents
//!
//! The file contains full texts. Idempotency keys are there with their answers, and a cache with its answers; callers'
//! keys and prompts only as hashes. A task for people is there with its whole request and its answer,
//! and a kept response with all of its conversation. The ledger has names of keys, teams, features, sessions and
//! models, with tokens and amounts, and no word of a prompt. Of providers' keys it has a hash, with the tier's name, of
//! those that have worked.
//!
//! A new file is readable for its owner alone (mode 0600), and so are its two companions (`-wal`, `-shm`); an existing
//! file keeps its mode. Deleted data is overwritten if that costs no further writing (`secure_delete=FAST`).
//!
//! # Writing
//!
//! One thread works on the file, in the order of the calls. Once a call returns, its data is on the disk (WAL,
//! `synchronous=FULL`): neither a crash of the process nor of the machine undoes it. While another process writes, the
//! thread waits for up to 5 seconds. If the file is deleted, moved or replaced while it is open, each call fails until
//! it is back: SQLite itself would continue on a file without a name.

mod answers;
mod cached_answers;
mod clock;
mod error;
mod file_identity;
mod forget;
mod grants;
mod keys;
mod ledger;
mod owner;
mod places;
mod registry;
mod responses;
mod schema;
mod tasks;
#[cfg(test)]
mod tests;
mod thread;
mod worked_keys;

use std::{fmt, fs::OpenOptions, io, path::Path, sync::Arc, thread::park_timeout, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use steadfast_internal::system;
use tokio::sync::{mpsc, oneshot};

use self::{
    cached_answers::CachedAnswers,
    file_identity::{FileIdentity, FileState},
    thread::Job,
};
use super::quota::AnswerQuota;
use crate::owner::StoreOwner;
use steadfast::store::{StoreError, StoreErrorKind};

/// A state file. See the [module docs](self).
///
/// Clones share the file and its thread, which ends with the last of them.
///
/// ```
/// use steadfast::{IdempotencyLayer, LlmError, LlmRequest, LlmResponse, provider_fn};
/// use steadfast_stores::sqlite::Sqlite;
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("steadfast-doc-keys-{}.db", std::process::id()));
/// # let _ = std::fs::remove_file(&path);
/// let ask = || LlmRequest::prompt("Write to Ada.").with_idempotency_key("mail-17");
/// let leaf = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("Dear Ms Lovelace")) });
/// IdempotencyLayer::over(Sqlite::open(&path)?).layer(leaf).oneshot(ask()).await?;
///
/// // After a crash, or in another process: no model is called again.
/// let no_model = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(steadfast::ErrorKind::Other, "asked again")) });
/// let again = IdempotencyLayer::over(Sqlite::open(&path)?).layer(no_model).oneshot(ask()).await?;
/// assert_eq!(again.text().await?, "Dear Ms Lovelace");
/// # let _ = std::fs::remove_file(path);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    /// The path as given.
    file: Box<str>,
    file_identity: Arc<FileIdentity>,
    jobs: mpsc::Sender<Job>,
    quota: AnswerQuota,
    answers: CachedAnswers,
}

/// The longest wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// The interval of tries to switch the file to WAL, for which SQLite does not wait by itself.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Sqlite {
    /// Opens a file, creating it if necessary, and brings its tables up to date. It blocks the thread meanwhile.
    ///
    /// # Errors
    ///
    /// Returns [`Misconfigured`](StoreErrorKind::Misconfigured) if the path cannot be opened, or the file is no SQLite
    /// database or another program's; [`Corrupt`](StoreErrorKind::Corrupt) if it is truncated or damaged or lacks a
    /// table (the check reads the whole file, which takes seconds for each GiB);
    /// [`NewerSchema`](StoreErrorKind::NewerSchema) if a later version of this crate wrote it, and then changes
    /// nothing; and the disk's errors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_for(path, None)
    }

    /// Opens a file as [`open`](Self::open) does, for the deployment of this name. It becomes the owner of a file that
    /// has none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open), and [`Misconfigured`](StoreErrorKind::Misconfigured) if the file
    /// belongs to another deployment. Its owner stays the same then.
    pub fn open_for(path: impl AsRef<Path>, owner: Option<&StoreOwner>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let misconfigured = |what: String| StoreError::new(StoreErrorKind::Misconfigured, what);
        if file.is_empty() || file.starts_with(":memory:") {
            return Err(misconfigured(format!("`{file}` names no file")));
        }
        let is_new = create(path).map_err(|cause| {
            let kind = match cause.kind() {
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => StoreErrorKind::ReadOnly,
                io::ErrorKind::StorageFull => StoreErrorKind::Full,
                _ => StoreErrorKind::Misconfigured,
            };
            StoreError::new(kind, format!("making {file}")).with_source(cause)
        })?;
        let failed = |cause: rusqlite::Error| {
            StoreError::new(error::kind_at_open(&cause), format!("opening {file}")).with_source(cause)
        };
        if !is_new && is_emptied(path) {
            let what = format!(
                "{file} was truncated: restore it from a backup, or remove it with its log (-wal) to begin anew"
            );
            return Err(StoreError::new(StoreErrorKind::Corrupt, what));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        if connection.is_readonly("main").map_err(failed)? {
            return Err(StoreError::new(StoreErrorKind::ReadOnly, format!("opening {file}")));
        }
        if !is_new {
            schema::check(&mut connection).map_err(|refused| refused.into_error(&file, error::kind_at_open))?;
        }
        let mode = to_wal(&connection).map_err(failed)?;
        if mode != "wal" {
            return Err(misconfigured(format!("{file} is where SQLite's write-ahead log does not work")));
        }
        let settings = "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = FAST;
            PRAGMA trusted_schema = OFF;";
        connection.execute_batch(settings).map_err(failed)?;
        schema::migrate(&mut connection).map_err(|refused| refused.into_error(&file, error::kind_at_open))?;
        if let Some(owner) = owner
            && let Some(other) = owner::claim(&mut connection, owner).map_err(failed)?
        {
            return Err(owner.refusal(&file, &other, "another file"));
        }
        let file_identity =
            FileIdentity::of(path).map_err(|cause| misconfigured(format!("opening {file}")).with_source(cause))?;
        let jobs = thread::spawn(connection).map_err(|cause| {
            StoreError::new(StoreErrorKind::Unavailable, format!("the thread for {file}")).with_source(cause)
        })?;
        let inner = Inner {
            file: file.into(),
            file_identity: Arc::new(file_identity),
            jobs,
            quota: AnswerQuota::default(),
            answers: CachedAnswers::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns whether both are clones of one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Runs this on the file's thread, after earlier calls. An error names `what` as the operation.
    ///
    /// Work that has not begun when its future is dropped is not done. A transaction that it leaves open is rolled
    /// back.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, replied) = oneshot::channel();
        let file_identity = self.inner.file_identity.clone();
        let job: Job = Box::new(move |connection| {
            if !reply.is_closed() {
                let done = work(connection);
                // Checked after the work: until then the file may disappear.
                let file_state = file_identity.state(connection);
                // Dropped if its caller has left.
                let _ = reply.send((done, file_state));
            }
        });
        let what = || format!("{what}, in {}", self.inner.file);
        let gone = || StoreError::new(StoreErrorKind::Unavailable, what());
        self.inner.jobs.send(job).await.map_err(|_| gone())?;
        let (done, file_state) = replied.await.map_err(|_| gone())?;
        match file_state {
            FileState::Whole => {}
            FileState::Replaced => {
                let what = what() + ", which was deleted, moved or replaced: put it back, or start again with another";
                return Err(StoreError::new(StoreErrorKind::Misconfigured, what));
            }
            FileState::Truncated => {
                let what = what() + ", which was truncated: restore it from a backup, and start again";
                return Err(StoreError::new(StoreErrorKind::Corrupt, what));
            }
        }
        done.map_err(|cause| StoreError::new(error::kind(&cause), what()).with_source(cause))
    }
}

/// Creates the file, for its owner alone. Returns false if it exists.
///
/// An existing file is not opened: closing it would release the locks that SQLite holds on it in this process.
fn create(path: &Path) -> io::Result<bool> {
    match system::for_owner(OpenOptions::new().write(true).create_new(true)).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // In a read-only folder the file itself may be writable.
        Err(_) if path.exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether a file with former contents is empty, as its log shows. A file that another process is creating has
/// no log before it has a page.
fn is_emptied(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    has_log && std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// Switches to the write-ahead log, once no other process does so.
fn to_wal(connection: &Connection) -> Result<String, rusqlite::Error> {
    let mut looks = BUSY.as_millis() / LOOK_EVERY.as_millis();
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0));
        match mode {
            Err(error) if looks > 0 && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => looks -= 1,
            other => return other,
        }
        park_timeout(LOOK_EVERY);
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("file", &self.inner.file).finish_non_exhaustive()
    }
}
