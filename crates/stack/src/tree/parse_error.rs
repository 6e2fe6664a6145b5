//! A syntax error.

use std::ops::Range;

/// A syntax error.
#[derive(Debug)]
pub(crate) struct ParseError {
    pub(crate) message: String,
    pub(crate) place: Option<Range<usize>>,
}
