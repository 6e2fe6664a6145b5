//! Properties of forms and files of keys, for any bytes.

pub use super::{form::fuzz::form, keys::fuzz::keys};
