//! The client's process: its terminal, its signals and its end.

use std::{io, process::Command, thread};

use steadfast_internal::system::{ChildId, CommandSignals, wait};
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
    let mut signals = CommandSignals::new()?;
    let child = command.spawn()?;
    let id = ChildId::of(&child);
    let (tell, mut ended) = oneshot::channel();
    thread::Builder::new().name("client".to_owned()).spawn(move || tell.send(wait(child)))?;
    loop {
        tokio::select! {
            ended = &mut ended => return ended.map_err(io::Error::other)?,
            signal = signals.next() => {
                if let Some(signal) = signal {
                    id.pass(signal);
                }
            }
        }
    }
}
