//! The parts of a generation: each from its block of the file to what is at work, and its state over reloads.
//!
//! `context.rs` has what many of them share. A tier is `tier_runtime.rs` over a leaf (`leaf_plan.rs`, `leaf.rs`) or
//! over its deployments; `chain.rs`, `routes.rs` and `lane.rs` put tiers in an order. No part knows a generation.

#[cfg(feature = "alerts")]
pub(super) mod alert_plan;
pub(super) mod alert_rules;
pub(super) mod asked;
pub(super) mod cache;
pub(super) mod chain;
pub(super) mod context;
pub(super) mod credential_pool;
mod credentials;
pub(super) mod deployments;
pub(super) mod door;
pub(super) mod durable_store;
pub(super) mod grants;
pub(super) mod handoff;
pub(super) mod headroom;
pub(super) mod hedge;
pub(super) mod idempotency;
pub(super) mod key_store;
pub(super) mod lane;
pub(super) mod leaf;
pub(super) mod leaf_plan;
pub(super) mod ledger;
pub(super) mod mirror;
pub(super) mod object_places;
pub(super) mod queue;
pub(super) mod recovery_checks;
#[cfg(feature = "redis")]
pub(super) mod replica_hub;
pub(super) mod responses;
pub(super) mod resume;
pub(super) mod retry_budgets;
pub(super) mod routes;
pub(super) mod settings;
pub(super) mod spend;
mod store_error;
pub(super) mod stores;
pub(super) mod tier_runtime;
pub(super) mod validate;
