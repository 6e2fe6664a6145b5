//! Events of the console and of the machine, which stand for signals.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown,
};

use crate::system::SignalAction;

/// The events that a server handles. Behind the last three the system waits some seconds, and then ends the process.
#[derive(Debug)]
pub struct ServerSignals {
    interrupt: CtrlC,
    quit: CtrlBreak,
    close: CtrlClose,
    log_off: CtrlLogoff,
    shut_down: CtrlShutdown,
}

impl ServerSignals {
    /// Registers the events, on the current runtime.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            quit: ctrl_break()?,
            close: ctrl_close()?,
            log_off: ctrl_logoff()?,
            shut_down: ctrl_shutdown()?,
        })
    }

    /// Waits for the next event. Its number is that of the signal for which it stands.
    pub async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.interrupt.recv() => SignalAction::Stop("Ctrl-C", 2),
            _ = self.quit.recv() => SignalAction::Stop("Ctrl-Break", 3),
            _ = self.close.recv() => SignalAction::Stop("the console's end", 15),
            _ = self.log_off.recv() => SignalAction::Stop("the user's end", 15),
            _ = self.shut_down.recv() => SignalAction::Stop("the machine's end", 15),
        }
    }
}

/// A signal to this process alone: there is none here.
#[derive(Clone, Copy, Debug)]
pub enum OwnSignal {}

/// The events that would end this process, for a command that ends in its own way: they end nothing from here on.
#[derive(Debug)]
pub struct CommandSignals {
    interrupt: CtrlC,
    quit: CtrlBreak,
}

impl CommandSignals {
    /// Registers the events, on the current runtime.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: ctrl_c()?, quit: ctrl_break()? })
    }

    /// Waits for the next event. All processes of the console get it, so that none needs to be passed on.
    pub async fn next(&mut self) -> Option<OwnSignal> {
        tokio::select! {
            _ = self.interrupt.recv() => None,
            _ = self.quit.recv() => None,
        }
    }
}
