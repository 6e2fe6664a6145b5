//! Watches files for changes.

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

/// The time that a file must rest before it is read, because an editor writes it in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The most bytes of a file that are compared: more than a valid file has.
const MAX_BYTES: u64 = 2 << 20;
/// The most consecutive changes without such a rest, after which the file is read anyway.
const MAX_DEBOUNCES: usize = 25;

/// A watch on a file, active until it is dropped.
#[must_use = "the file is watched until this is dropped"]
pub struct FileWatch {
    task: AbortHandle,
    path: PathBuf,
    _watcher: notify::RecommendedWatcher,
}

impl FileWatch {
    /// Calls `changed` after each change of a file's contents, and once at the start, because the file may have
    /// changed since the caller read it. [`StackHandle::watch`](super::StackHandle::watch) follows a stack's own file;
    /// this is for files beside it.
    ///
    /// The watch covers the file's folder. So it notices a file that an editor renames into place, and a link in that
    /// folder that is redirected (a mounted Kubernetes ConfigMap or Secret). Contents are compared once the file has
    /// rested for 200 ms; a removal counts as a change. Calls run one after the other, on a blocking thread.
    ///
    /// # Errors
    ///
    /// The system cannot watch its folder.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn file(path: impl Into<PathBuf>, changed: impl FnMut() + Send + 'static) -> Result<Self, ConfigError> {
        Self::with_others(path.into(), || 0, changed)
    }

    /// Like [`file`](Self::file), for a file that others read too; `readings` returns how often they have done so.
    /// After such a reading, unchanged contents may differ from the active ones and count as changed.
    pub(super) fn with_others(
        path: PathBuf,
        readings: impl Fn() -> u64 + Send + 'static,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let notified = Arc::new(Notify::new());
        let wrong = |error: notify::Error| {
            ConfigError::new(vec![Problem::of_file(Some(path.clone()), format!("the file cannot be watched: {error}"))])
        };
        let sender = notified.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may stand for missed changes.
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

/// Returns whether an event is a mere read, which is no reason to read the file again.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// Calls `changed` after each change of the file's contents.
async fn follow<F: FnMut() + Send + 'static>(
    path: PathBuf,
    notified: Arc<Notify>,
    readings: impl Fn() -> u64 + Send + 'static,
    mut changed: F,
) {
    let mut known = (readings(), contents(path.clone()).await);
    loop {
        // A blocking thread: a hanging file system must not block anything else. A function that panics is not called
        // again.
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

/// Returns the file's contents, or the reason why they are unknown.
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
