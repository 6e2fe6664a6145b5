//! State in one file, by SQLite.
//!
//! # When to use it, and when not
//!
//! Where one machine is enough: the file outlives every crash of the process, and several processes of one machine may
//! share it. Not on a network's file system, where SQLite's locks and its shared memory do not work; there, and for
//! several machines, use PostgreSQL.
//!
//! # What is in the file
//!
//! What was said, in full. Idempotency keys are there with the answers under them, a cache with those that it keeps; of
//! their callers' keys and prompts there are hashes only. A task for people is there with its whole request and its answer.
//!
//! A new file is made readable for its owner alone (mode 0600), and its two companions (`-wal`, `-shm`) are like it; a file
//! that is there keeps its mode. What is deleted is overwritten where that costs no further writing
//! (`secure_delete=FAST`).
//!
//! # How it is written
//!
//! One thread works on the file, in the order in which it is asked. What has returned is on the disk (WAL,
//! `synchronous=FULL`): neither a crash of the process nor of the machine undoes it. While another process writes, it
//! waits for up to 5 seconds. A file that is deleted, moved or replaced while it is open is an error of each call until it is
//! back: SQLite itself would go on with what has no name any more.

mod answers;
mod error;
mod forget;
mod keys;
mod place;
mod schema;
mod tasks;
#[cfg(test)]
mod tests;
mod thread;

use std::{fmt, fs::OpenOptions, io, path::Path, sync::Arc, thread::park_timeout, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use self::{
    answers::Kept,
    place::{Held, Place},
    thread::Job,
};
use super::room::Room;
use crate::store::{StoreError, StoreErrorKind};

/// One file of state. See the [module docs](self).
///
/// Clones are the same file and the same thread, which ends with the last of them.
///
/// ```
/// use steadfast::{IdempotencyLayer, LlmError, LlmRequest, LlmResponse, provider_fn, stores::sqlite::Sqlite};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let path = std::env::temp_dir().join(format!("steadfast-doc-keys-{}.db", std::process::id()));
/// # let _ = std::fs::remove_file(&path);
/// let ask = || LlmRequest::prompt("Write to Ada.").idempotency_key("mail-17");
/// let leaf = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("Dear Ms Lovelace")) });
/// IdempotencyLayer::over(Sqlite::open(&path)?).layer(leaf).oneshot(ask()).await?;
///
/// // After a crash, or in another process: nobody is asked again.
/// let nobody = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(steadfast::ErrorKind::Other, "asked again")) });
/// let again = IdempotencyLayer::over(Sqlite::open(&path)?).layer(nobody).oneshot(ask()).await?;
/// assert_eq!(again.text().await?, "Dear Ms Lovelace");
/// # let _ = std::fs::remove_file(path);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

struct Inner {
    /// As it was named.
    file: Box<str>,
    place: Arc<Place>,
    jobs: mpsc::Sender<Job>,
    room: Room,
    answers: Kept,
}

/// How long it waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);
/// How often it looks whether the file can be switched to WAL, for which SQLite does not wait by itself.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Sqlite {
    /// Opens a file, or makes it, and brings its tables up to date. It blocks while it does so.
    ///
    /// # Errors
    ///
    /// [`Misconfigured`](StoreErrorKind::Misconfigured) where it cannot be opened as it is named, is no SQLite database or
    /// another program's; [`Corrupt`](StoreErrorKind::Corrupt) where it was truncated, is damaged or has lost a table: all of
    /// it is read for that, which takes seconds for each GiB; [`NewerSchema`](StoreErrorKind::NewerSchema) where a later version of this crate has written it:
    /// nothing of it is touched then; and what is the matter with the disk.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
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
        let place = Place::of(path).map_err(|cause| misconfigured(format!("opening {file}")).with_source(cause))?;
        let jobs = thread::spawn(connection).map_err(|cause| {
            StoreError::new(StoreErrorKind::Unavailable, format!("the thread for {file}")).with_source(cause)
        })?;
        let inner =
            Inner { file: file.into(), place: Arc::new(place), jobs, room: Room::default(), answers: Kept::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether both are clones of one.
    #[cfg(feature = "config")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Does this on the file's thread, after what was asked before. `what` is said in an error.
    ///
    /// Work that has not begun when its future is dropped is not done. A transaction that it leaves open is undone.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, replied) = oneshot::channel();
        let place = self.inner.place.clone();
        let job: Job = Box::new(move |connection| {
            if !reply.is_closed() {
                let done = work(connection);
                // Not before it is done: until then the file may be taken away.
                let is_kept = place.holds(connection);
                // Dropped where its caller has left.
                let _ = reply.send((done, is_kept));
            }
        });
        let what = || format!("{what}, in {}", self.inner.file);
        let gone = || StoreError::new(StoreErrorKind::Unavailable, what());
        self.inner.jobs.send(job).await.map_err(|_| gone())?;
        let (done, is_kept) = replied.await.map_err(|_| gone())?;
        match is_kept {
            Held::Whole => {}
            Held::Elsewhere => {
                let what = what() + ", which was deleted, moved or replaced: put it back, or start again with another";
                return Err(StoreError::new(StoreErrorKind::Misconfigured, what));
            }
            Held::Cut => {
                let what = what() + ", which was truncated: restore it from a backup, and start again";
                return Err(StoreError::new(StoreErrorKind::Corrupt, what));
            }
        }
        done.map_err(|cause| StoreError::new(error::kind(&cause), what()).with_source(cause))
    }
}

/// Makes the file, for its owner alone; `false` where it is there.
///
/// A file that is there is not opened: closing it would end the locks that SQLite holds on it in this process.
fn create(path: &Path) -> io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Of a folder that may not be written: the file itself may be.
        Err(_) if path.exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nothing is in a file that had something: its log has. One that another process is making has no log before it has a
/// page.
fn is_emptied(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
    has_log && std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// Switches to the write-ahead log, once nobody else does so.
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
