//! The stack of a configuration: [`Stack`], its handle, and its reloads.
//!
//! # Design
//!
//! A file becomes a tree of values, each with its line and column, whatever the format. References to the environment,
//! the two imported forms (with the schema's own blocks beside them) and overrides work on that tree. Then it is read
//! into the schema, plain data in which `None` stands for an absent value, and checked: every problem has a place, and
//! one error reports all of them. [`Stack`] makes layers of it with `ServiceBuilder` and nothing that a user could not
//! write: Observe · Timeout · Idempotency · Cache · CallerBulkhead · Budget · Bulkhead · Mirror · Route · Fallback.
//! Each tier is Hedge (only where the file has one; boxed, so that others pay nothing) · Validate (the same) · Budget ·
//! RetryWithJitter · CommitOnFirstToken (only where more than the first token is held back: outside of the limits of
//! time, which go on for the first token and for silences) · CircuitBreaker · Timeout · leaf. A tier with deployments
//! has Balance below its circuit, which is by hand alone, and all layers from CommitOnFirstToken on in each deployment
//! (`deployments.rs`).
//!
//! A reload makes a new generation beside the serving one, and swaps one pointer; requests under way end where they
//! began. An unchanged part is *kept, not copied*: the same leaf and its connections, the same circuit, the same caps.
//! A changed layer has other settings over the same state (`BulkheadLayer::state`, `FallbackLayer::state`): the
//! requests in flight, the serving tier. First a `Plan` of the file is checked as a whole (`plan.rs`), so that
//! assembling its generation (`generation.rs`) can fail at a store alone, before any state is shared.

#[cfg(feature = "alerts")]
mod alert_plan;
mod alert_rules;
#[cfg(feature = "alerts")]
mod alerts;
mod asked;
mod cache;
mod chain;
mod context;
mod credential_pool;
mod credentials;
mod deployments;
mod door;
mod durable_store;
mod follower;
mod generation;
mod handle;
mod handoff;
mod handoff_task;
mod headroom;
mod hedge;
mod idempotency;
mod key_store;
mod lane;
mod leaf;
mod leaf_plan;
mod mirror;
mod object_places;
mod objects;
mod operate;
mod plan;
mod previous;
mod queue;
mod recovery;
mod recovery_checks;
mod reload;
mod reloads;
#[cfg(feature = "redis")]
mod replica_hub;
#[cfg(feature = "redis")]
mod replicas;
mod responses;
mod resume;
mod retry_budgets;
mod routes;
mod running;
mod service;
mod settings;
mod spend;
mod state;
mod store_error;
mod stores;
#[cfg(test)]
mod tests;
mod tier_info;
mod tier_runtime;
mod tier_set;
mod validate;
mod view;

#[cfg(feature = "alerts")]
pub use self::alerts::AlertTask;
use self::context::StackContext;
pub use self::{
    asked::AskedTier,
    handle::{StackHandle, TierDeployment},
    handoff_task::HandoffTask,
    object_places::ObjectPlaces,
    objects::ObjectTier,
    recovery::RecoveryCheckTask,
    reload::Reload,
    responses::ResponseArchive,
    resume::Continuation,
    running::{Stack, StackBuilder},
    tier_info::TierInfo,
};
