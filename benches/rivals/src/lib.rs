//! steadfast's layers beside the crates that do the same, measured in one run.
//!
//! ```text
//! cd benches/rivals
//! cargo run --release                                            # costs per call, what grows, calls per second
//! cargo run --release --features liter-llm -- report             # everything; writes benches/REPORT.md
//! cargo run --release --features liter-llm -- report --quick     # to see that it runs
//! cargo run --release --features liter-llm -- calls [TABLE]      # costs per call: CPU time, instructions, allocations
//! cargo run --release --features liter-llm -- growth             # costs that should not grow
//! cargo run --release --features liter-llm -- threads            # calls per second of one shared service
//! cargo run --release --features liter-llm -- outage             # what callers see while a provider is down
//! cargo run --release --features liter-llm -- traps              # mistakes that libraries like this one make
//! cargo run --release --features liter-llm -- numbers            # what the stack promises, measured
//! cargo run --release --features liter-llm -- list               # all rows of costs per call
//! ```
//!
//! Without `--features liter-llm` that one is left out, and a minute of building its HTTP client with it.
//!
//! To see where one contestant's instructions go:
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=profile target/release/rivals run "ready: bare" 100000
//! callgrind_annotate profile
//! ```
//!
//! The method, and its reasons:
//!
//! - *CPU time of the thread*, not wall time, which swings with whatever else the machine does. Every round runs every
//!   contestant once, so that a slow moment hits all of them; a table shows the median of the rounds and their spread.
//! - *Instructions* by callgrind, of warm calls alone: they hardly vary at all.
//! - *Allocations* in a second binary with a counting allocator, so that the counting costs nobody any time here.
//! - A layer's cost is the stack's minus the bare service's, on the same request and answer. Calls are polled by hand
//!   on one thread with a real (reference-counted) waker inside a tokio runtime's context: no scheduler in the figures.
//! - Rivals run on a *small* request and answer (an `Arc` and a number), the friendliest case for them; and, where it
//!   says `LlmRequest`, on the types that steadfast's layers carry. liter-llm's layers take its own types only.

pub mod calls;
pub mod contestants;
pub mod measure;
pub mod numbers;
pub mod ours;
pub mod outage;
pub mod report;
pub mod rivals;
pub mod subject;
pub mod traps;
