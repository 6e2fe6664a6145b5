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

/// Returns the id of a tool call for a caller of Anthropic's dialect. It has the provider's own in it, so that this
/// comes back.
pub(crate) fn mark_call(id: &str) -> Cow<'_, str> {
    if id.starts_with("toolu_") || id.starts_with("srvtoolu_") {
        return Cow::Borrowed(id);
    }
    let target = Target::new(Dialect::Anthropic);
    if (!id_fits(id, target) || id.starts_with('-'))
        && let Some(escaped) = escape_call(id).filter(|escaped| escaped.len() <= LONGEST)
    {
        return Cow::Owned(escaped);
    }
    Cow::Owned(format!("{CALL}{}", fit_id(id, target)).chars().take(64).collect())
}
