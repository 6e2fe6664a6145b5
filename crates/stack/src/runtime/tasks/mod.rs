//! The background tasks of a running stack. They stand above its handle, and hold the stack weakly while they wait.

#[cfg(feature = "alerts")]
pub(super) mod alerts;
mod follower;
pub(super) mod handoff;
pub(super) mod recovery;
mod reloads;
pub(super) mod worked_keys;
