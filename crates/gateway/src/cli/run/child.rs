//! The client's process: its terminal, its signals and its end. All that differs between systems is here.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    thread,
};

use tokio::sync::oneshot;

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
use self::unix::{ChildId, Signals, wait};

#[cfg(unix)]
mod unix {
    use std::{os::unix::process::ExitStatusExt as _, time::Duration};

    use rustix::{
        io::Errno,
        process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, waitid, waitpid},
    };
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    use super::{Child, ExitStatus, code, io, thread};

    /// The signals that would end this process.
    pub(super) struct Signals {
        terminate: Stream,
        hang_up: Stream,
        interrupt: Stream,
        quit: Stream,
    }

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            })
        }

        /// Waits for the next signal. Returns it if it is to be passed on; a terminal's keys reach the command too.
        pub(super) async fn next(&mut self) -> Option<Signal> {
            tokio::select! {
                _ = self.terminate.recv() => Some(Signal::TERM),
                _ = self.hang_up.recv() => Some(Signal::HUP),
                _ = self.interrupt.recv() => None,
                _ = self.quit.recv() => None,
            }
        }
    }

    /// The process of a child.
    #[derive(Clone, Copy)]
    pub(super) struct ChildId(Pid);

    impl ChildId {
        pub(super) fn of(child: &Child) -> Self {
            Self(Pid::from_child(child))
        }

        pub(super) fn pass(self, signal: Option<Signal>) {
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
use self::elsewhere::{ChildId, Signals, wait};

#[cfg(not(unix))]
mod elsewhere {
    use std::convert::Infallible;

    use super::{Child, code, io};

    /// Ctrl-C, which reaches the command by itself.
    pub(super) struct Signals;

    impl Signals {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn next(&mut self) -> Option<Infallible> {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            None
        }
    }

    #[derive(Clone, Copy)]
    pub(super) struct ChildId;

    impl ChildId {
        pub(super) fn of(_: &Child) -> Self {
            Self
        }

        pub(super) fn pass(self, _: Option<Infallible>) {}
    }

    pub(super) fn wait(mut child: Child) -> io::Result<u8> {
        Ok(code(child.wait()?))
    }
}
