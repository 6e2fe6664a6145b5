//! The way of a request along its tiers: one after the other, until one answers.

mod allotment;
mod continuation;
mod failover;
mod future;
mod going_on;
mod plan;
mod progress;
mod restart;
mod seam;

pub use self::future::ResponseFuture;
pub(super) use self::{
    allotment::{allot, tier_deadline},
    failover::Failover,
};
