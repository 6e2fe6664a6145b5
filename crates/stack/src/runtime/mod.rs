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
//! (`parts/deployments.rs`).
//!
//! A reload makes a new generation beside the serving one, and swaps one pointer; requests under way end where they
//! began. An unchanged part is *kept, not copied*: the same leaf and its connections, the same circuit, the same caps.
//! A changed layer has other settings over the same state (`BulkheadLayer::state`, `FallbackLayer::state`): the
//! requests in flight, the serving tier. First a `Plan` of the file is checked as a whole (`plan.rs`), so that
//! assembling its generation (`generation.rs`) can fail at a store alone, before any state is shared.
//!
//! From bottom to top: `parts/` · `plan.rs` · `tier_set.rs` · `previous.rs` · `generation.rs` · `replicas.rs` ·
//! `state.rs` · `service.rs` · `handle/` · `stack.rs` · `tasks/`. A file uses those before it only.

mod generation;
mod handle;
mod parts;
mod plan;
mod previous;
mod reload;
#[cfg(feature = "redis")]
mod replicas;
mod service;
mod stack;
mod state;
mod tasks;
#[cfg(test)]
mod tests;
mod tier_info;
mod tier_set;

#[cfg(feature = "alerts")]
pub use self::tasks::alerts::AlertTask;
pub use self::{
    handle::{ObjectTier, StackHandle, TierDeployment},
    parts::{asked::AskedTier, object_places::ObjectPlaces, responses::ResponseArchive, resume::Continuation},
    reload::Reload,
    stack::{Stack, StackBuilder},
    tasks::{handoff::HandoffTask, recovery::RecoveryCheckTask, worked_keys::WorkedKeyTask},
    tier_info::TierInfo,
};
