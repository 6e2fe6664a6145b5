//! The signals that would end this process, for a command that ends in its own way.

#[cfg(not(unix))]
pub(super) use self::elsewhere::{Passed, Signals};
#[cfg(unix)]
pub(super) use self::unix::{Passed, Signals};

#[cfg(unix)]
mod unix {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// A signal to this process alone.
    pub(in crate::cli) type Passed = rustix::process::Signal;

    /// The signals, which end nothing from here on.
    pub(in crate::cli) struct Signals {
        terminate: Signal,
        hang_up: Signal,
        interrupt: Signal,
        quit: Signal,
    }

    impl Signals {
        pub(in crate::cli) fn new() -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            })
        }

        /// Waits for the next signal. Returns it if it came to this process alone; a terminal's keys reach all
        /// processes in front of it.
        pub(in crate::cli) async fn next(&mut self) -> Option<Passed> {
            tokio::select! {
                _ = self.terminate.recv() => Some(Passed::TERM),
                _ = self.hang_up.recv() => Some(Passed::HUP),
                _ = self.interrupt.recv() => None,
                _ = self.quit.recv() => None,
            }
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::{convert::Infallible, io};

    /// There is none here.
    pub(in crate::cli) type Passed = Infallible;

    /// Ctrl-C.
    pub(in crate::cli) struct Signals;

    impl Signals {
        pub(in crate::cli) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(in crate::cli) async fn next(&mut self) -> Option<Passed> {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            None
        }
    }
}
