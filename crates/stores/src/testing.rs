//! Places for the tests of stores.

use std::path::{Path, PathBuf};

/// A test's own folder, deleted with this.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steadfast-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("steadfast.db")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A disk of 4 MiB at a test's own folder: a file system in memory, removed with this.
#[cfg(unix)]
pub(crate) struct Disk(PathBuf);

#[cfg(unix)]
impl Disk {
    /// Returns `None`, with a printed line, if this user may not mount one.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(path);
        if !mount.output().is_ok_and(|ran| ran.status.success()) {
            println!("skipped: this user may not mount a disk");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    /// Fills the disk until not one byte fits.
    pub(crate) fn fills(&self) {
        use std::io::Write as _;
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [65_536, 4096, 1] {
            while filler.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    pub(crate) fn empties(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

#[cfg(unix)]
impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A test's own schema in the database of `STEADFAST_TEST_POSTGRES`.
pub(crate) struct Schema {
    name: String,
    server: tokio_postgres::Client,
    url: String,
}

impl Schema {
    /// Returns `None`, with a printed line, if there is no server for tests.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        let Ok(base) = std::env::var("STEADFAST_TEST_POSTGRES") else {
            println!("skipped: STEADFAST_TEST_POSTGRES names no database");
            return None;
        };
        let (server, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        // PostgreSQL cuts a longer name.
        let name = format!("steadfast_{}_{test:.40}", std::process::id());
        let anew = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
        server.batch_execute(&anew).await.unwrap();
        let and = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{and}options=-c%20search_path%3D{name}");
        Some(Self { name, server, url })
    }

    /// Returns the URL of the database with this schema.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Runs SQL from outside of the store, with `search_path` at this schema.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = format!("SET search_path = {}; {sql}", self.name);
        self.server.batch_execute(&sql).await.unwrap();
    }

    pub(crate) async fn ends(self) {
        self.execute(&format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}
