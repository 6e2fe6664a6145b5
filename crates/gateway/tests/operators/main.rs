//! Promises to operators: the commands, the configuration, the reports, and the packaging of the real binary.

#[path = "../common/mod.rs"]
pub mod common;

mod admin;
mod ask;
mod check;
mod handoff;
mod packaging;
mod pipes;
mod readmes;
mod reference;
mod serve;
mod watch;
