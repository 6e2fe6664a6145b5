//! Streams of any frames, and the order of events of some.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::RequestEcho, arguments, call, encoder, grammar, opaque, stream, text, tools, types};
use crate::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, StreamEvent,
    chat::{Extra, ExtraOf, FinishReason, Message, Part, Reasoning, Role, ToolCall, Usage},
    translate::{StreamEncoder, encode_answer},
};

fn frames(events: impl IntoIterator<Item = StreamEvent>) -> Vec<Frame> {
    events.into_iter().map(Frame::event).collect()
}

/// Encodes these events, and reads the stream. No rule is broken.
fn read(events: impl IntoIterator<Item = StreamEvent>) -> (String, Value) {
    let stream = stream(&mut encoder(), &frames(events));
    let reading = grammar::read(&stream);
    assert!(reading.broken.is_empty(), "{:?} in\n{stream}", reading.broken);
    (stream, reading.last)
}

#[test]
fn an_answer_streams_in_the_order_of_openais_own() {
    let thought = |text: &str| StreamEvent::Reasoning { index: 0, text: text.into() };
    let seal = StreamEvent::Signature { index: 0, opaque: opaque(Dialect::Anthropic, "sig", false) };
    let start = StreamEvent::Start { id: Some("msg_1".into()), model: Some("claude".into()) };
    let (stream, last) = read([
        start,
        thought("h"),
        thought("m"),
        seal,
        text(1, "Hel"),
        text(1, "lo"),
        call(2, "call_1", "mcp__f"),
        arguments(2, "{\"a\":"),
        arguments(2, "1}"),
        call(3, "call_2", "patch"),
        arguments(3, "{\"input\":\"*** "),
        arguments(3, "Begin\\n\"}"),
        StreamEvent::Finish(FinishReason::ToolUse),
        StreamEvent::Usage(Usage::new(3, 4)),
        StreamEvent::End,
    ]);
    // The order in OpenAI's recordings, item by item.
    let expected = "created in_progress \
        output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.done \
        reasoning_summary_part.done output_item.done \
        output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done \
        output_item.added function_call_arguments.delta function_call_arguments.done output_item.done \
        output_item.added custom_tool_call_input.delta custom_tool_call_input.done output_item.done completed";
    assert_eq!(types(&stream), expected.split_whitespace().collect::<Vec<_>>());
    let mut output = last["output"].clone();
    for item in output.as_array_mut().unwrap() {
        assert!(item.as_object_mut().unwrap().remove("id").is_some());
    }
    let claude = opaque(Dialect::Anthropic, "sig", false);
    let sealed = crate::wire::foreign::seal(Some(&claude), Dialect::Responses);
    assert_eq!(
        output,
        json!([
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": sealed},
            {"type": "message", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []},
            ]},
            {"type": "function_call", "status": "completed", "call_id": "call_1", "name": "f", "namespace": "mcp",
             "arguments": "{\"a\":1}"},
            {"type": "custom_tool_call", "status": "completed", "call_id": "call_2", "name": "patch",
             "input": "*** Begin\n"},
        ])
    );
    assert_eq!((&last["id"], &last["model"]), (&json!("resp_msg_1"), &json!("claude")));
    assert_eq!(last["usage"]["total_tokens"], 7);
    assert_eq!(last["tools"].as_array().map(Vec::len), Some(3), "the request's tools are repeated");
}

#[test]
fn calls_side_by_side_stay_open_until_their_arguments_are_whole() {
    let (stream, last) = read([
        call(0, "a", "f"),
        call(1, "b", "f"),
        arguments(0, "{\"x\":"),
        arguments(1, "{}"),
        text(2, "so"),
        arguments(0, "1}"),
        StreamEvent::End,
    ]);
    let expected = "created in_progress output_item.added function_call_arguments.delta \
        function_call_arguments.done output_item.done output_item.added content_part.added output_text.delta \
        function_call_arguments.delta output_text.done content_part.done output_item.done \
        function_call_arguments.done output_item.done completed";
    assert_eq!(types(&stream), expected.split_whitespace().collect::<Vec<_>>());
    let inputs: Vec<&Value> = last["output"].as_array().unwrap().iter().map(|item| &item["arguments"]).collect();
    assert_eq!(inputs, [&json!("{\"x\":1}"), &json!("{}"), &Value::Null]);
}

#[test]
fn an_answer_that_is_cut_is_incomplete_with_its_last_item() {
    let finish = |reason| StreamEvent::Finish(reason);
    for (reason, status, why) in [
        (FinishReason::Length, "incomplete", json!("max_output_tokens")),
        (FinishReason::Filtered, "incomplete", json!("content_filter")),
        (FinishReason::Refusal, "incomplete", json!("content_filter")),
        (FinishReason::Other("aborted".into()), "incomplete", json!("max_output_tokens")),
        (FinishReason::Other("of tomorrow".into()), "completed", Value::Null),
        (FinishReason::Stop, "completed", Value::Null),
        (FinishReason::ModelError("no_resources".into()), "failed", Value::Null),
    ] {
        let (_, last) =
            read([text(0, "a"), call(1, "c", "f"), arguments(1, "{\"x\":4"), finish(reason), StreamEvent::End]);
        let of_items: Vec<&Value> = last["output"].as_array().unwrap().iter().map(|item| &item["status"]).collect();
        let call = if status == "completed" { "completed" } else { "incomplete" };
        assert_eq!(of_items, [&json!("completed"), &json!(call)]);
        assert_eq!((&last["status"], &last["incomplete_details"]["reason"]), (&json!(status), &why));
    }
    let refusal = StreamEvent::Refusal { index: 0, text: "no".into() };
    let (_, last) = read([refusal, finish(FinishReason::Refusal), StreamEvent::End]);
    assert_eq!(last["status"], "completed", "the model's own refusal is an answer");
    assert_eq!(last["output"][0]["content"], json!([{"type": "refusal", "refusal": "no"}]));
}

#[test]
fn calls_with_one_id_get_ids_of_their_own() {
    // Clients tell calls apart by their ids alone.
    let (_, last) =
        read([call(0, "", "f"), arguments(0, "{}"), call(1, "", "f"), arguments(1, "{}"), StreamEvent::End]);
    assert_ne!(last["output"][0]["call_id"], last["output"][1]["call_id"]);
}

#[test]
fn items_and_annotations_of_the_dialect_itself_go_back_as_they_were() {
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}});
    let citation = json!({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1});
    let fields = json!({"annotations": [citation], "item": {"id": "msg_9", "phase": "final_answer"}});
    let extra = Extra::new(Dialect::Responses, fields);
    let other = Part::Other { dialect: Dialect::Responses, value: search.clone().into() };
    let (_, last) = read([
        StreamEvent::Part { index: 0, part: other.clone() },
        text(1, "a"),
        StreamEvent::Part { index: 1, part: Part::Extra { of: ExtraOf::Part, extra: extra.clone() } },
        StreamEvent::End,
    ]);
    assert_eq!(last["output"][0], search);
    assert_eq!(last["output"][1]["content"][0]["annotations"], json!([citation]));
    assert_eq!(last["output"][1]["phase"], "final_answer");
    let parts = vec![other, Part::Text("a".into()), Part::Extra { of: ExtraOf::Part, extra }];
    let whole = Message::new(Role::Assistant, parts);
    let body = encode_answer(&whole, Dialect::Responses, &RequestEcho::default()).body;
    let whole: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&whole["output"][0], &whole["output"][1]["content"]), (&search, &last["output"][1]["content"]));
}

#[test]
fn a_sealed_thought_of_openais_own_keeps_its_id_or_goes_into_an_envelope() {
    let sealed = opaque(Dialect::Responses, &crate::wire::responses::sealed::join("rs_7", "AAA"), true);
    let signature = || StreamEvent::Signature { index: 0, opaque: sealed.clone() };
    let (_, last) = read([signature(), StreamEvent::End]);
    assert_eq!((&last["output"][0]["id"], &last["output"][0]["encrypted_content"]), (&json!("rs_7"), &json!("AAA")));
    // The item's id is out by now, and OpenAI refuses sealed content under another one.
    let thought = StreamEvent::Reasoning { index: 0, text: "hm".into() };
    let (_, last) = read([thought, signature(), StreamEvent::End]);
    let content = last["output"][0]["encrypted_content"].as_str().unwrap().to_owned();
    let unsealed = crate::wire::foreign::unseal(content, Dialect::Responses, true);
    assert_eq!(unsealed.map(|unsealed| unsealed.opaque), Some(sealed));
}

#[test]
fn a_whole_answer_from_another_server_of_the_dialect_becomes_a_stream() {
    let body = r#"{"id":"resp_1","object":"response","output":[]}"#;
    let events = vec![StreamEvent::Start { id: Some("resp_1".into()), model: None }, text(0, "a"), StreamEvent::End];
    let frame = Frame::events_of(events).with_raw(Dialect::Responses, body.into());
    let stream = stream(&mut encoder(), &[frame]);
    let reading = grammar::read(&stream);
    assert!(reading.broken.is_empty(), "{:?}", reading.broken);
    assert_eq!(reading.last["id"], "resp_1");
}

fn an_event() -> impl Strategy<Value = StreamEvent> {
    let index = || 0..3_u32;
    let words = || "[ab ]{0,3}";
    let dialect =
        || prop::sample::select(vec![Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses]);
    let token = (dialect(), prop::sample::select(vec!["", "t", "rs_1:t"]), any::<bool>())
        .prop_map(|(dialect, token, redacted)| opaque(dialect, token, redacted));
    let part = prop_oneof![
        dialect().prop_map(|dialect| {
            let value = json!({"type": "web_search_call", "status": "completed"}).into();
            Part::Other { dialect, value }
        }),
        Just(Part::Other { dialect: Dialect::Responses, value: json!(7).into() }),
        (dialect(), words()).prop_map(|(dialect, text)| {
            let fields =
                json!({"annotations": [{"type": "file_path", "file_id": text}], "item": {"phase": "x", "id": "i"}});
            Part::Extra { of: ExtraOf::Part, extra: Extra::new(dialect, fields) }
        }),
        words().prop_map(Part::Text),
    ];
    let finish = prop::sample::select(vec![
        FinishReason::Stop,
        FinishReason::ToolUse,
        FinishReason::Length,
        FinishReason::Refusal,
        FinishReason::Paused,
        FinishReason::ModelError("x".into()),
        FinishReason::Other("y".into()),
    ]);
    let pieces = vec!["{", "}", "{}", "{\"input\":", "\"a\\", "n\"}", "\\ud83d", "\\ude00", "", " ", "x", "null"];
    prop_oneof![
        1 => Just(StreamEvent::Start { id: Some("i".into()), model: None }),
        4 => (index(), words()).prop_map(|(index, text)| StreamEvent::Text { index, text }),
        2 => (index(), words()).prop_map(|(index, text)| StreamEvent::Refusal { index, text }),
        4 => (index(), words()).prop_map(|(index, text)| StreamEvent::Reasoning { index, text }),
        3 => (index(), token.clone()).prop_map(|(index, opaque)| StreamEvent::Signature { index, opaque }),
        4 => (index(), "[ab]{0,1}", prop::sample::select(vec!["f", "mcp__f", "patch", ""]), prop::option::of(token))
            .prop_map(|(index, id, name, opaque)| StreamEvent::ToolCall { index, id, name: name.into(), opaque }),
        8 => (index(), prop::sample::select(pieces))
            .prop_map(|(index, json)| StreamEvent::Arguments { index, json: json.into() }),
        3 => (index(), part).prop_map(|(index, part)| StreamEvent::Part { index, part }),
        1 => Just(StreamEvent::Usage(Usage::new(1, 2))),
        1 => finish.prop_map(StreamEvent::Finish),
        1 => Just(StreamEvent::KeepAlive),
        1 => Just(StreamEvent::Other),
    ]
}

/// A message whose parts a stream does not have to split.
fn a_message() -> impl Strategy<Value = Message> {
    let token = (prop::sample::select(vec![Dialect::Anthropic, Dialect::Gemini]), any::<bool>())
        .prop_map(|(dialect, redacted)| opaque(dialect, "t", redacted));
    let input = prop_oneof![Just("{\"input\":\"a\\n\"}"), Just("{}"), Just(""), Just("{\"input\":\"a"), Just("x")];
    let part = prop_oneof![
        "[ab]{0,4}".prop_map(Part::Text),
        "[ab]{0,4}".prop_map(Part::Refusal),
        ("[ab]{0,4}", prop::option::of(token)).prop_map(|(text, opaque)| Part::Reasoning(Reasoning { text, opaque })),
        ("[a-z]{8}", prop::sample::select(vec!["f", "mcp__f", "patch"]), input)
            .prop_map(|(id, name, input)| Part::ToolCall(ToolCall::new(id, name, input))),
        Just(Part::Other {
            dialect: Dialect::Responses,
            value: json!({"type": "web_search_call", "id": "ws", "status": "completed"}).into(),
        }),
    ];
    let finish = prop::sample::select(vec![FinishReason::Stop, FinishReason::ToolUse, FinishReason::Length]);
    (prop::collection::vec(part, 0..6), prop::option::of(finish)).prop_map(|(content, finish)| {
        let mut message = Message::new(Role::Assistant, content);
        message.finish = finish;
        message.usage = Some(Usage::new(1, 2));
        message.id = Some("resp_x".into());
        message.model = Some("m".into());
        message
    })
}

/// The response without what differs from call to call: ids of items, and times.
fn alike(mut response: Value) -> Value {
    for name in ["created_at", "completed_at"] {
        response[name] = Value::Null;
    }
    for item in response["output"].as_array_mut().unwrap() {
        item["id"] = Value::Null;
    }
    response
}

proptest! {
    #[test]
    fn any_frames_make_a_stream_of_the_grammar(
        events in prop::collection::vec(prop::collection::vec(an_event(), 1..4), 0..30),
        ending in 0..3,
    ) {
        let mut encoder = encoder();
        let all: Vec<Frame> = events.iter().cloned().map(Frame::events_of).collect();
        let mut bytes = stream(&mut encoder, &all);
        match ending {
            0 => bytes.push_str(&stream(&mut encoder, &[Frame::event(StreamEvent::End)])),
            1 => bytes.push_str(std::str::from_utf8(&encoder.error(&LlmError::new(ErrorKind::Server, "no"))).unwrap()),
            _ => {
                let again = StreamEvent::Restarted { reason: ErrorKind::Server };
                bytes.push_str(&stream(&mut encoder, &frames([again, text(0, "a"), StreamEvent::End])));
            }
        }
        let reading = grammar::read(&bytes);
        prop_assert!(reading.broken.is_empty(), "{:?} in\n{bytes}", reading.broken);
        prop_assert!(ending != 1 || reading.end == "response.failed");
        prop_assert!(encoder.frame(&Frame::text("late")).is_empty() && encoder.keep_alive().is_empty());
        // No text is lost, and none is there twice.
        if ending == 0 {
            let length = |event: &StreamEvent| if let StreamEvent::Text { text, .. } = event { text.len() } else { 0 };
            let said: usize = events.iter().flatten().map(length).sum();
            let output = reading.last["output"].as_array().unwrap();
            let parts = output.iter().filter_map(|item| item["content"].as_array()).flatten();
            let written: usize = parts.filter_map(|part| part["text"].as_str()).map(str::len).sum();
            prop_assert_eq!(written, said);
        }
    }

    #[test]
    fn a_whole_answer_is_the_last_response_of_its_stream(message in a_message(), seed in any::<u64>()) {
        let whole = encode_answer(&message, Dialect::Responses, &RequestEcho::of(&tools())).body;
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut events = vec![StreamEvent::Start { id: message.id.clone(), model: message.model.clone() }];
        for (index, part) in (0..).zip(&message.content) {
            events.extend(events_of(index, part, &mut rng));
        }
        events.extend(message.finish.clone().map(StreamEvent::Finish));
        events.extend(message.usage.map(StreamEvent::Usage));
        events.push(StreamEvent::End);
        let (_, last) = read(events);
        prop_assert_eq!(alike(last), alike(whole.clone()));
        // A complete answer is one frame.
        let mut encoder: StreamEncoder = encoder();
        let body = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            use futures_util::StreamExt;
            LlmBody::from_message(message.clone()).map(Result::unwrap).collect::<Vec<Frame>>().await
        });
        let reading = grammar::read(&stream(&mut encoder, &body));
        prop_assert!(reading.broken.is_empty(), "{:?}", reading.broken);
        prop_assert_eq!(alike(reading.last), alike(whole));
    }
}

/// The events of one part, cut at random.
fn events_of(index: u32, part: &Part, rng: &mut fastrand::Rng) -> Vec<StreamEvent> {
    let mut cut = |text: &str| -> Vec<String> {
        let mut pieces = vec![String::new()];
        for letter in text.chars() {
            if rng.bool() {
                pieces.push(String::new());
            }
            pieces.last_mut().unwrap().push(letter);
        }
        pieces
    };
    match part {
        Part::Text(words) => cut(words).into_iter().map(|words| text(index, &words)).collect(),
        Part::Refusal(words) => cut(words).into_iter().map(|text| StreamEvent::Refusal { index, text }).collect(),
        Part::Reasoning(thought) => {
            let mut events: Vec<_> =
                cut(&thought.text).into_iter().map(|text| StreamEvent::Reasoning { index, text }).collect();
            events.extend(thought.opaque.clone().map(|opaque| StreamEvent::Signature { index, opaque }));
            events
        }
        Part::ToolCall(made) => {
            let mut events = vec![call(index, &made.id, &made.name)];
            events.extend(cut(&made.arguments).iter().map(|json| arguments(index, json)));
            events
        }
        other => vec![StreamEvent::Part { index, part: other.clone() }],
    }
}
