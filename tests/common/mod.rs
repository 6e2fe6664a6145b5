//! What the tests of the promises share.

/// The strict leaf that stands under every layer's own tests too.
#[path = "../../src/layers/testing.rs"]
pub mod testing;
