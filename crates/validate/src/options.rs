//! The options of every schema.

use jsonschema::{PatternOptions, ValidationOptions};

/// The steps that a pattern with look-around may take: some tenths of a millisecond. Patterns without take linear time.
const BACKTRACKS: usize = 20_000;

/// Returns the options of every schema. Nothing is fetched: one that refers to another document is invalid here.
pub(super) fn options() -> ValidationOptions<'static> {
    let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS);
    jsonschema::options().offline().with_pattern_options(patterns)
}
