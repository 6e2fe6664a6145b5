//! A leaf that hands requests to people: the last tier of a fallback, or the tier of requests that require a person.
//!
//! [`handoff`](crate::handoff) explains tasks, and where people find them.

mod leaf;

pub use self::leaf::Handoff;
pub use super::future::ResponseFuture;
