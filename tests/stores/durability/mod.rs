//! A client with an acknowledged request finds it again, whatever ends meanwhile: the process by `kill -9`, at any
//! moment, or the database's server.
//!
//! `cargo test` runs a tenth of it; with `STEADFAST_SCALE=full` it is 2,000 tasks and 50 kills. PostgreSQL's parts need
//! servers: one that `STEADFAST_TEST_POSTGRES` names, and the programs to start one, in the folder of
//! `STEADFAST_TEST_POSTGRES_BIN`. Where they are absent their tests say that they are skipped.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

mod cluster;
mod cut;
mod killed;
mod process;
mod restarted;
mod told;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Tasks that are acknowledged at the least.
    pub(crate) tasks: usize,
    /// The number of times that the process is killed.
    pub(crate) kills: usize,
    /// The number of times that the server is restarted.
    pub(crate) restarts: usize,
}

pub(crate) fn scale() -> Scale {
    match std::env::var("STEADFAST_SCALE").as_deref() {
        Ok("full") => Scale { tasks: 2000, kills: 50, restarts: 5 },
        _ => Scale { tasks: 200, kills: 5, restarts: 2 },
    }
}
