//! Signals to this process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::system::SignalAction;

/// The signals that a server handles.
#[derive(Debug)]
pub struct ServerSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
    /// Signals that would end the process, and ask for nothing here: log rotation sends them.
    others: [(&'static str, Signal); 3],
}

impl ServerSignals {
    /// Registers the signals, on the current runtime.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            others: [
                ("SIGUSR1", signal(SignalKind::user_defined1())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
                ("SIGALRM", signal(SignalKind::alarm())?),
            ],
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        let [(one, first), (two, second), (three, third)] = &mut self.others;
        tokio::select! {
            _ = self.quit.recv() => SignalAction::Stop("SIGQUIT", 3),
            _ = first.recv() => SignalAction::Nothing(one),
            _ = second.recv() => SignalAction::Nothing(two),
            _ = third.recv() => SignalAction::Nothing(three),
            _ = self.terminate.recv() => SignalAction::Stop("SIGTERM", 15),
            _ = self.interrupt.recv() => SignalAction::Stop("SIGINT", 2),
            _ = self.hang_up.recv() => SignalAction::Reload,
        }
    }
}

/// A signal to this process alone, which its child gets from this process.
pub type OwnSignal = rustix::process::Signal;

/// The signals that would end this process, for a command that ends in its own way: they end nothing from here on.
#[derive(Debug)]
pub struct CommandSignals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl CommandSignals {
    /// Registers the signals, on the current runtime.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next signal. Returns it if it came to this process alone; a terminal's keys reach all processes
    /// in front of it.
    pub async fn next(&mut self) -> Option<OwnSignal> {
        tokio::select! {
            _ = self.terminate.recv() => Some(OwnSignal::TERM),
            _ = self.hang_up.recv() => Some(OwnSignal::HUP),
            _ = self.interrupt.recv() => None,
            _ = self.quit.recv() => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn no_signal_of_a_tool_for_logs_ends_the_process_and_a_quit_stops_it_with_grace() {
        let mut signals = ServerSignals::new().unwrap();
        for (signal, expected) in [
            (Signal::USR1, SignalAction::Nothing("SIGUSR1")),
            (Signal::USR2, SignalAction::Nothing("SIGUSR2")),
            (Signal::ALARM, SignalAction::Nothing("SIGALRM")),
            (Signal::QUIT, SignalAction::Stop("SIGQUIT", 3)),
            (Signal::TERM, SignalAction::Stop("SIGTERM", 15)),
            (Signal::HUP, SignalAction::Reload),
        ] {
            kill_process(getpid(), signal).unwrap();
            assert_eq!(signals.next().await, expected);
        }
    }
}
