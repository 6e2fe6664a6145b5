//! A stack from a file: loading, reloading and watching.

use std::{path::Path, sync::atomic::Ordering::Relaxed};

use super::{Reload, Shared, Stack, StackBuilder, StackContext, StackHandle};
use crate::{Config, ConfigError, FileWatch, Loader, Problem};

impl Stack {
    /// Builds the stack of a file in any form that [`Config::from_path`] reads, with keys from this process's
    /// environment.
    ///
    /// # Errors
    ///
    /// The file is wrong, or as in [`from_config`](Self::from_config).
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::builder().load(path)
    }
}

impl StackBuilder {
    /// Builds the stack of a file.
    ///
    /// # Errors
    ///
    /// As [`Stack::from_path`].
    pub fn load(self, path: impl AsRef<Path>) -> Result<Stack, ConfigError> {
        let config = self.context.read(path.as_ref())?;
        self.build_from(config, Some(path.as_ref().to_owned()))
    }
}

impl StackContext {
    fn read(&self, path: &Path) -> Result<Config, ConfigError> {
        Loader::new().environment(self.environment()).path(path)
    }
}

impl StackHandle {
    /// Reads the stack's file again and replaces the active configuration, like [`reload`](Self::reload). The file is
    /// read on this thread.
    ///
    /// # Errors
    ///
    /// The file is wrong or gone, or the stack was not built from a file. The stack continues unchanged.
    pub fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.shared.readings.fetch_add(1, Relaxed);
        self.shared.reload_from_path()
    }

    /// Starts a task that reloads the stack after each change of its file, until the [`FileWatch`] is dropped.
    ///
    /// [`FileWatch::file`] describes which changes it notices. A wrong or missing file is reported once by
    /// [`Event::ReloadRefused`](steadfast::Event::ReloadRefused), and the stack continues unchanged.
    ///
    /// # Errors
    ///
    /// The stack was not built from a file, or the system cannot watch its folder.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn watch(&self) -> Result<FileWatch, ConfigError> {
        let path = self.shared.path()?.to_owned();
        let (shared, mut first) = (self.shared.clone(), true);
        let readers = shared.clone();
        FileWatch::with_others(
            path,
            move || readers.readings.load(Relaxed),
            move || {
                if std::mem::take(&mut first) {
                    shared.catch_up();
                } else {
                    // An event reports the result.
                    let _ = shared.reload_from_path();
                }
            },
        )
    }
}

impl Shared {
    fn path(&self) -> Result<&Path, ConfigError> {
        self.path.as_deref().ok_or_else(|| {
            let message = "the stack was not built from a file, so it cannot reload one";
            ConfigError::new(vec![Problem::of_file(None, message)])
        })
    }

    fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.reload(self.path().and_then(|path| self.context.read(path)), self.path.as_deref())
    }

    /// Reloads if the file differs from the active configuration.
    fn catch_up(&self) {
        let config = self.path().and_then(|path| self.context.read(path));
        if !config.as_ref().is_ok_and(|config| *config == *self.current.load().config) {
            let _ = self.reload(config, self.path.as_deref());
        }
    }
}
