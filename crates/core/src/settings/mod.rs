//! The values of a configuration file that the blocks of several layers contain.

mod either;
mod scalars;

pub use self::{
    either::{Either, short_or_block},
    scalars::{Share, Span},
};
