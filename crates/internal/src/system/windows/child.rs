//! Processes that this one starts.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Child,
};

use super::signals::OwnSignal;

/// Returns the program of a name, as it is started: with its folder and its ending, where `PATH` has one. The system
/// itself looks for `.exe` alone, and npm installs `.cmd`.
pub fn program(name: &OsStr) -> OsString {
    let variable = |name: &str| env::var_os(name).unwrap_or_default();
    let folders = env::split_paths(&variable("PATH")).collect::<Vec<_>>();
    let endings = variable("PATHEXT").into_string().unwrap_or_default();
    found(name, &folders, &endings).map_or_else(|| name.to_owned(), PathBuf::into_os_string)
}

fn found(name: &OsStr, folders: &[PathBuf], endings: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.extension().is_some() || path.components().count() != 1 {
        return None;
    }
    let with = |ending: &str| Path::new(&[name, OsStr::new(ending)].into_iter().collect::<OsString>()).to_owned();
    let names = endings.split(';').filter(|ending| !ending.is_empty()).map(with).collect::<Vec<_>>();
    folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name))).find(|path| path.is_file())
}

/// The process of a child.
#[derive(Clone, Copy, Debug)]
pub struct ChildId(());

impl ChildId {
    /// Returns that of a child.
    pub fn of(_: &Child) -> Self {
        Self(())
    }

    /// Passes a signal on to it: there is none here.
    pub fn pass(self, signal: OwnSignal) {
        match signal {}
    }
}

/// Waits for the end of a child, and returns its exit code, 1 for one beyond 255.
///
/// # Errors
///
/// The system does not know the child.
pub fn wait(mut child: Child) -> io::Result<u8> {
    let code = child.wait()?.code();
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_without_an_ending_is_that_of_the_first_program_on_the_path() {
        let folder = env::temp_dir().join(format!("steadfast-path-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in ["claude", "claude.cmd", "codex.exe"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let folders = [folder.join("none"), folder.clone()];
        let found = |name: &str| found(OsStr::new(name), &folders, ".COM;.EXE;.CMD");
        let lower = |path: Option<PathBuf>| path.map(|path| path.to_string_lossy().to_lowercase());
        assert_eq!(lower(found("claude")), lower(Some(folder.join("claude.cmd"))));
        assert_eq!(lower(found("codex")), lower(Some(folder.join("codex.exe"))));
        for whole in ["claude.cmd", "gemini", r"C:\tools\claude", "./claude"] {
            assert_eq!(found(whole), None, "{whole}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
