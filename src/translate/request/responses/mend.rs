//! Repairs a request of Responses whose earlier turn another provider answered.

use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;

use crate::{
    LlmError,
    fields::{Object, is_list},
    translate::{
        request::{
            mend::{Edits, place, without},
            report::Report,
        },
        rules::Feature,
    },
    wire::foreign::ENVELOPE,
};

/// Removes the reasoning items that another provider has signed. OpenAI refuses their `encrypted_content`, and it knows
/// no item of their ids. The items behind them stay: OpenAI asks for the reasoning of its own items alone.
pub(in crate::translate::request) fn mend(
    top: &RawValue,
    body: &Bytes,
    report: &mut Report,
) -> Result<Edits, LlmError> {
    let mut edits = Edits::new();
    let Some(input) = Object::read(top, &["input"])?.get("input").filter(|input| is_list(input)) else {
        return Ok(edits);
    };
    if let Some(list) = without(input, is_foreign, "")? {
        report.record(Feature::Reasoning);
        edits.push((place(input, body), list));
    }
    Ok(edits)
}

fn is_foreign(item: &RawValue) -> Result<bool, LlmError> {
    if memmem::find(item.get().as_bytes(), ENVELOPE.as_bytes()).is_none() {
        return Ok(false);
    }
    let item = Object::read(item, &["type", "encrypted_content"])?;
    let token = item.word("encrypted_content").unwrap_or_default();
    Ok(item.word("type").as_deref() == Some("reasoning") && token.starts_with(ENVELOPE))
}
