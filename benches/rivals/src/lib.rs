//! steadfast's layers beside the crates that do the same, measured in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/rivals/Cargo.toml                    # everything, under two minutes
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- time            # CPU time and calls per second
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- allocations     # heap allocations per call
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- callgrind       # instructions per call (needs valgrind)
//! cargo run --release --manifest-path benches/rivals/Cargo.toml -- list            # the contestants' names
//! ```
//!
//! To see where one contestant's instructions go:
//!
//! ```text
//! cd benches/rivals
//! valgrind --tool=callgrind --callgrind-out-file=profile target/release/rivals run "ready: bare" 100000
//! callgrind_annotate profile
//! ```
//!
//! How it measures, and why so:
//!
//! - *CPU time of the thread*, not wall time, which swings with whatever else the machine does. Every round runs every
//!   contestant once, so that a slow moment hits all of them; a table shows the median of the rounds and their spread.
//! - *Instructions* by callgrind, from two runs of N and 2 N calls: set-up and start-up cancel. They hardly vary at all.
//! - *Allocations* in a second binary with a counting allocator, so that the counting costs nobody any time here.
//! - A layer's cost is the stack's minus the bare service's, on the same request and answer. Calls are polled by hand on
//!   one thread with a real (reference-counted) waker inside a tokio runtime's context: no scheduler in the figures.
//! - Rivals run on a *small* request and answer (an `Arc` and a number), the friendliest case for them; and, where it
//!   says `LlmRequest`, on the types that steadfast's layers carry.

pub mod calls;
pub mod contestants;
pub mod instructions;
pub mod observed;
pub mod ours;
pub mod report;
pub mod rivals;
pub mod stacks;
pub mod subject;
pub mod throughput;
pub mod timing;
pub mod wall;
