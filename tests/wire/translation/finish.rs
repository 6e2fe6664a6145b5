//! Words for the end of an answer that a caller's protocol does not have: clients' lists of them are closed.

use serde_json::{Value, json};
use steadfast::{
    Dialect, Frame, LlmRequest, StreamEvent, Wire,
    chat::{FinishReason, Message, Part, Role},
    translate::encode_message,
};

use tower::ServiceExt;

use super::{DIALECTS, answers::encoded, leaf};

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

/// Fields of servers' choices, and the stop text of the request that they name. vLLM's `stop_reason` is a text, the
/// number of a token, or null; SGLang's `matched_stop` likewise. Other servers write words of their own there.
const MATCHED: [(&str, Option<&str>); 10] = [
    (r#""stop_reason":"END""#, Some("END")),
    (r#""matched_stop":"END""#, Some("END")),
    (r#""stop_reason":null,"matched_stop":"\n\n- \"x\"""#, Some("\n\n- \"x\"")),
    (r#""stop_reason":128009"#, None),
    (r#""matched_stop":2"#, None),
    (r#""stop_reason":null"#, None),
    (r#""stop_reason":"stop""#, None),
    (r#""stop_reason":"""#, None),
    (r#""stop_reason":{"END":["END"]}"#, None),
    (r#""native_finish_reason":"stop""#, None),
];

#[tokio::test(start_paused = true)]
async fn the_stop_text_that_ended_an_answer_reaches_callers_of_messages() {
    let request = |stream: bool| {
        let body = json!({"model": "m", "max_tokens": 50, "stop_sequences": ["END", "\n\n- \"x\""],
            "stream": stream, "messages": [{"role": "user", "content": "?"}]});
        LlmRequest::from(Wire::new(Dialect::Anthropic, body.to_string()).unwrap())
    };
    let call = r#","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
    for (field, stop) in MATCHED {
        for (reason, calls, expected) in
            [("stop", "", "end_turn"), ("stop", call, "tool_use"), ("length", "", "max_tokens")]
        {
            let matched = stop.filter(|_| expected == "end_turn");
            let expected = if matched.is_some() { "stop_sequence" } else { expected };
            let what = format!("{field} {reason} {expected}");

            let said = format!(r#"{{"content":"hi"{calls}}}"#);
            let body = format!(r#"{{"choices":[{{"index":0,"message":{said},"finish_reason":"{reason}",{field}}}]}}"#);
            let (llm, _) = leaf(Dialect::OpenAi, false, (200, "application/json"), body);
            let message = llm.oneshot(request(false)).await.unwrap().collect().await.unwrap();
            let whole: Value = serde_json::from_slice(&encode_message(&message, Dialect::Anthropic).body).unwrap();
            assert_eq!(whole["stop_reason"], expected, "{what}");
            assert_eq!(whole["stop_sequence"].as_str(), matched, "{what}");

            let chunk = |delta: &str, more: &str| {
                format!(
                    "data: {{\"id\":\"i\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta}{more}}}]}}\n\n"
                )
            };
            let end = format!(r#","finish_reason":"{reason}",{field}"#);
            let body = chunk(&said, "") + &chunk("{}", &end) + "data: [DONE]\n\n";
            let (llm, _) = leaf(Dialect::OpenAi, false, (200, "text/event-stream"), body);
            let mut answer = llm.oneshot(request(true)).await.unwrap().into_body();
            let mut frames = Vec::new();
            while let Some(frame) = answer.frame().await {
                frames.push(frame.unwrap());
            }
            let text = String::from_utf8(encoded(&frames, Dialect::Anthropic).to_vec()).unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let end = data
                .map(|data| serde_json::from_str::<Value>(data).unwrap())
                .find(|event| event["type"] == "message_delta");
            let delta = &end.unwrap()["delta"];
            assert_eq!(delta["stop_reason"], expected, "{what}, streamed");
            assert_eq!(delta["stop_sequence"].as_str(), matched, "{what}, streamed");
        }
    }
}
