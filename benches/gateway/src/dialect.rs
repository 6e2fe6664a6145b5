//! The two protocols: what is asked, what is answered, and when an answer is whole.

use std::fmt::Write as _;

use memchr::memmem;

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// The form of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A whole answer as JSON.
    Plain,
    /// Server-sent events, of which [`CHUNKS`] have a piece of text.
    Stream,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
        }
    }
}

/// The number of pieces of a streamed answer.
pub const CHUNKS: usize = 64;
/// The text of each piece: nothing else in an answer has it, so that counting it is counting pieces.
const PIECE: &str = "steady ";

impl Dialect {
    /// The dialect of a path.
    pub fn of(path: &str) -> Self {
        if path.contains("/messages") { Self::Anthropic } else { Self::OpenAi }
    }

    pub fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }

    /// A request of about 1.2 KB, as a short conversation has.
    pub fn request(self, model: &str, mode: Mode) -> String {
        let stream = mode == Mode::Stream;
        let mut turns = String::new();
        for turn in 0..6 {
            let role = if turn % 2 == 0 { "user" } else { "assistant" };
            let _ = write!(
                turns,
                "{{\"role\":\"{role}\",\"content\":\"Turn {turn}: a ship that keeps its course although the wind turns needs a \
                 keel, a crew that knows the ropes, and somebody at the helm who looks ahead.\"}},"
            );
        }
        turns.push_str("{\"role\":\"user\",\"content\":\"And in bad weather?\"}");
        format!("{{\"model\":\"{model}\",\"stream\":{stream},\"max_tokens\":256,\"messages\":[{turns}]}}")
    }

    /// A whole answer.
    pub fn answer(self) -> String {
        let text = PIECE.repeat(CHUNKS);
        match self {
            Self::OpenAi => format!(
                "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"gpt-4o-mini\",\
                 \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"logprobs\":null,\
                 \"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":250,\"completion_tokens\":{CHUNKS},\
                 \"total_tokens\":314}}}}"
            ),
            Self::Anthropic => format!(
                "{{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\
                 \"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\
                 \"usage\":{{\"input_tokens\":250,\"output_tokens\":{CHUNKS}}}}}"
            ),
        }
    }

    /// The events of a streamed answer, each as it is sent.
    pub fn events(self) -> Vec<String> {
        match self {
            Self::OpenAi => {
                let chunk = |delta: &str, finish: &str| {
                    format!(
                        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
                         \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
                    )
                };
                let mut events = vec![chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null")];
                events.extend((0..CHUNKS).map(|_| chunk(&format!("{{\"content\":\"{PIECE}\"}}"), "null")));
                events.push(chunk("{}", "\"stop\""));
                events.push("data: [DONE]\n\n".to_owned());
                events
            }
            Self::Anthropic => {
                let event = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
                let mut events = vec![
                    event(
                        "message_start",
                        ",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\
                         \"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":250,\"output_tokens\":1}}",
                    ),
                    event("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
                ];
                let delta = format!(",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{PIECE}\"}}");
                events.extend((0..CHUNKS).map(|_| event("content_block_delta", &delta)));
                events.push(event("content_block_stop", ",\"index\":0"));
                events.push(event(
                    "message_delta",
                    &format!(
                        ",\"delta\":{{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{CHUNKS}}}"
                    ),
                ));
                events.push(event("message_stop", ""));
                events
            }
        }
    }

    /// Returns whether a body is a whole answer: all of the text, and the mark at its end.
    pub fn is_whole(self, mode: Mode, body: &[u8]) -> bool {
        let end: &[u8] = match (self, mode) {
            (Self::OpenAi, Mode::Plain) => b"\"stop\"",
            (Self::Anthropic, Mode::Plain) => b"\"end_turn\"",
            (Self::OpenAi, Mode::Stream) => b"[DONE]",
            (Self::Anthropic, Mode::Stream) => b"message_stop",
        };
        memmem::find_iter(body, PIECE).count() == CHUNKS && memmem::rfind(body, end).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_whole_and_what_lacks_a_piece_is_not() {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            let events = dialect.events();
            assert!(dialect.is_whole(Mode::Plain, dialect.answer().as_bytes()));
            assert!(dialect.is_whole(Mode::Stream, events.concat().as_bytes()));
            assert!(!dialect.is_whole(Mode::Stream, events[..events.len() - 1].concat().as_bytes()));
            let lacking = [&events[..10], &events[11..]].concat();
            assert!(!dialect.is_whole(Mode::Stream, lacking.concat().as_bytes()));
            for text in [dialect.answer(), dialect.request("m", Mode::Stream), dialect.request("m", Mode::Plain)] {
                assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            }
        }
    }
}
