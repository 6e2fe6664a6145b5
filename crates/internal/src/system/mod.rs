//! All that differs between systems, as one interface with a half for each: Unix, and more where that is Linux; and
//! Windows.
//!
//! | | Unix | Windows |
//! |---|---|---|
//! | a server stops at | SIGTERM, SIGINT, SIGQUIT | Ctrl-C, Ctrl-Break, the end of its console or of the machine |
//! | a server reads its files again at | SIGHUP | - |
//! | a new file for its owner | mode 0600 | what its folder allows |
//! | a file's identity | device and number | - |
//! | open files | the limit, raised | no limit |
//! | memory | on Linux the machine's, the control groups' and `RLIMIT_AS` | - |
//! | orphans of the first process | on Linux taken note of | - |
//! | single keys of a terminal | yes | lines |
//! | a program by its name | in `PATH` | in `PATH`, with each ending of `PATHEXT` |
//! | a signal to this process alone | passed on to its child | - |
//!
//! Elsewhere are what another crate has for some systems alone (a TCP option in `http`, addresses of sockets in
//! `stores`), and the folders in which other programs of a system keep their credentials (`http`).

#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
mod windows;

#[cfg(unix)]
use self::unix as here;
#[cfg(not(unix))]
use self::windows as here;

#[cfg(feature = "host")]
pub use self::here::host_name;
#[cfg(feature = "process")]
pub use self::here::{
    address_space,
    child::{ChildId, program, wait},
    memory, open_files, reap_orphans, share_port,
    signals::{CommandSignals, OwnSignal, ServerSignals},
    terminal::SingleKeys,
    user_name,
};
pub use self::here::{file_id, for_owner};

/// The action that a signal asks of a server.
#[cfg(feature = "process")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalAction {
    /// Stops the server; has the signal's name and number.
    Stop(&'static str, i32),
    /// Reads the files again.
    Reload,
    /// Asks for nothing; has the signal's name.
    Nothing(&'static str),
}
