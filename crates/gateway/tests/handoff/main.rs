//! `steadfast handoff` and the gateway that hands over, both of the real binary.

#[path = "../common/mod.rs"]
pub mod common;
mod gateway;
mod served;
mod store;
