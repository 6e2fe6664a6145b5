//! An estimate of a request's tokens before it is sent.

use crate::chat::{Chat, Part};

/// The characters of prompt for each token: the rule of thumb of OpenAI's help pages for English.
pub(crate) const CHARS_PER_TOKEN: usize = 4;
/// The characters for a picture or a page. Anthropic's largest picture takes about 1,600 tokens.
pub(crate) const PICTURE: usize = 1600;
/// Returns the tokens of the prompt alone. It is about right for English, too low for most other text and for
/// tools; text that repeats itself takes fewer.
pub(crate) fn prompt(chat: &Chat) -> u64 {
    let parts = chat.messages.iter().flat_map(|message| &message.content);
    let chars = parts.map(part).fold(chat.system.as_ref().map_or(0, String::len), usize::saturating_add);
    (chars / CHARS_PER_TOKEN) as u64
}

/// Returns how many characters a part counts as.
pub(crate) fn part(part: &Part) -> usize {
    match part {
        Part::Text(text) | Part::Refusal(text) => text.len(),
        Part::Reasoning(reasoning) => reasoning.text.len(),
        Part::ToolCall(call) => call.arguments.len(),
        Part::ToolResult(result) => result.content.iter().filter_map(Part::as_text).map(str::len).sum(),
        Part::Image(_) | Part::Document(_) => PICTURE * CHARS_PER_TOKEN,
        Part::Other { .. } | Part::Extra { .. } => 0,
    }
}

/// Returns the tokens of so many characters of an answer.
pub(crate) fn said(chars: u64) -> u64 {
    chars.div_ceil(CHARS_PER_TOKEN as u64)
}
