//! `steadfast handoff` and the gateway that hands over, both of the real binary.

mod gateway;
mod served;
mod store;
