//! The half of Windows.

#[cfg(feature = "process")]
pub(super) mod child;
#[cfg(feature = "process")]
pub(super) mod signals;
#[cfg(feature = "process")]
pub(super) mod terminal;

use std::fs::{Metadata, OpenOptions};

/// Leaves a new file to the access list of its folder: a folder of the user's profile lets no other user in, and an
/// administrator sets others up with `icacls`.
pub fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Returns no identity: nobody deletes or replaces a file here that is open.
pub fn file_id(_: &Metadata) -> Option<(u64, u64)> {
    None
}

/// Returns the name of this machine, as its environment gives it.
#[cfg(feature = "host")]
pub fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Returns the name of this process's user, as the environment gives it.
#[cfg(feature = "process")]
pub fn user_name() -> Option<String> {
    std::env::var("USERNAME").ok()
}

/// Leaves a listener as it is: closing connections block no port here, and the option would let two processes listen
/// at once.
///
/// # Errors
///
/// There are none here.
#[cfg(feature = "process")]
pub fn share_port(_: &tokio::net::TcpSocket) -> std::io::Result<()> {
    Ok(())
}

/// Returns no limit of open files: there is none here for connections.
#[cfg(feature = "process")]
pub fn open_files() -> Option<u64> {
    None
}

/// Returns no memory: no call without `unsafe` tells it here.
#[cfg(feature = "process")]
pub fn memory() -> Option<u64> {
    None
}

/// Returns no limit of the process's address space: there is none here.
#[cfg(feature = "process")]
pub fn address_space() -> Option<u64> {
    None
}

/// Does nothing: a process that ends leaves no place behind here.
#[cfg(feature = "process")]
pub async fn reap_orphans() {}
