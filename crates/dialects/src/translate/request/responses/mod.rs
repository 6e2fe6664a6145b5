//! The caller's Responses: what the neutral form has no place for, and what the provider would refuse.

mod mend;
mod survey;
mod tools;

pub(super) use self::{mend::mend, survey::survey};
