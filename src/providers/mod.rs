//! Leaves: services that answer a request by asking a provider.

pub mod simulated;
