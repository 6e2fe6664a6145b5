//! A request without marks for a cache of prompts, for a server that refuses them.

use crate::{
    fields::{each, fields, word},
    protocol::without_everywhere,
    raw_json::RawJson,
};

/// The path of a mark, wherever it stands in a body. OpenAI's own goes with the others.
pub(super) const MARKS: &str = "**.cache_control";

/// Returns a body without any mark; `None` if it has none.
pub(super) fn without(body: &[u8]) -> Option<Vec<u8>> {
    without_everywhere(body, &["cache_control", "prompt_cache_breakpoint"], &|name, text| match name {
        "content" => lone_text(&text).unwrap_or(text),
        _ => text,
    })
}

/// Returns the text of a list that has nothing else: many a server takes no lists.
fn lone_text(list: &str) -> Option<String> {
    let list: RawJson<'_> = serde_json::from_str(list).ok()?;
    let (mut items, mut lone, mut is_plain) = (0, None, true);
    each(list, |part| {
        items += 1;
        fields(part, |name, value| {
            match name {
                "type" => is_plain &= word(value).as_deref() == Some("text"),
                "text" => lone = Some(value.get().to_owned()),
                _ => is_plain = false,
            }
            Ok(())
        })?;
        Ok(())
    })
    .ok()?;
    lone.filter(|_| items == 1 && is_plain)
}
