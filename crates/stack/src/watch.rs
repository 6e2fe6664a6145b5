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
use sha2::{Digest, Sha256};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{ConfigError, Problem};

/// The time that a file must rest before it is read, because an editor writes it in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The most bytes of a file that are compared: more than a valid file has.
const MAX_BYTES: u64 = 128 << 20;
/// The most consecutive changes without such a rest, after which the file is read anyway: half a minute of them.
const MAX_DEBOUNCES: usize = 150;
/// The interval between comparisons without a notice: the system gives none of a link's target in another folder, or of
/// a file that is mounted by itself.
const COMPARED_EVERY: Duration = Duration::from_secs(3);

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
    /// this is for files beside it that nobody else reads.
    ///
    /// The watch covers the file's folder. So it notices a file that an editor renames into place, and a link in that
    /// folder that is redirected (a mounted Kubernetes ConfigMap or Secret). Contents are compared once they have
    /// rested for 200 ms, and every 3 s: a link may lead elsewhere, and a file may be mounted by itself. A removal
    /// counts as a change. Calls run one after the other, on a blocking thread.
    ///
    /// # Errors
    ///
    /// The system cannot watch its folder.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn file(path: impl Into<PathBuf>, changed: impl FnMut() + Send + 'static) -> Result<Self, ConfigError> {
        Self::file_with_readings(path, || 0, changed)
    }

    /// Like [`file`](Self::file), for a file that others read too; `readings` returns how often they have done so.
    /// After such a reading, unchanged contents may differ from the active ones and count as changed. A reader that
    /// wants to be called again for the same contents counts its own reading.
    ///
    /// # Errors
    ///
    /// As [`file`](Self::file).
    ///
    /// # Panics
    ///
    /// As [`file`](Self::file).
    pub fn file_with_readings(
        path: impl Into<PathBuf>,
        readings: impl Fn() -> u64 + Send + 'static,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let path = path.into();
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

    /// Returns the changes of the file that nobody can notice here, in words for the operator; `None` if there are
    /// none.
    pub fn blind_spot(&self) -> Option<&'static str> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let path = self.path.canonicalize().ok()?;
        is_mount(&mounts, &path).then_some(
            "the file is mounted by itself, so a file that is renamed over it outside is never seen here; mount its \
             folder",
        )
    }
}

/// Returns whether a path is itself a mount, by the words of `/proc/self/mountinfo`.
fn is_mount(mounts: &str, path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    // The kernel escapes these (proc_pid_mountinfo(5)).
    let escaped = path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&*escaped))
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
            // Either is a reason to look.
            let _ = timeout(COMPARED_EVERY, notified.notified()).await;
            // First: a reading after this count is looked at again.
            let read = readings();
            let mut now = (read, contents(path.clone()).await);
            if now.1 != known.1 {
                now.1 = rested(&path, now.1).await;
            }
            if now != known {
                known = now;
                break;
            }
            // Whoever changes other files in the folder all the time does not keep this task busy.
            sleep(DEBOUNCE).await;
        }
    }
}

/// A digest of a file's contents, or the reason why they are unknown.
type Contents = Result<[u8; 32], io::ErrorKind>;

/// Waits until the contents have rested. Other files of the folder do not count: a database beside the file changes all
/// the time.
async fn rested(path: &Path, mut now: Contents) -> Contents {
    for _ in 0..MAX_DEBOUNCES {
        sleep(DEBOUNCE).await;
        let later = contents(path.to_owned()).await;
        let has_rested = later == now;
        now = later;
        if has_rested {
            break;
        }
    }
    now
}

async fn contents(path: PathBuf) -> Contents {
    let read = move || {
        let (mut file, mut digest) = (File::open(path)?.take(MAX_BYTES), Sha256::new());
        let mut bytes = vec![0; 64 << 10];
        loop {
            match file.read(&mut bytes) {
                Ok(0) => return Ok(digest.finalize().into()),
                Ok(read) => digest.update(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_the_file_itself_is_known_by_the_kernels_list() {
        let mounts = "\
            22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
            41 22 8:1 /host/keys.yaml /etc/steadfast/keys.yaml rw - ext4 /dev/sda1 rw\n\
            42 22 8:1 /host/more /etc/more\\040keys rw - ext4 /dev/sda1 rw\n";
        for (path, is) in [
            ("/etc/steadfast/keys.yaml", true),
            ("/etc/more keys", true),
            ("/etc/steadfast", false),
            ("/etc/steadfast/keys", false),
            ("/host/keys.yaml", false),
        ] {
            assert_eq!(is_mount(mounts, Path::new(path)), is, "{path}");
        }
    }
}
