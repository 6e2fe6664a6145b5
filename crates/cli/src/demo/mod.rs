//! `steadfast demo`: what the gateway does, to be seen without a key.

mod console;
mod journal;
mod outage;
mod trouble;

use clap::Subcommand;

use super::Failure;

/// See what the gateway does, with simulated providers
#[derive(Subcommand)]
pub(crate) enum Demo {
    Outage(outage::Outage),
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Outage(outage) => outage.run().await,
        }
    }
}
