//! Fits ids of tool calls to each target.

use std::borrow::Cow;

use crate::{
    Dialect,
    internal::fnv::{OFFSET_BASIS, fnv1a},
    wire::foreign::{CALL, escape_call},
};

/// The destination of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) dialect: Dialect,
    /// True if ids of tool calls must be nine letters and digits (Mistral).
    pub(crate) short_ids: bool,
    pub(crate) stand_ins: StandIns,
    /// True if the server may know no role `developer`, which is OpenAI's own name for the system.
    pub(crate) older_roles: bool,
    pub(crate) marks: CacheMarks,
    /// True if the model's ids may be longer than OpenAI's own.
    pub(crate) long_ids: bool,
}

/// The places at which a server takes marks for its cache of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CacheMarks {
    #[default]
    None,
    /// At tools, at parts of the system prompt and at parts of the conversation.
    Parts,
    /// At the whole request too.
    Anywhere,
}

/// The part that a server requires of a turn with calls, whichever model made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StandIns {
    #[default]
    None,
    /// The thoughts before the calls.
    Thoughts,
    /// Gemini's signature of the first call.
    Signatures,
}

impl Target {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            short_ids: false,
            stand_ins: StandIns::None,
            older_roles: false,
            marks: CacheMarks::None,
            long_ids: false,
        }
    }
}

/// Returns true if a model's ids of calls name the tool, as `functions.read:0` of Moonshot's does: they may be longer
/// than other servers take, and go back as they came.
pub(crate) fn names_tools_in_ids(model: &str) -> bool {
    model.to_ascii_lowercase().contains("kimi")
}

/// Returns true if the target takes the id of a call.
pub(crate) fn id_fits(id: &str, target: Target) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match target.dialect {
        _ if target.short_ids => id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        Dialect::Anthropic => !id.is_empty() && id.len() <= 64 && id.bytes().all(plain),
        Dialect::OpenAi => {
            let is_own = target.long_ids && id.starts_with("functions.");
            !id.is_empty() && id.len() <= if is_own { LONGEST } else { 40 }
        }
        Dialect::Gemini => !id.is_empty(),
        Dialect::Responses => !id.is_empty() && id.len() <= 64,
    }
}

/// Returns the id itself if the target takes it, else one that is always the same for it.
pub(crate) fn fit_id(id: &str, target: Target) -> String {
    if id_fits(id, target) {
        id.to_owned()
    } else if target.short_ids {
        short(id, 9)
    } else {
        format!("call_{}", short(id, 12))
    }
}

/// Returns a short text of letters and digits that is the same for `text` in every process.
pub(super) fn short(text: &str, digits: usize) -> String {
    let mut hash = fnv1a(OFFSET_BASIS, text);
    (0..digits)
        .map(|_| {
            let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(hash % 36) as usize];
            hash /= 36;
            char::from(digit)
        })
        .collect()
}

/// The longest id that is kept as it came, in bytes.
const LONGEST: usize = 256;

/// Returns the id of a tool call for a caller of Anthropic's dialect, which a later turn may send to any server of it.
/// It has the provider's own in it, so that this comes back. One that is too long for that has a short text in place of
/// its own, which is the same in each turn: the provider does not get its own back.
pub(crate) fn mark_call(id: &str) -> Cow<'_, str> {
    let target = Target::new(Dialect::Anthropic);
    let is_plain = id_fits(id, target);
    if is_plain && (id.starts_with("toolu_") || id.starts_with("srvtoolu_")) {
        return Cow::Borrowed(id);
    }
    let marked = match is_plain && !id.starts_with('-') {
        true => Some(format!("{CALL}{id}")),
        false => escape_call(id),
    };
    let cut = || format!("{CALL}call_{}", short(id, 12));
    Cow::Owned(marked.filter(|marked| id_fits(marked, target)).unwrap_or_else(cut))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::wire::foreign::unmark_call;

    /// Ids of Kimi's kind, of each length, and other servers'.
    fn ids() -> impl Iterator<Item = String> {
        let named = |length: usize, at: usize| {
            let end = format!(":{at}");
            let name = "mcp__a_server__and-a-tool_".chars().cycle();
            let name: String = name.take(length - "functions.".len() - end.len()).collect();
            format!("functions.{name}{end}")
        };
        let kimis = (13..=250).flat_map(move |length| [7, 8].map(|at| named(length, at)));
        let plain = (10..=250).flat_map(|length| ["a", "b"].map(|end| format!("{}{end}", "x".repeat(length - 1))));
        let own = (20..=250).flat_map(|length| ["a", ":"].map(|end| format!("toolu_{}{end}", "x".repeat(length - 7))));
        kimis
            .chain(plain)
            .chain(own)
            .chain(["functions.f:0", "", "-a", "é☃", "functions.read file:1"].map(str::to_owned))
    }

    #[test]
    fn an_id_fits_every_server_of_messages_and_comes_back_where_it_can() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let mut seen = HashSet::new();
        for id in ids() {
            let marked = mark_call(&id).into_owned();
            assert!((1..=64).contains(&marked.len()) && marked.bytes().all(plain), "{id}: {marked}");
            assert_eq!(mark_call(&id), marked, "{id}");
            // Another turn has it from the caller, whichever server gave it.
            assert_eq!(mark_call(&marked), marked, "{id}");
            assert!(seen.insert(marked.clone()), "{id}: {marked} twice");
            // Each letter that Anthropic's ids do not have takes two more, and so does a dash.
            let odd = id.bytes().filter(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').count();
            if !id.is_empty() && "toolu_sf_-".len() + id.len() + 2 * odd <= 64 {
                assert_eq!(unmark_call(marked), id);
            }
        }
    }
}
