//! The copy of the stored keys on the disk, for a start while their store is away.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use steadfast_stores::registry::{EntryKind, RegistryEntry, RegistrySnapshot};
use tokio::task::spawn_blocking;

/// A copy in a folder.
#[derive(Clone, Debug)]
pub(super) struct KeyCopy {
    folder: Arc<Path>,
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
        Self { folder: folder.into() }
    }

    /// Replaces the copy. A disk that refuses is logged.
    pub(super) async fn write(&self, snapshot: RegistrySnapshot) {
        let folder = self.folder.clone();
        let written = spawn_blocking(move || write(&folder, snapshot)).await;
        if let Err(error) = written.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
            let folder = self.folder.display();
            tracing::warn!(%error, %folder, "no copy of the keys: a start needs their store");
        }
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
    // Processes of one machine may share the folder.
    let new = folder.join(format!("{NAME}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(&content)?;
    file.sync_all()?;
    fs::rename(new, folder.join(NAME))
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
