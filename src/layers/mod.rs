//! The layers, one folder each.

pub mod retry;
