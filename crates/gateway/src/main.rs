//! The `steadfast` command.

// They panic where nobody reads: `steadfast .. | head`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use std::process::ExitCode;

/// A request makes some fifty small allocations, which this allocator serves faster; it also keeps the memory of a
/// burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
