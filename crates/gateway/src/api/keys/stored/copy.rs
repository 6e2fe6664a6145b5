//! The copy of the stored keys on the disk, for a start while their store is away.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use steadfast_internal::{hex, system};
use steadfast_stores::registry::{EntryKind, RegistryEntry, RegistrySnapshot};
use tokio::task::spawn_blocking;

use crate::lock::lock;

/// A copy in a folder. One writer at a time is at work, and nobody waits for it.
#[derive(Debug)]
pub(super) struct KeyCopy {
    folder: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The revision of the copy on the disk.
    written: Option<u64>,
    is_busy: bool,
    /// True if the last write failed.
    has_failed: bool,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Content {
    revision: u64,
    keys: Vec<CopiedKey>,
}

#[derive(Serialize, Deserialize)]
struct CopiedKey {
    name: String,
    revision: u64,
    document: String,
}

const NAME: &str = "keys.json";

impl KeyCopy {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder: folder.into(), state: Arc::default() }
    }

    /// Replaces a copy of another revision. A disk that refuses is logged once, and tried again at the next turn.
    pub(super) fn write_if_new(&self, revision: u64, snapshot: impl FnOnce() -> RegistrySnapshot) {
        {
            let mut state = lock(&self.state);
            if state.is_busy || state.written == Some(revision) {
                return;
            }
            state.is_busy = true;
        }
        let (folder, state, snapshot) = (self.folder.clone(), self.state.clone(), snapshot());
        spawn_blocking(move || {
            let written = write(&folder, snapshot);
            let mut state = lock(&state);
            state.is_busy = false;
            let had_failed = std::mem::replace(&mut state.has_failed, written.is_err());
            match written {
                Ok(()) => state.written = Some(revision),
                Err(error) if !had_failed => {
                    let folder = folder.display();
                    tracing::warn!(%error, %folder, "the copy of the keys is not written: a start without their store is served by an older one, or by none");
                }
                Err(_) => {}
            }
        });
    }

    /// Reads the copy; `None` if there is none that can be read.
    pub(super) async fn read(&self) -> Option<RegistrySnapshot> {
        let folder = self.folder.clone();
        let read = spawn_blocking(move || read(&folder)).await;
        match read.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
            Ok(snapshot) => Some(snapshot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, folder = %self.folder.display(), "the copy of the keys cannot be read");
                None
            }
        }
    }
}

fn write(folder: &Path, snapshot: RegistrySnapshot) -> io::Result<()> {
    let keys = snapshot.entries.into_iter().map(|entry| CopiedKey {
        name: entry.name.to_string(),
        revision: entry.revision,
        document: entry.document.to_string(),
    });
    let content = serde_json::to_vec(&Content { revision: snapshot.revision, keys: keys.collect() })?;
    fs::create_dir_all(folder)?;
    // Processes may share the folder, and have one number in their containers.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let new = folder.join(format!("{NAME}.{}", hex::encode(&random)));
    let put = |mut file: fs::File| {
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(NAME))
    };
    let done = system::for_owner(OpenOptions::new().write(true).create_new(true)).open(&new).and_then(put);
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done
}

fn read(folder: &Path) -> io::Result<RegistrySnapshot> {
    let content: Content = serde_json::from_slice(&fs::read(folder.join(NAME))?)?;
    let entries = content.keys.into_iter().map(|key| RegistryEntry {
        kind: EntryKind::Key,
        name: key.name.into(),
        document: key.document.into(),
        revision: key.revision,
    });
    Ok(RegistrySnapshot { revision: content.revision, entries: entries.collect() })
}
