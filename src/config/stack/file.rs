//! The stack of a file: loaded, loaded again, and watched.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, task::AbortHandle, time::timeout};

use super::{Makings, Reload, Shared, Stack, StackBuilder, StackHandle};
use crate::config::{Config, ConfigError, Loader, Problem};

/// How long a file must rest before it is read: an editor writes it in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// So much of a file is looked at for changes: more than one may have.
const LONGEST: u64 = 2 << 20;
/// After how many changes without such a rest it is read all the same.
const RESTLESS: usize = 25;

impl Stack {
    /// The stack of a file, in any form that [`Config::from_path`] reads, with keys from the environment of this process.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and as [`from_config`](Self::from_config).
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::builder().load(path)
    }
}

impl StackBuilder {
    /// The stack of a file.
    ///
    /// # Errors
    ///
    /// As [`Stack::from_path`].
    pub fn load(self, path: impl AsRef<Path>) -> Result<Stack, ConfigError> {
        let config = self.makings.read(path.as_ref())?;
        self.build_from(config, Some(path.as_ref().to_owned()))
    }
}

impl Makings {
    fn read(&self, path: &Path) -> Result<Config, ConfigError> {
        Loader::new().environment(self.environment()).path(path)
    }
}

impl StackHandle {
    /// Reads the stack's file again and puts what it says in place of the configuration at work, as
    /// [`reload`](Self::reload) does. The file is read on this thread.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, that it is gone, or that the stack was not made from one. The stack goes on as it was.
    pub fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.shared.reload_from_path()
    }

    /// Reloads the stack whenever its file changes, in a task of its own, until the [`Watching`] is dropped.
    ///
    /// It is the file's folder that is watched, so that a file that an editor renames into its place is seen, and so is a
    /// link in that folder that is turned to another file (a mounted Kubernetes ConfigMap). The file is read when it has
    /// rested for 200 ms, and loaded when its contents are others than before. What is wrong with it, or that it is gone,
    /// is told once by [`Event::ReloadRefused`](crate::Event::ReloadRefused), and the stack goes on as it was.
    ///
    /// # Errors
    ///
    /// The stack was not made from a file, or the system cannot watch its folder.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn watch(&self) -> Result<Watching, ConfigError> {
        let path = self.shared.path()?.to_owned();
        let changed = Arc::new(Notify::new());
        let wrong = |error: notify::Error| {
            ConfigError::new(vec![Problem::of_file(Some(path.clone()), format!("it cannot be watched: {error}"))])
        };
        let told = changed.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may stand for changes that were missed.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            told.notify_one();
        })
        .map_err(wrong)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(wrong)?;
        let task = tokio::spawn(follow(self.shared.clone(), path.clone(), changed));
        Ok(Watching { task: task.abort_handle(), path, _watcher: watcher })
    }
}

/// Whether somebody only looked at a file: reading it is no reason to read it again.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

impl Shared {
    fn path(&self) -> Result<&Path, ConfigError> {
        self.path.as_deref().ok_or_else(|| {
            let message = "the stack was not made from a file: there is none to read again";
            ConfigError::new(vec![Problem::of_file(None, message)])
        })
    }

    fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.readings.fetch_add(1, Relaxed);
        self.reload(self.path().and_then(|path| self.makings.read(path)), self.path.as_deref())
    }
}

/// Reloads after each change of the file's contents.
async fn follow(shared: Arc<Shared>, path: PathBuf, changed: Arc<Notify>) {
    let mut readings = shared.readings.load(Relaxed);
    let mut known = contents(path.clone()).await;
    // What came between the first load and this.
    reload(shared.clone(), |shared| {
        let config = shared.path().and_then(|path| shared.makings.read(path));
        if !config.as_ref().is_ok_and(|config| *config == *shared.current.load().config) {
            let _ = shared.reload(config, shared.path.as_deref());
        }
    })
    .await;
    loop {
        changed.notified().await;
        for _ in 0..RESTLESS {
            if timeout(DEBOUNCE, changed.notified()).await.is_err() {
                break;
            }
        }
        // Where somebody else has read it meanwhile, what is in it now may be what was, and yet not what is at work.
        let by_now = shared.readings.load(Relaxed);
        let now = contents(path.clone()).await;
        if now == known && by_now == readings {
            continue;
        }
        known = now;
        // With the one that follows.
        readings = by_now + 1;
        reload(shared.clone(), |shared| drop(shared.reload_from_path())).await;
    }
}

/// Where a file system that hangs holds up nobody else. What comes of it is told by an event.
async fn reload(shared: Arc<Shared>, reload: impl FnOnce(&Shared) + Send + 'static) {
    let _ = tokio::task::spawn_blocking(move || reload(&shared)).await;
}

/// What is in the file, or why that is not known.
async fn contents(path: PathBuf) -> Result<Vec<u8>, io::ErrorKind> {
    let read = move || {
        let mut bytes = Vec::new();
        File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(move || read().map_err(|error: io::Error| error.kind())).await;
    read.unwrap_or(Err(io::ErrorKind::Other))
}

/// A file that is being watched, until this is dropped.
#[must_use = "the file is watched until this is dropped"]
pub struct Watching {
    task: AbortHandle,
    path: PathBuf,
    _watcher: notify::RecommendedWatcher,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").field("path", &self.path).finish_non_exhaustive()
    }
}
