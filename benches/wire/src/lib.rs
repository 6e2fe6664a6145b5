//! The cost of decoding and forwarding streams and requests with steadfast, beside the usual ways, measured in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/wire/Cargo.toml                  # everything, about half a minute
//! cargo run --release --manifest-path benches/wire/Cargo.toml -- allocations   # heap allocations only
//! cargo run --release --manifest-path benches/wire/Cargo.toml -- --quick       # to see that it runs
//! ```
//!
//! `--json FILE` writes the times as well, for the report of `benches/rivals`.
//!
//! The streams and requests are made up, in the form and sizes that providers send. With `STEADFAST_FIXTURES` set to a
//! folder of recordings, their streams are measured too.
//!
//! It measures as `benches/rivals` does, and for the same reasons: the thread's CPU time in rounds that run every
//! contestant once, the median of the rounds, and allocations in a second binary. What counts are the ratios within one
//! run; megabytes a second belong to the machine.

pub mod contestants;
pub mod material;
pub mod report;
pub mod timing;
