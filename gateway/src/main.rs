//! The steadfast command.

mod exit;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps language-model calls alive.
#[derive(Parser)]
#[command(name = "steadfast", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Key(serve::MakeKey),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => serve.run().await,
        Command::Key(key) => key.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
