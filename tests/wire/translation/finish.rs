//! Words for the end of an answer that a caller's protocol does not have: clients' lists of them are closed.

use serde_json::Value;
use steadfast::{
    Dialect, Frame, StreamEvent,
    chat::{FinishReason, Message, Part, Role},
    translate::encode_message,
};

use super::{DIALECTS, answers::encoded};

/// Words of providers, and what they say of an answer: it is whole, it was cut off, or a part is withheld.
///
/// Sources: the enumerations of the vendors' SDKs (google-genai's `FinishReason`, boto3's `StopReason`, anthropic's
/// `StopReason`), vLLM's `abort`, GLM's `sensitive` and `network_error`, DeepSeek's `insufficient_system_resource`,
/// TGI's `eos_token`.
const WORDS: [(&str, &str); 20] = [
    ("OTHER", "whole"),
    ("FINISH_REASON_UNSPECIFIED", "whole"),
    ("NO_IMAGE", "whole"),
    ("STOP", "whole"),
    ("eos_token", "whole"),
    ("a word of tomorrow", "whole"),
    ("", "whole"),
    ("MAX_TOKENS", "cut"),
    ("compaction", "cut"),
    ("abort", "cut"),
    ("cancelled", "cut"),
    ("incomplete", "cut"),
    ("error", "cut"),
    ("network_error", "cut"),
    ("insufficient_system_resource", "cut"),
    ("malformed_model_output", "cut"),
    ("sensitive", "withheld"),
    ("SAFETY", "withheld"),
    ("guardrail_intervened", "withheld"),
    ("content_filtered", "withheld"),
];

/// The word that a protocol has for each.
fn expected(dialect: Dialect, what: &str) -> &'static str {
    match (dialect, what) {
        (Dialect::Anthropic, "whole") => "end_turn",
        (Dialect::Anthropic, "cut") => "max_tokens",
        (Dialect::Anthropic, _) => "refusal",
        (Dialect::OpenAi, "whole") => "stop",
        (Dialect::OpenAi, "cut") => "length",
        (Dialect::OpenAi, _) | (Dialect::Responses, "withheld") => "content_filter",
        (Dialect::Responses, "whole") => "completed",
        (Dialect::Responses, _) => "max_output_tokens",
        // Google's list has a word for any other reason.
        _ => "OTHER",
    }
}

/// Returns the last reason within these objects.
fn told(dialect: Dialect, objects: &[Value]) -> Option<String> {
    let places: &[&str] = match dialect {
        Dialect::Anthropic => &["/stop_reason", "/delta/stop_reason"],
        Dialect::OpenAi => &["/choices/0/finish_reason"],
        Dialect::Responses => {
            &["/incomplete_details/reason", "/response/incomplete_details/reason", "/status", "/response/status"]
        }
        _ => &["/candidates/0/finishReason"],
    };
    let of = |object: &Value| places.iter().find_map(|place| object.pointer(place)?.as_str().map(str::to_owned));
    objects.iter().rev().find_map(of)
}

#[test]
fn a_word_that_a_protocol_does_not_have_becomes_the_nearest_one() {
    for ((word, what), to) in WORDS.into_iter().flat_map(|case| DIALECTS.map(|to| (case, to))) {
        let finish = FinishReason::Other(word.to_owned());
        let mut message = Message::new(Role::Assistant, vec![Part::Text("Words.".into())]);
        message.finish = Some(finish.clone());
        let whole = serde_json::from_slice(&encode_message(&message, to).body).expect("JSON");
        assert_eq!(told(to, &[whole]).as_deref(), Some(expected(to, what)), "{word} to {to}");

        let events = [
            StreamEvent::Start { id: Some("i".into()), model: Some("m".into()) },
            StreamEvent::Text { index: 0, text: "Words.".into() },
            StreamEvent::Finish(finish),
            StreamEvent::End,
        ];
        let text = String::from_utf8(encoded(&events.map(Frame::event), to).to_vec()).expect("UTF-8");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
        assert_eq!(told(to, &events).as_deref(), Some(expected(to, what)), "{word} to {to}, streamed");
    }
}
