//! A fingerprint that distinguishes two requests, at a bounded cost.

use std::hash::{DefaultHasher, Hasher};

use crate::{LlmRequest, chat::Part};

/// Samples the request's content. The same request always has the same fingerprint. Two different ones may rarely
/// be equal, which makes a storm one request smaller.
pub(super) fn fingerprint(request: &LlmRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Some(wire) = request.wire() {
        sample(&mut hasher, wire.body());
    } else if let Some(call) = request.opaque() {
        sample(&mut hasher, call.body());
    } else if let Ok(chat) = request.chat() {
        hasher.write_usize(chat.messages.len());
        hasher.write_u32(chat.max_tokens.unwrap_or_default());
        hasher.write_usize(chat.tools.len());
        sample(&mut hasher, chat.system.as_deref().unwrap_or_default().as_bytes());
        let newest = chat.messages.iter().rev().take(MESSAGES);
        for part in newest.flat_map(|message| message.content.iter().take(PARTS)) {
            match part {
                Part::Text(text) | Part::Refusal(text) => sample(&mut hasher, text.as_bytes()),
                Part::ToolCall(call) => sample(&mut hasher, call.arguments.as_bytes()),
                _ => hasher.write_u8(0),
            }
        }
    }
    hasher.finish()
}

/// Hashes the length, and pieces spread evenly over the bytes: all of them if they are few.
fn sample(hasher: &mut DefaultHasher, bytes: &[u8]) {
    hasher.write_usize(bytes.len());
    let stride = (bytes.len() / PIECES).max(PIECE);
    for piece in bytes.chunks(stride) {
        hasher.write(piece.get(..PIECE).unwrap_or(piece));
    }
}

const PIECES: usize = 64;
const PIECE: usize = 64;
const MESSAGES: usize = 4;
const PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, Wire};

    #[test]
    fn different_requests_differ_and_equal_ones_do_not() {
        let of = |text: &str| fingerprint(&LlmRequest::prompt(text));
        assert_eq!(of("hello"), of("hello"));
        assert_ne!(of("hello"), of("hellp"));
        let long = |end: &str| of(&format!("{}{end}", "x".repeat(100_000)));
        assert_ne!(long("a"), long("ab"));
    }

    #[test]
    fn bytes_of_a_request_are_told_apart() {
        let of = |n: usize| {
            let body = format!(r#"{{"messages":[{{"role":"user","content":"question {n}"}}]}}"#);
            fingerprint(&LlmRequest::from(Wire::new(Dialect::OpenAi, body).expect("a request")))
        };
        let mut all: Vec<u64> = (0..1000).map(of).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1000);
    }
}
