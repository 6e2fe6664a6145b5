use memchr::memmem;
use serde_json::value::RawValue;

use crate::{
    fields::{Object, each, is_list},
    providers::refit::Fields,
};

/// Returns a body without the reasoning in its input: all of it, since a refusal does not name every item at fault.
/// Returns `None` if there is none.
pub(super) fn without_reasoning(body: &[u8]) -> Option<Vec<u8>> {
    memmem::find(body, b"reasoning")?;
    let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
    let input = fields.stood("input").filter(|input| is_list(input))?;
    let is_reasoning = |item: &RawValue| {
        let kind = Object::read(item, &["type"]).ok().and_then(|item| item.word("type"));
        kind.as_deref() == Some("reasoning")
    };
    let (mut kept, mut any) = (String::with_capacity(input.get().len()), false);
    kept.push('[');
    each(input, |item| {
        if is_reasoning(item) {
            any = true;
        } else {
            kept.push_str(if kept.len() > 1 { "," } else { "" });
            kept.push_str(item.get());
        }
        Ok(())
    })
    .ok()?;
    kept.push(']');
    // A conversation that is nothing else cannot do without it.
    if !any || kept.len() == 2 {
        return None;
    }
    fields.set("input", kept);
    fields.finish().map(String::into_bytes)
}
