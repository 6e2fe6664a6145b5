//! Promises of the stores: keys, kept answers, tasks, and replicas, over real servers where there are any.

#[allow(dead_code, reason = "it is the unit tests' too")]
#[path = "../../crates/stores/src/testing.rs"]
mod testing;

mod contract;
mod durability;
mod handoff;
mod queue;
mod replicas;
mod tasks;
