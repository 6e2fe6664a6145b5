//! steadfast keeps language-model calls alive.

pub mod layers;
pub mod retry_after;

mod sync;
