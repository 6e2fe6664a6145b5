//! Files that are followed as they change.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, task::AbortHandle, time::timeout};

use super::{ConfigError, Problem};

/// How long a file must rest before it is read: an editor writes it in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// So much of a file is looked at for changes: more than one may have.
const MAX_BYTES: u64 = 2 << 20;
/// After how many changes without such a rest it is read all the same.
const MAX_DEBOUNCES: usize = 25;

/// A file that is being watched, until this is dropped.
#[must_use = "the file is watched until this is dropped"]
pub struct FileWatch {
    task: AbortHandle,
    path: PathBuf,
    _watcher: notify::RecommendedWatcher,
}

impl FileWatch {
    /// Calls this whenever the contents of a file have changed, and once at the start, for what came between the moment
    /// when the caller read it and this. A stack's own file is followed by
    /// [`StackHandle::watch`](super::StackHandle::watch); this is for files beside it.
    ///
    /// It is the file's folder that is watched, so that a file that an editor renames into its place is seen, and so is a
    /// link in that folder that is turned to another file (a mounted Kubernetes ConfigMap or Secret). Contents are
    /// compared when the file has rested for 200 ms; that it is gone is a change too. Calls come one after the other, on a
    /// thread for what blocks.
    ///
    /// # Errors
    ///
    /// The system cannot watch its folder.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn file(path: impl Into<PathBuf>, changed: impl FnMut() + Send + 'static) -> Result<Self, ConfigError> {
        Self::with_others(path.into(), || 0, changed)
    }

    /// As [`file`](Self::file), of a file that others read too, so many times by now. Where they have, contents that are
    /// as they were when last looked at may not be what is at work, and count as changed.
    pub(super) fn with_others(
        path: PathBuf,
        readings: impl Fn() -> u64 + Send + 'static,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let notified = Arc::new(Notify::new());
        let wrong = |error: notify::Error| {
            ConfigError::new(vec![Problem::of_file(Some(path.clone()), format!("it cannot be watched: {error}"))])
        };
        let sender = notified.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may stand for changes that were missed.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            sender.notify_one();
        })
        .map_err(wrong)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(wrong)?;
        let task = tokio::spawn(follow(path.clone(), notified, readings, changed));
        Ok(Self { task: task.abort_handle(), path, _watcher: watcher })
    }
}

/// Whether somebody only looked at a file: reading it is no reason to read it again.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// Calls after each change of the file's contents.
async fn follow<F: FnMut() + Send + 'static>(
    path: PathBuf,
    notified: Arc<Notify>,
    readings: impl Fn() -> u64 + Send + 'static,
    mut changed: F,
) {
    let mut known = (readings(), contents(path.clone()).await);
    loop {
        // Where a file system that hangs holds up nobody else. Whoever panics there is not called again.
        let called = tokio::task::spawn_blocking(move || {
            changed();
            changed
        });
        let Ok(back) = called.await else { return };
        changed = back;
        loop {
            notified.notified().await;
            for _ in 0..MAX_DEBOUNCES {
                if timeout(DEBOUNCE, notified.notified()).await.is_err() {
                    break;
                }
            }
            let now = (readings(), contents(path.clone()).await);
            if now != known {
                known = now;
                break;
            }
        }
    }
}

/// What is in the file, or why that is not known.
async fn contents(path: PathBuf) -> Result<Vec<u8>, io::ErrorKind> {
    let read = move || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(move || read().map_err(|error: io::Error| error.kind())).await;
    read.unwrap_or(Err(io::ErrorKind::Other))
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWatch").field("path", &self.path).finish_non_exhaustive()
    }
}
