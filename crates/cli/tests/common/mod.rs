//! The real binary, run on files of a test's own.
//!
//! Each test is a crate of its own and takes what it needs: with `pub mod common`, what it leaves is no dead code.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

pub mod client;
pub mod http;
pub mod sdk;
pub mod serve;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The binary under test.
pub const STEADFAST: &str = env!("CARGO_BIN_EXE_steadfast");

/// A folder of a test's own, gone with it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in it. It changes as with editors: nobody reads half of it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command's output.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs `steadfast` in an environment with nothing in it but these variables.
pub fn steadfast<'a>(arguments: impl IntoIterator<Item = &'a str>, environment: &[(&str, &str)]) -> Ran {
    let Output { status, stdout, stderr } =
        Command::new(STEADFAST).args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A new key, and its entry in a file of keys, which further lines can follow.
pub fn key(name: &str) -> (String, String) {
    let made = steadfast(["key", name], &[]).out;
    let (said, entry) = made.split_once("keys:\n").unwrap();
    let key = said.split_whitespace().find(|word| word.starts_with("sk-steadfast-")).unwrap();
    assert!(!entry.contains(key) && entry.contains("sha256:"), "{made}");
    (key.to_owned(), entry.trim_end().to_owned() + "\n")
}

/// Looks until it is so.
pub fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    comes(limit, what, || is_so().then_some(()));
}

/// Looks until there is something.
pub fn comes<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(there) = look() {
            return there;
        }
        assert!(begun.elapsed() < limit, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}
