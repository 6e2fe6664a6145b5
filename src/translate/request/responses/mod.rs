//! The caller's Responses: what the neutral form has no place for, and what the provider would refuse.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{mend::Edits, report::Report};
use crate::LlmError;

/// Reads the whole request for the fields that [`Chat`](crate::Chat) does not hold.
pub(super) fn survey(_body: &RawValue, _report: &mut Report) -> Result<(), LlmError> {
    Ok(())
}

/// Finds the parts of a request of this dialect that the provider would refuse.
pub(super) fn mend(_top: &RawValue, _body: &Bytes, _report: &mut Report) -> Result<Edits, LlmError> {
    Ok(Edits::new())
}
