//! The half of Unix.

#[cfg(feature = "process")]
pub(super) mod child;
#[cfg(all(feature = "process", target_os = "linux"))]
mod linux;
#[cfg(all(feature = "process", target_os = "linux"))]
mod orphans;
#[cfg(feature = "process")]
pub(super) mod signals;
#[cfg(feature = "process")]
pub(super) mod terminal;

use std::{
    fs::{Metadata, OpenOptions},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
};

#[cfg(all(feature = "process", target_os = "linux"))]
pub use self::{
    linux::{address_space, memory},
    orphans::reap as reap_orphans,
};

/// Makes a file that is created with these options its owner's alone.
pub fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Returns a file's identity, independent of its name, where the system tells it.
pub fn file_id(file: &Metadata) -> Option<(u64, u64)> {
    Some((file.dev(), file.ino()))
}

/// Returns the name of this machine, or container, as its system gives it.
#[cfg(feature = "host")]
pub fn host_name() -> Option<String> {
    Some(rustix::system::uname().nodename().to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

/// Returns the name of this process's user, as the environment gives it.
#[cfg(feature = "process")]
pub fn user_name() -> Option<String> {
    std::env::var("USER").ok()
}

/// Lets a listener have a port that closing connections of a previous process still use.
///
/// # Errors
///
/// The system refuses it.
#[cfg(feature = "process")]
pub fn share_port(socket: &tokio::net::TcpSocket) -> std::io::Result<()> {
    socket.set_reuseaddr(true)
}

/// Raises the limit of open files as far as the system allows without privileges, and returns it. Many systems start
/// with 1,024 for the sake of old programs.
#[cfg(feature = "process")]
pub fn open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit.maximum,
        // Some systems report "no limit" but enforce one of their own.
        Err(_) => limit.current,
    }
}

/// Returns the memory for this process, in bytes, where the system tells it.
#[cfg(all(feature = "process", not(target_os = "linux")))]
pub fn memory() -> Option<u64> {
    None
}

/// Returns what is left of the limit of the process's address space, in bytes, where the system tells it.
#[cfg(all(feature = "process", not(target_os = "linux")))]
pub fn address_space() -> Option<u64> {
    None
}

/// Leaves orphans to the system's first process, which is never this one.
#[cfg(all(feature = "process", not(target_os = "linux")))]
pub async fn reap_orphans() {}
