//! The client's process: its terminal, its signals and its end. All that differs between systems is here.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    thread,
};

use tokio::sync::oneshot;

use crate::cli::signals::{Passed, Signals};

/// Runs a command at this process's terminal, and returns its exit code: 128 and the signal's number where a signal
/// ended it.
///
/// A Ctrl-C reaches the command by itself, since it is in the same process group; this process goes on, and so does the
/// gateway. SIGTERM and SIGHUP are passed on.
///
/// # Errors
///
/// The command cannot be started.
pub(super) async fn run(mut command: Command) -> io::Result<u8> {
    // From here on no signal ends this process before the command.
    let mut signals = Signals::new()?;
    let child = command.spawn()?;
    let id = ChildId::of(&child);
    let (tell, mut ended) = oneshot::channel();
    thread::Builder::new().name("client".to_owned()).spawn(move || tell.send(wait(child)))?;
    loop {
        tokio::select! {
            ended = &mut ended => return ended.map_err(io::Error::other)?,
            signal = signals.next() => id.pass(signal),
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or_else(|| Some(128 + signal?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(unix)]
use self::unix::{ChildId, wait};

#[cfg(unix)]
mod unix {
    use std::{os::unix::process::ExitStatusExt as _, time::Duration};

    use rustix::{
        io::Errno,
        process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, waitid, waitpid},
    };

    use super::{Child, ExitStatus, Passed, code, io, thread};

    /// The process of a child.
    #[derive(Clone, Copy)]
    pub(super) struct ChildId(Pid);

    impl ChildId {
        pub(super) fn of(child: &Child) -> Self {
            Self(Pid::from_child(child))
        }

        pub(super) fn pass(self, signal: Option<Passed>) {
            // It may have ended meanwhile.
            let _ = signal.map(|signal| kill_process(self.0, signal));
        }
    }

    /// Waits for the end of a child. A child that stops, as editors do at Ctrl-Z, stops this process too, so that the
    /// shell takes the terminal back; a shell that continues this process continues the child.
    pub(super) fn wait(child: Child) -> io::Result<u8> {
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
}

#[cfg(not(unix))]
use self::elsewhere::{ChildId, wait};

#[cfg(not(unix))]
mod elsewhere {
    use super::{Child, Passed, code, io};

    #[derive(Clone, Copy)]
    pub(super) struct ChildId;

    impl ChildId {
        pub(super) fn of(_: &Child) -> Self {
            Self
        }

        pub(super) fn pass(self, _: Option<Passed>) {}
    }

    pub(super) fn wait(mut child: Child) -> io::Result<u8> {
        Ok(code(child.wait()?))
    }
}
