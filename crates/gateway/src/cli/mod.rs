//! The `steadfast` command: a configuration checked, explained, asked a prompt, and served as a gateway.
//!
//! Exit codes: 0 for success, 1 where the models failed, a gateway is not ready, an order is refused or a drill missed a target, 2
//! where the command line or the configuration is wrong. A server that is asked to stop a second time ends with 128 and the
//! signal's number, as shells have it.

mod admin;
mod ask;
mod check;
mod drill;
mod exit;
mod handoff;
mod health;
mod key;
mod man;
mod remote;
mod schema;
mod serve;
mod table;
mod terminal;

use std::{io, process::ExitCode, thread, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::{Builder, Runtime};

use self::exit::Failure;

/// Keep language-model calls alive.
#[derive(Parser)]
#[command(name = "steadfast", version, about, propagate_version = true)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check a configuration: what is wrong with it, and which failures go to which tier
    Check(check::Check),
    /// Answer one prompt through the stack
    Ask(ask::Ask),
    Admin(admin::Admin),
    Handoff(handoff::Handoff),
    Drill(drill::Drill),
    Serve(serve::Serve),
    Key(key::Key),
    Health(health::Health),
    /// About configurations
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

/// Runs the command.
pub(crate) fn main() -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(run());
            // Whatever is still at work there is not waited for without end.
            runtime.shutdown_timeout(LAST_WORK);
            code
        }
        Err(error) => Failure::from(error).report(),
    }
}

/// The time for work that is still under way when all is done.
const LAST_WORK: Duration = Duration::from_secs(2);

/// As many threads as there are processors; with one, as in many containers, no thread needs to wake another.
fn runtime() -> io::Result<Runtime> {
    let alone = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if alone { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build()
}

async fn run() -> ExitCode {
    let done = match Command::parse().action {
        Action::Check(check) => check.run().await,
        Action::Ask(ask) => ask.run().await,
        Action::Admin(admin) => admin.run().await,
        Action::Handoff(handoff) => handoff.run().await,
        Action::Drill(drill) => drill.run().await,
        Action::Serve(serve) => serve.run().await,
        Action::Key(key) => key.run(),
        Action::Health(health) => health.run().await,
        Action::Config(Config::Schema) => schema::print(),
        Action::Man(manual) => manual.run(Command::command()),
        Action::Completions { shell } => {
            clap_complete::generate(shell, &mut Command::command(), "steadfast", &mut io::stdout());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
