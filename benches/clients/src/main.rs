//! CPU time that steadfast adds to a call in a program of a user's own: of one call without it and with it.
//!
//! `cargo run --release --manifest-path benches/clients/Cargo.toml` prints the table; `-- --quick`
//! only shows that it runs.
//!
//! No call leaves the process: a function in the place of the provider answers each with the same bytes. Both sides of
//! a row make the same call through the same client, and take turns for fifteen rounds on one thread.

mod contestants;
mod timing;

use crate::timing::{measure, spread};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    println!("| | without, µs | with, µs | added, µs | half of the rounds |");
    println!("|---|---:|---:|---:|---:|");
    for mut row in contestants::all() {
        let rounds = measure(&runtime, &mut row, quick);
        let [_, without, _] = spread(rounds.iter().map(|round| round.without));
        let [_, with, _] = spread(rounds.iter().map(|round| round.with));
        let [low, added, high] = spread(rounds.iter().map(|round| round.with - round.without));
        println!("| {} | {without:.2} | {with:.2} | **{added:.2}** | {low:.2} to {high:.2} |", row.name);
    }
}
