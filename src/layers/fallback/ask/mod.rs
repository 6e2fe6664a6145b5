//! The way of a request along its tiers: one after the other, until one answers.

mod allotment;
mod failover;
mod future;
mod plan;
mod progress;
mod restart;

pub use self::future::ResponseFuture;
pub(super) use self::{
    allotment::{allot, tier_deadline},
    failover::Failover,
};
