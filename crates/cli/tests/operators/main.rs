//! Promises to operators: the commands, the configuration, the reports, and the packaging of the real binary.

#[path = "../common/mod.rs"]
pub mod common;

mod admin;
mod ask;
mod check;
mod conformance;
mod demo;
mod guide;
mod handoff;
mod init;
mod packaging;
mod pipes;
mod readmes;
mod reference;
mod run;
mod serve;
#[cfg(unix)]
mod simulate;
mod watch;
