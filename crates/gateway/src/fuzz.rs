//! Properties of what reads bytes of callers and operators. They hold for any bytes: tests try mutations of good
//! ones, and the targets in `fuzz/` search.

pub use crate::{
    api::fuzz::{form, keys},
    http::fuzz::requests,
};
