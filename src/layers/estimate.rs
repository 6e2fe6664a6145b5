//! An estimate of a request's tokens before it is sent.

use crate::{
    LlmRequest,
    chat::{Chat, Part},
};

/// The answer to expect if the request does not bound it. Common answers are shorter, and the actual tokens correct
/// it.
const ANSWER: u64 = 1024;
/// The characters of prompt for each token: the rule of thumb of OpenAI's help pages for English.
const CHARS_PER_TOKEN: usize = 4;
/// The characters for a picture or a page. Anthropic's largest picture takes about 1,600 tokens.
const PICTURE: usize = 1600;
/// The least run of base64 characters that counts as a picture or the like.
const RUN: usize = 4096;

/// Returns the tokens of the prompt, and of the prompt with the longest answer that the request allows.
pub(crate) fn tokens(request: &LlmRequest) -> (u32, u32) {
    let (prompt, answer) = parts(request);
    let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
    (small(prompt), small(prompt.saturating_add(answer.unwrap_or(ANSWER))))
}

/// Returns both separately; for the answer only the request's own limit.
pub(crate) fn parts(request: &LlmRequest) -> (u64, Option<u64>) {
    match request.chat() {
        Ok(chat) => (prompt(chat), chat.max_tokens.map(u64::from)),
        // The bytes cannot be decoded here: only their length is known.
        Err(_) => (request.wire().map_or(0, |wire| wire.body().len() / CHARS_PER_TOKEN) as u64, None),
    }
}

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

/// Returns the tokens of the prompt without decoding it, for reports only. All bytes count, except that pictures
/// count as such.
pub(crate) fn glance(request: &LlmRequest) -> u32 {
    let prompt = match request.wire() {
        Some(wire) => (characters(wire.body()) / CHARS_PER_TOKEN) as u64,
        None => request.chat().map_or(0, prompt),
    };
    u32::try_from(prompt).unwrap_or(u32::MAX)
}

/// Returns how many characters these bytes count as. It samples few of them: every step hits a long run.
fn characters(body: &[u8]) -> usize {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let (mut count, mut seen, mut at) = (body.len(), 0, RUN - 1);
    while at < body.len() {
        let before = body[seen..at].iter().rev().take_while(|byte| is_base64(byte)).count();
        let after = body[at..].iter().take_while(|byte| is_base64(byte)).count();
        let run = if after == 0 { 0 } else { before + after };
        if run >= RUN {
            count = count - run + PICTURE * CHARS_PER_TOKEN;
        }
        seen = at + after;
        at = seen.max(at) + RUN;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Wire, chat::Message};

    #[test]
    fn the_prompt_and_the_longest_answer_count() {
        let chat = Chat::new([Message::user("x".repeat(400))]).system("y".repeat(40));
        assert_eq!(tokens(&LlmRequest::from(chat.clone().max_tokens(50))), (110, 160));
        assert_eq!(tokens(&LlmRequest::from(chat)), (110, 110 + ANSWER as u32));
        assert_eq!(tokens(&LlmRequest::from(Chat::default().max_tokens(u32::MAX))).1, u32::MAX);
    }

    #[test]
    fn at_a_glance_text_counts_by_its_length_and_a_picture_as_one() {
        let asked = |content: &str| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
            u64::from(glance(&LlmRequest::from(Wire::new(Dialect::OpenAi, body).unwrap())))
        };
        let text = asked(&format!("{:?}", "some words ".repeat(10_000)));
        assert!((27_500..27_600).contains(&text), "{text}");
        for length in [5_000, 12_345, 2_000_000] {
            let picture = format!(
                r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]"#,
                "iVBORw0K".repeat(length / 8)
            );
            let tokens = asked(&picture);
            assert!((1_600..1_700).contains(&tokens), "{length}: {tokens}");
        }
        let chat = Chat::new([Message::user("x".repeat(400))]);
        assert_eq!(glance(&LlmRequest::from(chat)), 100);
    }

    #[test]
    fn bytes_that_do_not_decode_count_by_their_length() {
        let body = format!(r#"{{"messages":{:?}}}"#, "z".repeat(4000));
        let wire = Wire::new(Dialect::OpenAi, body).unwrap();
        assert!(tokens(&LlmRequest::from(wire)).1 >= 1000 + ANSWER as u32);
    }
}
