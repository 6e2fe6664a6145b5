//! A leaf that hands requests to people: the last tier of a fallback, or the one of requests that require a person.
//!
//! What a task is and where people find it: [`handoff`](crate::handoff).

mod leaf;

pub use self::leaf::Handoff;
pub use super::future::ResponseFuture;
