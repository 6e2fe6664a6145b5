//! The values of a configuration file that the blocks of several layers contain.

mod either;
mod fault_report;
mod scalars;

pub use self::{
    either::{Either, short_or_block},
    fault_report::FaultReport,
    scalars::{Share, Span},
};
