//! The numbers that the crate is held to, each with its threshold in an assertion: `tests/README.md` says which is held
//! where.
//!
//! A plain run takes a few seconds. `STEADFAST_SCALE=full cargo test --release --test incidents numbers -- --nocapture`
//! runs each at its full size and prints what it measured.

mod bulkhead;
mod classes;
mod deadline;
mod echoes;
mod empties;
mod faults;
mod outage;
mod permits;
mod probes;
mod refusals;
mod replay;
mod silent_turns;
mod streams;
mod table;

/// Returns whether this is the long run.
fn full() -> bool {
    std::env::var("STEADFAST_SCALE").is_ok_and(|scale| scale == "full")
}

/// Returns the number for this run: of a plain one, or of a full one.
fn scaled(plain: usize, all: usize) -> usize {
    if full() { all } else { plain }
}
