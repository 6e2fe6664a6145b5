//! `steadfast handoff` and the gateway that hands over, both of the real binary.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod served;
mod store;
