//! steadfast keeps language-model calls alive.

pub mod providers;
