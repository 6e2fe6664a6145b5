//! What a request may cost in tokens, before anybody knows.

use crate::{
    LlmRequest,
    chat::{Chat, Part},
};

/// The longest answer to reckon with where the request does not bound it. Common answers are shorter, and what was
/// used corrects it.
const ANSWER: u64 = 1024;
/// Characters of prompt for each token: the rule of thumb of OpenAI's help pages for English.
const CHARS_PER_TOKEN: usize = 4;
/// A picture or a page. Anthropic's largest picture takes about 1,600 tokens.
const PICTURE: u64 = 1600;

/// The prompt, and the longest answer that the request allows.
pub(crate) fn tokens(request: &LlmRequest) -> u32 {
    let (prompt, answer) = parts(request);
    u32::try_from(prompt.saturating_add(answer.unwrap_or(ANSWER))).unwrap_or(u32::MAX)
}

/// The same, each for itself; of the answer only what the request says.
pub(crate) fn parts(request: &LlmRequest) -> (u64, Option<u64>) {
    match request.chat() {
        Ok(chat) => (prompt(chat), chat.max_tokens.map(u64::from)),
        // Bytes that cannot be decoded here: their length is all that is known.
        Err(_) => (request.wire().map_or(0, |wire| wire.body().len() / CHARS_PER_TOKEN) as u64, None),
    }
}

/// The prompt alone. About right for English, too low for most other text and for tools; text that repeats itself
/// takes fewer.
pub(crate) fn prompt(chat: &Chat) -> u64 {
    let (mut chars, mut other) = (chat.system.as_ref().map_or(0, String::len), 0u64);
    for part in chat.messages.iter().flat_map(|message| &message.content) {
        match part {
            Part::Text(text) | Part::Refusal(text) => chars += text.len(),
            Part::Reasoning(reasoning) => chars += reasoning.text.len(),
            Part::ToolCall(call) => chars += call.arguments.len(),
            Part::ToolResult(result) => {
                chars += result.content.iter().filter_map(Part::as_text).map(str::len).sum::<usize>()
            }
            Part::Image(_) | Part::Document(_) => other += PICTURE,
            Part::Other { .. } | Part::Extra { .. } => {}
        }
    }
    ((chars / CHARS_PER_TOKEN) as u64).saturating_add(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Wire, chat::Message};

    #[test]
    fn the_prompt_and_the_longest_answer_count() {
        let chat = Chat::new([Message::user("x".repeat(400))]).system("y".repeat(40));
        assert_eq!(tokens(&LlmRequest::from(chat.clone().max_tokens(50))), 160);
        assert_eq!(tokens(&LlmRequest::from(chat)), 110 + ANSWER as u32);
        assert_eq!(tokens(&LlmRequest::from(Chat::default().max_tokens(u32::MAX))), u32::MAX);
    }

    #[test]
    fn bytes_that_do_not_decode_count_by_their_length() {
        let body = format!(r#"{{"messages":{:?}}}"#, "z".repeat(4000));
        let wire = Wire::new(Dialect::OpenAi, body).unwrap();
        assert!(tokens(&LlmRequest::from(wire)) >= 1000 + ANSWER as u32);
    }
}
