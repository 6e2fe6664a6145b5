use std::collections::VecDeque;

use futures_util::stream;
use proptest::prelude::*;

use super::*;
use crate::{Dialect, ErrorKind, Frame, LlmBody, StreamEvent, body::Accumulator};

fn accumulate(events: impl IntoIterator<Item = StreamEvent>) -> Message {
    let mut whole = Accumulator::default();
    for event in events {
        whole.push(&event);
    }
    whole.finish()
}

fn text(index: u32, text: &str) -> StreamEvent {
    StreamEvent::Text { index, text: text.into() }
}

fn opaque(token: &str) -> Opaque {
    Opaque { dialect: Dialect::Anthropic, token: token.into(), redacted: false }
}

#[test]
fn interleaved_parts_grow_side_by_side_in_the_order_of_their_beginnings() {
    let message = accumulate([text(5, "a"), text(2, "x"), text(5, "b"), text(2, "y")]);
    assert_eq!(message.content, [Part::Text("ab".into()), Part::Text("xy".into())]);
}

#[test]
fn parallel_tool_calls_get_their_own_arguments() {
    let call = |index, id: &str| StreamEvent::ToolCall { index, id: id.into(), name: "f".into(), opaque: None };
    let json = |index, json: &str| StreamEvent::Arguments { index, json: json.into() };
    let message = accumulate([call(0, "a"), call(1, "b"), json(0, "{\"x\""), json(1, "{}"), json(0, ":1}")]);
    let calls: Vec<_> = message.tool_calls().map(|call| (call.id.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("a", "{\"x\":1}"), ("b", "{}")]);
}

#[test]
fn arguments_without_a_call_are_kept_and_do_not_panic() {
    let message = accumulate([StreamEvent::Arguments { index: 3, json: "{}".into() }]);
    assert_eq!(message.tool_calls().next().unwrap().arguments, "{}");
}

#[test]
fn a_signature_belongs_to_its_thought() {
    let thought = |text: &str| StreamEvent::Reasoning { index: 0, text: text.into() };
    let signature = StreamEvent::Signature { index: 0, opaque: opaque("sig") };
    let message = accumulate([thought("h"), thought("m"), signature.clone(), text(0, "yes")]);
    let reasoning = Reasoning { text: "hm".into(), opaque: Some(opaque("sig")) };
    assert_eq!(message.content, [Part::Reasoning(reasoning), Part::Text("yes".into())]);

    let redacted = accumulate([signature]);
    let reasoning = Reasoning { text: String::new(), opaque: Some(opaque("sig")) };
    assert_eq!(redacted.content, [Part::Reasoning(reasoning)], "a signature alone is a thought that is not shown");
}

#[test]
fn a_restart_discards_everything() {
    let start = StreamEvent::Start { id: Some("1".into()), model: Some("m".into()) };
    let finish = StreamEvent::Finish(FinishReason::Length);
    let restarted = StreamEvent::Restarted { reason: ErrorKind::Server };
    let message = accumulate([start, text(0, "old"), finish, restarted, text(0, "new")]);
    assert_eq!(message, Message::assistant("new"));
}

#[test]
fn a_second_start_adds_what_it_knows() {
    let start = |id: Option<&str>, model: Option<&str>| StreamEvent::Start {
        id: id.map(Into::into),
        model: model.map(Into::into),
    };
    let message = accumulate([start(Some("1"), None), start(None, Some("m"))]);
    assert_eq!((message.id.as_deref(), message.model.as_deref()), (Some("1"), Some("m")));
}

#[test]
fn an_answer_of_nothing_usable_is_empty() {
    let empty = |content| Message::new(Role::Assistant, content).is_empty();
    assert!(empty(vec![]));
    assert!(empty(vec![Part::Text(String::new()), Part::Refusal(String::new())]));
    assert!(empty(vec![Part::Reasoning(Reasoning { text: "hm".into(), opaque: None })]));
    assert!(!empty(vec![Part::Refusal("no".into())]));
    assert!(!empty(vec![Part::ToolCall(ToolCall::new("1", "f", ""))]));
}

#[test]
fn counting_tokens_saturates() {
    assert_eq!(Usage::new(u64::MAX, 1).total(), u64::MAX);
}

fn a_part() -> impl Strategy<Value = Part> {
    let word = ".{0,12}";
    let token = prop::option::of("[a-z]{1,5}".prop_map(|token| opaque(&token)));
    prop_oneof![
        word.prop_map(Part::Text),
        word.prop_map(Part::Refusal),
        (word, token.clone()).prop_map(|(text, opaque)| Part::Reasoning(Reasoning { text, opaque })),
        ("[a-z]{1,4}", "[a-z]{1,4}", word, token).prop_map(|(id, name, arguments, opaque)| {
            let mut call = ToolCall::new(id, name, arguments);
            call.opaque = opaque;
            Part::ToolCall(call)
        }),
        word.prop_map(|url| Part::Image(Image { media: Media::Url(url) })),
    ]
}

prop_compose! {
    fn a_message()(
        content in prop::collection::vec(a_part(), 0..6),
        id in prop::option::of("[a-z]{1,4}"),
        model in prop::option::of("[a-z]{1,4}"),
        tokens in prop::option::of((0..1000u64, 0..1000u64)),
        finish in prop::option::of(prop_oneof![Just(FinishReason::Stop), Just(FinishReason::ToolUse)]),
    ) -> Message {
        let mut message = Message::new(Role::Assistant, content);
        (message.id, message.model, message.finish) = (id, model, finish);
        message.usage = tokens.map(|(input, output)| Usage::new(input, output));
        message
    }
}

/// The text in pieces, at least one.
fn pieces(text: &str, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for letter in text.chars() {
        if rng.bool() {
            pieces.push(String::new());
        }
        pieces.last_mut().unwrap().push(letter);
    }
    pieces
}

/// The events that one part streams as.
fn events_of(index: u32, part: &Part, rng: &mut fastrand::Rng) -> VecDeque<StreamEvent> {
    match part {
        Part::Text(text) => pieces(text, rng).into_iter().map(|text| StreamEvent::Text { index, text }).collect(),
        Part::Refusal(text) => pieces(text, rng).into_iter().map(|text| StreamEvent::Refusal { index, text }).collect(),
        Part::Reasoning(reasoning) => {
            let thoughts = pieces(&reasoning.text, rng).into_iter();
            let mut events: VecDeque<_> = thoughts.map(|text| StreamEvent::Reasoning { index, text }).collect();
            if let Some(opaque) = reasoning.opaque.clone() {
                events.insert(rng.usize(..=events.len()), StreamEvent::Signature { index, opaque });
            }
            events
        }
        Part::ToolCall(call) => {
            let (id, name, opaque) = (call.id.clone(), call.name.clone(), call.opaque.clone());
            let arguments = pieces(&call.arguments, rng).into_iter();
            let begin = [StreamEvent::ToolCall { index, id, name, opaque }];
            begin.into_iter().chain(arguments.map(|json| StreamEvent::Arguments { index, json })).collect()
        }
        other => [StreamEvent::Part { index, part: other.clone() }].into(),
    }
}

/// One of the many streams that mean this message: parts in pieces and interleaved, several events to a frame, with
/// keep-alives and unknown events between them.
fn stream_of(message: &Message, rng: &mut fastrand::Rng) -> Vec<Frame> {
    let mut events = vec![StreamEvent::Start { id: message.id.clone(), model: message.model.clone() }];
    let mut unopened: VecDeque<_> = message
        .content
        .iter()
        .enumerate()
        .map(|(at, part)| {
            // An index is a part's own among those of its kind: providers count each kind by itself.
            let alike = |other: &&Part| std::mem::discriminant(*other) == std::mem::discriminant(part);
            let index = message.content[..at].iter().filter(alike).count() as u32;
            events_of(index, part, rng)
        })
        .collect();
    let mut open: Vec<VecDeque<StreamEvent>> = Vec::new();
    while !(open.is_empty() && unopened.is_empty()) {
        match rng.usize(..8) {
            0 => events.push(StreamEvent::KeepAlive),
            1 => events.push(StreamEvent::Other),
            2 if message.usage.is_some() => events.push(StreamEvent::Usage(Usage::new(1, 1))),
            n if n % 2 == 1 && !unopened.is_empty() || open.is_empty() => {
                let mut part = unopened.pop_front().unwrap();
                events.extend(part.pop_front());
                open.push(part);
            }
            _ => {
                let part = rng.usize(..open.len());
                match open[part].pop_front() {
                    Some(event) => events.push(event),
                    None => drop(open.swap_remove(part)),
                }
            }
        }
    }
    events.extend(message.finish.clone().map(StreamEvent::Finish));
    events.extend(message.usage.map(StreamEvent::Usage));
    events.push(StreamEvent::End);
    let mut frames = Vec::new();
    while !events.is_empty() {
        let some = rng.usize(1..=3).min(events.len());
        frames.push(Frame::events_of(events.drain(..some).collect()));
    }
    frames
}

proptest! {
    #[test]
    fn every_stream_of_a_message_collects_to_the_message(message in a_message(), seed: u64) {
        let frames = stream_of(&message, &mut fastrand::Rng::with_seed(seed));
        let streamed = LlmBody::from_frames(stream::iter(frames.into_iter().map(Ok))).collect();
        let complete = LlmBody::from_message(message.clone()).collect();
        let complete = tokio_test::block_on(complete).unwrap();
        prop_assert_eq!(&tokio_test::block_on(streamed).unwrap(), &complete);

        // A complete answer as the one frame that a reader of frames gets.
        let frame = tokio_test::block_on(async { LlmBody::from_message(message).frame().await.unwrap().unwrap() });
        prop_assert_eq!(&accumulate(frame.events().iter().cloned()), &complete);
    }
}

#[test]
fn many_small_parts_take_time_in_proportion_to_their_number() {
    // Some ten megabytes of a hostile stream. A search through all parts for each of them would take minutes.
    let begun = tokio::time::Instant::now();
    let message = accumulate((0..200_000).map(|index| text(index, "a")));
    assert_eq!(message.content.len(), 200_000);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn deltas_of_parts_side_by_side_find_the_newest_of_their_index_and_kind() {
    let thought = |index, text: &str| StreamEvent::Reasoning { index, text: text.into() };
    let message = accumulate([
        text(0, "a"),
        thought(0, "b"),
        text(1, "c"),
        text(0, "d"),
        thought(0, "e"),
        StreamEvent::ToolCall { index: 2, id: "1".into(), name: "n".into(), opaque: None },
        StreamEvent::ToolCall { index: 2, id: "2".into(), name: "n".into(), opaque: None },
        StreamEvent::Arguments { index: 2, json: "{}".into() },
    ]);
    let expected = [
        Part::Text("ad".into()),
        Part::Reasoning(Reasoning { text: "be".into(), opaque: None }),
        Part::Text("c".into()),
        Part::ToolCall(ToolCall::new("1", "n", "")),
        Part::ToolCall(ToolCall::new("2", "n", "{}")),
    ];
    assert_eq!(message.content, expected);
}

/// A new field breaks this test: other packages list these fields too. `crates/cache`'s `cache/key.rs` hashes what
/// a model reads of them, and `cache/bytes/chat.rs` keeps them all.
#[test]
fn other_packages_list_all_fields() {
    let Message { role: _, content: _, finish: _, usage: _, id: _, model: _ } = Message::user("hello");
    let Usage { input: _, cache_read: _, cache_write: _, output: _, reasoning: _, cost: _, service_tier: _ } =
        Usage::default();
    let Tool { name: _, description: _, parameters: _, strict: _, extra: _ } =
        Tool::new("weather", serde_json::json!({}));
    let ToolCall { id: _, name: _, arguments: _, opaque: _ } = ToolCall::new("1", "weather", "{}");
    let ToolResult { call_id: _, name: _, content: _, is_error: _ } = ToolResult::new("1", "sunny");
}
