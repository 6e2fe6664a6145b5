//! Processes that this one starts.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitStatus},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, waitid, waitpid},
};

use super::signals::OwnSignal;

/// Returns the program of a name, as it is started: the system looks for it.
pub fn program(name: &OsStr) -> OsString {
    name.to_owned()
}

/// The process of a child.
#[derive(Clone, Copy, Debug)]
pub struct ChildId(Pid);

impl ChildId {
    /// Returns that of a child.
    pub fn of(child: &Child) -> Self {
        Self(Pid::from_child(child))
    }

    /// Passes a signal on to it.
    pub fn pass(self, signal: OwnSignal) {
        // It may have ended meanwhile.
        let _ = kill_process(self.0, signal);
    }
}

/// Waits for the end of a child, and returns its exit code: 128 and the signal's number where a signal ended it.
///
/// A child that stops, as editors do at Ctrl-Z, stops this process too, so that the shell takes the terminal back; a
/// shell that continues this process continues the child.
///
/// # Errors
///
/// The system does not know the child.
pub fn wait(child: Child) -> io::Result<u8> {
    let ChildId(id) = ChildId::of(&child);
    loop {
        match waitpid(Some(id), WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                if still_stopped(id) {
                    let _ = kill_process(getpid(), Signal::STOP);
                    let _ = kill_process(id, Signal::CONT);
                }
            }
            Ok(Some((_, status))) => return Ok(code(ExitStatus::from_raw(status.as_raw()))),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns whether a child is stopped after a moment, too. A Ctrl-Z stops the whole group: then this process is
/// continued together with the child, and does not stop once more.
#[allow(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn still_stopped(id: Pid) -> bool {
    thread::sleep(Duration::from_millis(50));
    let changes = WaitIdOptions::EXITED | WaitIdOptions::CONTINUED;
    // A look: the next wait takes what there is.
    matches!(waitid(WaitId::Pid(id), changes | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT), Ok(None))
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
