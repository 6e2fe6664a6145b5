//! Replicas that share what they know: over a store in memory, and over a real Redis where `STEADFAST_TEST_REDIS` names
//! one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real server keeps real time")]
#![allow(unreachable_pub, reason = "one crate, in parts")]

mod answers;
mod exchange;
mod headroom;
mod limits;
mod outage;
mod server;
mod stacks;
mod wrong;
