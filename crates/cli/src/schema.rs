//! `steadfast config schema`.

use std::io::Write as _;

use steadfast_stack::Config;

use crate::Failure;

/// Prints the schema.
pub(crate) fn print() -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{:#}", Config::json_schema())?;
    Ok(())
}
