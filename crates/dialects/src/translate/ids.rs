//! Fits ids of tool calls to each target.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    Dialect,
    chat::{Chat, Part},
    internal::fnv::{OFFSET_BASIS, fnv1a},
    wire::foreign::{CALL, escape_call, seal_id, unmark_call},
};

/// The destination of a request.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub(crate) dialect: Dialect,
    /// True if ids of tool calls must be nine letters and digits (Mistral).
    pub(crate) short_ids: bool,
    pub(crate) stand_ins: StandIns,
    /// True if the server may know no role `developer`, which is OpenAI's own name for the system.
    pub(crate) older_roles: bool,
    pub(crate) marks: CacheMarks,
    /// True if the server takes any id, as one does whose model makes ids of its own form.
    pub(crate) any_ids: bool,
}

/// The places at which a server takes marks for its cache of prompts.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMarks {
    /// At none.
    #[default]
    None,
    /// At tools, at parts of the system prompt and at parts of the conversation.
    Parts,
    /// At the whole request too.
    Anywhere,
}

/// The part that a server requires of a turn with calls, whichever model made it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StandIns {
    /// None.
    #[default]
    None,
    /// The thoughts before the calls.
    Thoughts,
    /// Gemini's signature of the first call.
    Signatures,
}

impl Target {
    /// Creates a target of this dialect, which takes its vendor's requests.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            short_ids: false,
            stand_ins: StandIns::None,
            older_roles: false,
            marks: CacheMarks::None,
            any_ids: false,
        }
    }
}

/// Returns true if a server other than the dialect's vendor takes the ids of calls that any model makes: its model is
/// known to be of another maker. A proxy's name for a model may stand for the vendor's own, for which an id of 46
/// letters, as vLLM makes, is too long.
pub(crate) fn takes_any_ids(model: &str, is_vendors: bool) -> bool {
    const OTHERS: [&str; 12] = [
        "qwen", "glm", "deepseek", "llama", "gpt-oss", "mistral", "mixtral", "minimax", "gemma", "granite", "nemotron",
        "moonshot",
    ];
    let model = model.to_ascii_lowercase();
    // Moonshot's name the tool, as `functions.read:0` does, and its models go by these names.
    model.contains("kimi") || !is_vendors && OTHERS.iter().any(|other| model.contains(other))
}

/// Returns true if the target takes the id of a call.
#[doc(hidden)]
pub fn id_fits(id: &str, target: Target) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match target.dialect {
        _ if target.short_ids => id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        _ if target.any_ids => !id.is_empty(),
        Dialect::Anthropic => !id.is_empty() && id.len() <= 64 && id.bytes().all(plain),
        Dialect::OpenAi => !id.is_empty() && id.len() <= 40,
        Dialect::Gemini => !id.is_empty(),
        Dialect::Responses => !id.is_empty() && id.len() <= 64,
    }
}

/// Returns the id itself if the target takes it, else one that is always the same for it.
#[doc(hidden)]
pub fn fit_id(id: &str, target: Target) -> String {
    if id_fits(id, target) { id.to_owned() } else { made_id(id, target) }
}

/// Returns an id that the target takes, and that is always the same for this text.
pub(super) fn made_id(text: &str, target: Target) -> String {
    if target.short_ids { short(text, 9) } else { format!("call_{}", short(text, 12)) }
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

/// Returns the id of a tool call for a caller of Anthropic's dialect, which a later turn may send to any server of it.
/// It has the provider's own in it, so that this comes back. One that is too long for that has a short text in place of
/// its own, which is the same in each turn, and comes back by its [envelope](envelope_of_id).
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

/// Returns a call's id as a caller's request has it, once it is decoded.
fn back_from(caller: Dialect, id: &str) -> Cow<'_, str> {
    match caller {
        Dialect::Anthropic => unmark_call(mark_call(id).into_owned()).into(),
        Dialect::OpenAi | Dialect::Responses => fit_id(id, Target::new(caller)).into(),
        Dialect::Gemini => id.into(),
    }
}

/// Returns the envelope of a call's id, if callers of this dialect get another one in its place.
pub(crate) fn envelope_of_id(id: &str, caller: Dialect) -> Option<String> {
    (!id.is_empty() && back_from(caller, id) != id).then(|| seal_id(id))
}

/// Gives results the ids of their calls, where a call had its own in an envelope.
pub(super) fn restore_results(chat: &mut Cow<'_, Chat>, caller: Dialect) {
    let mut whole: HashMap<String, String> = HashMap::new();
    for at in 0..chat.messages.len() {
        for call in chat.messages[at].tool_calls() {
            let back = back_from(caller, &call.id);
            if back != call.id {
                whole.insert(back.into_owned(), call.id.clone());
            }
        }
        let is_short = |part: &Part| matches!(part, Part::ToolResult(result) if whole.contains_key(&result.call_id));
        if whole.is_empty() || !chat.messages[at].content.iter().any(is_short) {
            continue;
        }
        for part in &mut chat.to_mut().messages[at].content {
            if let Part::ToolResult(result) = part
                && let Some(id) = whole.get(&result.call_id)
            {
                result.call_id.clone_from(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

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

    /// A proxy's own name for a model says nothing of who made it: OpenAI's and Claude's refuse ids of others.
    #[test]
    fn ids_of_others_go_to_models_that_are_known_to_be_others() {
        for (model, takes) in [
            ("kimi-k2.5", true),
            ("Qwen/Qwen3-Coder", true),
            ("openai/gpt-oss-120b", true),
            ("deepseek-chat", true),
            ("prod", false),
            ("smart", false),
            ("sonnet", false),
            ("gpt-4o", false),
            ("o3-mini", false),
            ("codex-mini-latest", false),
            ("computer-use-preview", false),
            ("anthropic/claude-sonnet-4-5", false),
        ] {
            assert_eq!(takes_any_ids(model, false), takes, "{model}");
        }
        assert!(takes_any_ids("kimi-k2.5", true) && !takes_any_ids("qwen3", true));
    }
}
