//! The protocols: what is asked, what is answered, and when an answer is whole.

use std::fmt::Write as _;

use memchr::memmem;

/// Whose protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Responses,
    Gemini,
    /// OpenAI's embeddings: 64 texts, whose vectors come in base64 as its SDKs ask for them. It has no streams.
    Embeddings,
}

/// The form of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A whole answer as JSON.
    Plain,
    /// Server-sent events, of which [`CHUNKS`] have a piece of text.
    Stream,
    /// A whole answer to a request that has a picture of [`PICTURE`] characters in base64.
    Picture,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
            Self::Picture => "picture",
        }
    }
}

/// The characters of a picture.
pub const PICTURE: usize = 100_000;
/// The number of pieces of a streamed answer.
pub const CHUNKS: usize = 64;
/// The text of each piece: nothing else in an answer has it, so that counting it is counting pieces.
const PIECE: &str = "steady ";

impl Dialect {
    pub const ALL: [Self; 5] = [Self::OpenAi, Self::Anthropic, Self::Responses, Self::Gemini, Self::Embeddings];

    /// The dialect of a path.
    pub fn of(path: &str) -> Self {
        match path {
            _ if path.contains("/messages") => Self::Anthropic,
            _ if path.contains("/responses") => Self::Responses,
            _ if path.contains("enerateContent") => Self::Gemini,
            _ if path.contains("/embeddings") => Self::Embeddings,
            _ => Self::OpenAi,
        }
    }

    pub fn path(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (Self::OpenAi, _) => "/v1/chat/completions",
            (Self::Anthropic, _) => "/v1/messages",
            (Self::Responses, _) => "/v1/responses",
            (Self::Embeddings, _) => "/v1/embeddings",
            (Self::Gemini, Mode::Plain | Mode::Picture) => "/v1beta/models/gemini-2.5-flash:generateContent",
            (Self::Gemini, Mode::Stream) => "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        }
    }

    /// A request of about 1.2 KB, as a short conversation has; of 64 texts, some 9 KB.
    pub fn request(self, model: &str, mode: Mode) -> String {
        if self == Self::Embeddings {
            let texts: Vec<String> = (0..TEXTS).map(|number| format!("\"Text {number}: {TEXT}\"")).collect();
            let texts = texts.join(",");
            return format!("{{\"model\":\"{model}\",\"input\":[{texts}],\"encoding_format\":\"base64\"}}");
        }
        let stream = mode == Mode::Stream;
        let mut turns = String::new();
        let mut turn = |role: &str, text: &str| {
            let comma = if turns.is_empty() { "" } else { "," };
            let _ = match (self, role) {
                (Self::Gemini, "assistant") => {
                    write!(turns, "{comma}{{\"role\":\"model\",\"parts\":[{{\"text\":\"{text}\"}}]}}")
                }
                (Self::Gemini, _) => write!(turns, "{comma}{{\"role\":\"user\",\"parts\":[{{\"text\":\"{text}\"}}]}}"),
                _ => write!(turns, "{comma}{{\"role\":\"{role}\",\"content\":\"{text}\"}}"),
            };
        };
        for number in 0..6 {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            turn(
                role,
                &format!(
                    "Turn {number}: a ship that keeps its course although the wind turns needs a keel, a crew that \
                     knows the ropes, and somebody at the helm who looks ahead."
                ),
            );
        }
        turn("user", "And in bad weather?");
        if mode == Mode::Picture {
            let _ = write!(turns, ",{}", self.picture());
        }
        match self {
            Self::OpenAi | Self::Anthropic => {
                format!("{{\"model\":\"{model}\",\"stream\":{stream},\"max_tokens\":256,\"messages\":[{turns}]}}")
            }
            Self::Responses => {
                format!("{{\"model\":\"{model}\",\"stream\":{stream},\"max_output_tokens\":256,\"input\":[{turns}]}}")
            }
            Self::Gemini | Self::Embeddings => {
                format!("{{\"contents\":[{turns}],\"generationConfig\":{{\"maxOutputTokens\":256}}}}")
            }
        }
    }

    /// A turn with a picture in it.
    fn picture(self) -> String {
        // The head of a PNG of 512 by 512 points, which some look into for its size, and filler.
        let data = format!("iVBORw0KGgoAAAANSUhEUgAAAgAAAAIACAIAAAB7GkOt{}", base64(PICTURE - 44, 3));
        match self {
            Self::Anthropic => format!(
                "{{\"role\":\"user\",\"content\":[{{\"type\":\"image\",\"source\":{{\"type\":\"base64\",\
                 \"media_type\":\"image/png\",\"data\":\"{data}\"}}}}]}}"
            ),
            Self::Responses => format!(
                "{{\"role\":\"user\",\"content\":[{{\"type\":\"input_image\",\
                 \"image_url\":\"data:image/png;base64,{data}\"}}]}}"
            ),
            Self::Gemini => format!(
                "{{\"role\":\"user\",\"parts\":[{{\"inlineData\":{{\"mimeType\":\"image/png\",\"data\":\"{data}\"}}}}]}}"
            ),
            Self::OpenAi | Self::Embeddings => format!(
                "{{\"role\":\"user\",\"content\":[{{\"type\":\"image_url\",\
                 \"image_url\":{{\"url\":\"data:image/png;base64,{data}\"}}}}]}}"
            ),
        }
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
            Self::Responses => response("completed", Some(&text)),
            Self::Gemini => chunk_of_gemini(&text, true),
            Self::Embeddings => embeddings(),
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
            Self::Responses => events_of_responses(),
            Self::Gemini => {
                let event = |text: &str, is_last| format!("data: {}\r\n\r\n", chunk_of_gemini(text, is_last));
                let mut events = vec![event(PIECE, false); CHUNKS - 1];
                events.push(event(PIECE, true));
                events
            }
            Self::Embeddings => vec![embeddings()],
        }
    }

    /// Returns whether a body is a whole answer: all of the text, and the mark at its end.
    pub fn is_whole(self, mode: Mode, body: &[u8]) -> bool {
        if self == Self::Embeddings {
            return memmem::find_iter(body, "\"embedding\":\"").count() == TEXTS && body.ends_with(b"}}");
        }
        let times = if (self, mode) == (Self::Responses, Mode::Stream) { 1 + REPEATS } else { 1 };
        Self::pieces(body) == CHUNKS * times && self.has_end(mode, body)
    }

    /// Returns the number of pieces of text in a body so far.
    pub fn pieces(body: &[u8]) -> usize {
        memmem::find_iter(body, PIECE).count()
    }

    /// Returns whether a body has the mark of an answer's end.
    pub fn has_end(self, mode: Mode, body: &[u8]) -> bool {
        let end: &[u8] = match (self, mode) {
            (Self::OpenAi, Mode::Plain | Mode::Picture) => b"\"stop\"",
            (Self::Anthropic, Mode::Plain | Mode::Picture) => b"\"end_turn\"",
            (Self::OpenAi, Mode::Stream) => b"[DONE]",
            (Self::Anthropic, Mode::Stream) => b"message_stop",
            (Self::Responses, Mode::Plain | Mode::Picture) => b"\"completed\"",
            (Self::Responses, Mode::Stream) => b"response.completed",
            (Self::Gemini | Self::Embeddings, _) => b"\"STOP\"",
        };
        memmem::rfind(body, end).is_some()
    }

    /// Returns whether a body has an error in it, in the form of any dialect.
    pub fn has_error(self, body: &[u8]) -> bool {
        const MARKS: [&str; 5] = ["\"error\":{", "\"error\": {", "\"error\":\"", "\"error\": \"", "event: error"];
        MARKS.iter().any(|mark| memmem::find(body, mark.as_bytes()).is_some())
    }
}

/// The texts of a request for embeddings.
const TEXTS: usize = 64;
const TEXT: &str = "a ship that keeps its course although the wind turns needs a keel, a crew that knows the ropes, and \
                    somebody at the helm.";
/// The numbers of a vector, as text-embedding-3-small has them, and its characters in base64.
const NUMBERS: usize = 1536;
const CHARACTERS: usize = NUMBERS * 4 / 3 * 4;

/// So many characters of base64, which differ from seed to seed.
fn base64(characters: usize, seed: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..characters).map(|at| char::from(DIGITS[(at * 37 + at / 64 * 11 + seed * 7) % 64])).collect()
}

/// The vectors of 64 texts, half a megabyte.
fn embeddings() -> String {
    let vector = |text: usize| base64(CHARACTERS, text);
    let vectors: Vec<String> = (0..TEXTS)
        .map(|text| format!("{{\"object\":\"embedding\",\"index\":{text},\"embedding\":\"{}\"}}", vector(text)))
        .collect();
    format!(
        "{{\"object\":\"list\",\"data\":[{}],\"model\":\"text-embedding-3-small\",\
         \"usage\":{{\"prompt_tokens\":1984,\"total_tokens\":1984}}}}",
        vectors.join(",")
    )
}

/// The events at the end of a stream of Responses that repeat the whole text.
const REPEATS: usize = 4;

fn message(status: &str, content: &str) -> String {
    format!(
        "{{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"{status}\",\"content\":[{content}],\"role\":\"assistant\"}}"
    )
}

fn output_text(text: &str) -> String {
    format!("{{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"{text}\"}}")
}

/// A response in the length of OpenAI's, without or with its text.
fn response(status: &str, text: Option<&str>) -> String {
    let output = text.map(|text| message("completed", &output_text(text))).unwrap_or_default();
    let usage = match text {
        Some(_) => format!(
            "{{\"input_tokens\":250,\"input_tokens_details\":{{\"cached_tokens\":0}},\"output_tokens\":{CHUNKS},\
             \"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":314}}"
        ),
        None => "null".to_owned(),
    };
    format!(
        "{{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":1700000000,\"status\":\"{status}\",\"background\":false,\
         \"error\":null,\"incomplete_details\":null,\"instructions\":null,\"max_output_tokens\":256,\"max_tool_calls\":null,\
         \"model\":\"gpt-4o-mini\",\"output\":[{output}],\"parallel_tool_calls\":true,\"previous_response_id\":null,\
         \"prompt_cache_key\":null,\"reasoning\":{{\"effort\":null,\"summary\":null}},\"safety_identifier\":null,\
         \"service_tier\":\"default\",\"store\":true,\"temperature\":1.0,\"text\":{{\"format\":{{\"type\":\"text\"}},\
         \"verbosity\":\"medium\"}},\"tool_choice\":\"auto\",\"tools\":[],\"top_logprobs\":0,\"top_p\":1.0,\
         \"truncation\":\"disabled\",\"usage\":{usage},\"user\":null,\"metadata\":{{}}}}"
    )
}

fn events_of_responses() -> Vec<String> {
    let mut events = Vec::new();
    let mut add = |name: &str, rest: String| {
        let number = events.len();
        events.push(format!(
            "event: response.{name}\ndata: {{\"type\":\"response.{name}\",\"sequence_number\":{number},{rest}}}\n\n"
        ));
    };
    let text = PIECE.repeat(CHUNKS);
    let part = "\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0";
    add("created", format!("\"response\":{}", response("in_progress", None)));
    add("in_progress", format!("\"response\":{}", response("in_progress", None)));
    add("output_item.added", format!("\"output_index\":0,\"item\":{}", message("in_progress", "")));
    add("content_part.added", format!("{part},\"part\":{}", output_text("")));
    for _ in 0..CHUNKS {
        add("output_text.delta", format!("{part},\"delta\":\"{PIECE}\",\"logprobs\":[],\"obfuscation\":\"AbCdEf1\""));
    }
    add("output_text.done", format!("{part},\"text\":\"{text}\",\"logprobs\":[]"));
    add("content_part.done", format!("{part},\"part\":{}", output_text(&text)));
    add("output_item.done", format!("\"output_index\":0,\"item\":{}", message("completed", &output_text(&text))));
    add("completed", format!("\"response\":{}", response("completed", Some(&text))));
    events
}

fn chunk_of_gemini(text: &str, is_last: bool) -> String {
    let finish = if is_last { ",\"finishReason\":\"STOP\"" } else { "" };
    format!(
        "{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}}{finish},\"index\":0}}],\
         \"usageMetadata\":{{\"promptTokenCount\":250,\"candidatesTokenCount\":{CHUNKS},\"totalTokenCount\":314}},\
         \"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"AbCdEfGhIjKlMnOp\"}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_all_texts_are_whole_and_those_of_fewer_are_not() {
        let (request, answer) = (Dialect::Embeddings.request("m", Mode::Plain), Dialect::Embeddings.answer());
        let [request, read] = [&request, &answer].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(request["input"].as_array().map(Vec::len), read["data"].as_array().map(Vec::len));
        assert!(Dialect::Embeddings.is_whole(Mode::Plain, answer.as_bytes()));
        let fewer = answer.replacen("\"embedding\":\"", "\"other\":\"", 1);
        assert!(!Dialect::Embeddings.is_whole(Mode::Plain, fewer.as_bytes()));
        assert!(!Dialect::Embeddings.is_whole(Mode::Plain, &answer.as_bytes()[..answer.len() - 1]));
    }

    #[test]
    fn whole_answers_are_whole_and_what_lacks_a_piece_is_not() {
        for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Embeddings) {
            let events = dialect.events();
            assert!(dialect.is_whole(Mode::Plain, dialect.answer().as_bytes()));
            assert!(dialect.is_whole(Mode::Stream, events.concat().as_bytes()));
            assert!(!dialect.is_whole(Mode::Stream, events[..events.len() - 1].concat().as_bytes()));
            let lacking = [&events[..10], &events[11..]].concat();
            assert!(!dialect.is_whole(Mode::Stream, lacking.concat().as_bytes()));
            for text in [dialect.answer(), dialect.request("m", Mode::Stream), dialect.request("m", Mode::Picture)] {
                assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            }
        }
    }
}
