//! Promises of the layers: what they do together, under callers who leave, clones that are not ready, and faults.

#[path = "../common/mod.rs"]
mod common;

mod allocations;
mod builders;
mod cache;
mod cancellation;
mod composition;
mod custom_client;
mod handles;
mod hedge;
mod idempotency;
mod observation;
mod own_layer;
mod preset;
mod spend;
mod traps;
