//! An estimate of a request's tokens before it is sent.

use crate::{
    Dialect,
    chat::{Chat, Part},
};

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
        // The outputs of shells, computers and servers are parts of the prompt here.
        Part::Other { dialect: Dialect::Responses, value } => characters(value.as_str().as_bytes()),
        Part::Other { .. } | Part::Extra { .. } => 0,
    }
}

/// The least run of base64 characters that counts as a picture or the like.
const RUN: usize = 4096;

/// Returns how many characters these bytes count as. It samples few of them: every step hits a long run.
pub(crate) fn characters(bytes: &[u8]) -> usize {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let (mut count, mut seen, mut at) = (bytes.len(), 0, RUN - 1);
    while at < bytes.len() {
        let before = bytes[seen..at].iter().rev().take_while(|byte| is_base64(byte)).count();
        let after = bytes[at..].iter().take_while(|byte| is_base64(byte)).count();
        let run = if after == 0 { 0 } else { before + after };
        if run >= RUN {
            count = count - run + PICTURE * CHARS_PER_TOKEN;
        }
        seen = at + after;
        at = seen.max(at) + RUN;
    }
    count
}

/// Returns the tokens of so many characters of an answer.
pub(crate) fn said(chars: u64) -> u64 {
    chars.div_ceil(CHARS_PER_TOKEN as u64)
}
