//! Promises of the stores: gateways that share one, and are killed with it or without.

#[path = "../common/mod.rs"]
pub mod common;

mod durability;
mod ledger;
mod provider;
mod replicas;
