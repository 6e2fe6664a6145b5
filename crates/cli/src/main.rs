//! The `steadfast` command: check, explain and serve a configuration.
//!
//! Exit codes: 0 for success; 1 if the models failed, a gateway is not ready, an order is refused, or a drill or a
//! probe missed its target; 2 if the command line or the configuration is wrong. A second signal to stop ends a server
//! with 128 and the signal's number, as shells do. `run` ends with its client's code, and with 126 or 127 if that
//! cannot be started.

// They panic where nobody reads: `steadfast .. | head`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod admin;
mod ask;
mod check;
mod conformance;
mod demo;
mod drill;
mod exit;
mod handoff;
mod health;
mod init;
mod key;
mod man;
mod prices;
mod remote;
mod run;
mod schema;
mod serve;
mod simulate;
mod spend;
mod store;
mod table;
mod terminal;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::{Builder, Runtime};

use self::exit::Failure;

/// A request makes some fifty small allocations, which this allocator serves faster; it also keeps the memory of a
/// burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keep language-model calls alive.
#[derive(Parser)]
#[command(name = "steadfast", version, about, propagate_version = true)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check a configuration for mistakes, and show which failures go to which tier
    Check(check::Check),
    /// Answer one prompt through the stack
    Ask(ask::Ask),
    Admin(admin::Admin),
    Handoff(handoff::Handoff),
    Drill(drill::Drill),
    Conformance(conformance::Conformance),
    Simulate(simulate::Simulate),
    Serve(serve::Serve),
    Run(run::Run),
    Init(init::Init),
    /// See what the gateway does, with simulated providers
    #[command(subcommand)]
    Demo(demo::Demo),
    Key(key::Key),
    Spend(spend::Spend),
    /// Work with models' prices
    #[command(subcommand)]
    Prices(Prices),
    Health(health::Health),
    /// Work with configurations
    #[command(subcommand)]
    Config(Config),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    Man(man::Manual),
}

#[derive(Subcommand)]
enum Config {
    /// Print the JSON Schema of the configuration, for an editor's completion
    Schema,
}

#[derive(Subcommand)]
enum Prices {
    Import(prices::Import),
}

fn main() -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(run());
            // The wait for remaining work is bounded.
            runtime.shutdown_timeout(LAST_WORK);
            code
        }
        Err(error) => Failure::from(error).report(),
    }
}

/// The time for remaining work at the end.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Creates a runtime with a thread for each processor; with a single one, as in many containers, no thread has to wake
/// another.
fn runtime() -> io::Result<Runtime> {
    let alone = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if alone { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build()
}

/// Prints a shell's completions. The generator itself would panic where nobody reads them.
fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Command::command(), "steadfast", &mut text);
    Ok(io::stdout().lock().write_all(&text)?)
}

async fn run() -> ExitCode {
    let done = match Command::parse().action {
        Action::Check(check) => check.run().await,
        Action::Ask(ask) => ask.run().await,
        Action::Admin(admin) => admin.run().await,
        Action::Handoff(handoff) => handoff.run().await,
        Action::Drill(drill) => drill.run().await,
        Action::Conformance(conformance) => conformance.run().await,
        Action::Simulate(simulate) => simulate.run().await,
        Action::Serve(serve) => serve.run().await,
        Action::Run(run) => return run.run().await.unwrap_or_else(Failure::report),
        Action::Init(init) => init.run(),
        Action::Demo(demo) => demo.run().await,
        Action::Key(key) => key.run().await,
        Action::Spend(spend) => spend.run().await,
        Action::Prices(Prices::Import(import)) => import.run(),
        Action::Health(health) => health.run().await,
        Action::Config(Config::Schema) => schema::print(),
        Action::Man(manual) => manual.run(Command::command()),
        Action::Completions { shell } => completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
