//! An estimate of a request's tokens before it is sent.

use crate::{
    Dialect,
    chat::{Chat, Part, Tool},
};

/// The characters of prompt for each token: the rule of thumb of OpenAI's help pages for English.
pub(crate) const CHARS_PER_TOKEN: usize = 4;
/// The characters for a picture or a page. Anthropic's largest picture takes about 1,600 tokens.
pub(crate) const PICTURE: usize = 1600;
/// Returns the tokens of the prompt alone: a token for four bytes of the system prompt, the turns, the tools and the
/// answer's schema. Letters beyond ASCII take more bytes, and more tokens. A provider's own words around turns and
/// tools are not in it.
pub fn prompt(chat: &Chat) -> u64 {
    let parts = chat.messages.iter().flat_map(|message| &message.content).map(part);
    let schema = chat.output.iter().filter_map(|output| output.schema.as_ref()).map(|schema| schema.as_str().len());
    let chars = parts
        .chain(chat.tools.iter().map(tool))
        .chain(schema)
        .fold(chat.system.as_ref().map_or(0, String::len), usize::saturating_add);
    (chars / CHARS_PER_TOKEN) as u64
}

/// Returns how many characters a tool counts as.
fn tool(tool: &Tool) -> usize {
    let words = tool.name.len() + tool.description.as_ref().map_or(0, String::len);
    words + tool.parameters.as_str().len()
}

/// Returns how many characters a part counts as.
pub fn part(part: &Part) -> usize {
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
pub fn characters(bytes: &[u8]) -> usize {
    let (mut count, mut seen, mut at) = (bytes.len(), 0, RUN - 1);
    while at < bytes.len() {
        let after = base64_ahead(&bytes[at..]);
        let before = if after == 0 { 0 } else { base64_behind(&bytes[seen..at]) };
        let run = before + after;
        if run >= RUN {
            count = count - run + PICTURE * CHARS_PER_TOKEN;
        }
        seen = at + after;
        at = seen.max(at) + RUN;
    }
    count
}

/// Bytes that are judged at once, in the widest registers that there are.
const LANE: usize = 32;

/// Returns the length of the run of base64 characters with which the bytes begin.
fn base64_ahead(bytes: &[u8]) -> usize {
    let lanes = bytes.chunks_exact(LANE).take_while(|lane| is_base64(lane)).count() * LANE;
    lanes + bytes[lanes..].iter().take_while(|byte| is_base64(&[**byte])).count()
}

/// Returns the length of the run of base64 characters with which the bytes end.
fn base64_behind(bytes: &[u8]) -> usize {
    let lanes = bytes.rchunks_exact(LANE).take_while(|lane| is_base64(lane)).count() * LANE;
    lanes + bytes[..bytes.len() - lanes].iter().rev().take_while(|byte| is_base64(&[**byte])).count()
}

/// Returns true if all bytes are of base64 or of its spelling in JSON. It has no branches, so that the compiler makes
/// vectors of it.
#[inline(always)]
fn is_base64(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, &byte| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        // The slash stands before the digits.
        let is_digit = byte.wrapping_sub(b'/') < 11;
        all & (is_letter
            | is_digit
            | (byte == b'+')
            | (byte == b'-')
            | (byte == b'=')
            | (byte == b'_')
            | (byte == b'\\'))
    })
}

/// Returns the tokens of so many characters of an answer.
pub fn said(chars: u64) -> u64 {
    chars.div_ceil(CHARS_PER_TOKEN as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule, byte by byte: a sample every [`RUN`] bytes, and the run around it.
    fn by_bytes(bytes: &[u8]) -> usize {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
        let (mut count, mut seen, mut at) = (bytes.len(), 0, RUN - 1);
        while at < bytes.len() {
            let after = bytes[at..].iter().take_while(|byte| is_base64(byte)).count();
            let before = bytes[seen..at].iter().rev().take_while(|byte| is_base64(byte)).count();
            if after > 0 && before + after >= RUN {
                count = count - (before + after) + PICTURE * CHARS_PER_TOKEN;
            }
            seen = at + after;
            at = seen.max(at) + RUN;
        }
        count
    }

    #[test]
    fn every_byte_is_judged_as_base64_has_it() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_base64(&[byte]), byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(&byte), "{byte}");
        }
    }

    #[test]
    fn runs_of_any_length_and_place_count_as_they_do_byte_by_byte() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..300 {
            let mut bytes = Vec::new();
            for _ in 0..rng.usize(..12) {
                let length = rng.usize(..3 * RUN);
                match rng.bool() {
                    true => bytes.extend((0..length).map(|_| *rng.choice(b"aZ09+/=-_\\").expect("there are some"))),
                    false => bytes.extend((0..length / 9).map(|_| rng.u8(..))),
                }
            }
            assert_eq!(characters(&bytes), by_bytes(&bytes));
        }
    }
}
