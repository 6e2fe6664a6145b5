//! An answer of this dialect to callers of the other ones.

use serde_json::{Value, json};

use super::{arguments, call, opaque, stream, text};
use crate::{
    Dialect, Frame, StreamEvent,
    body::Accumulator,
    chat::{Extra, ExtraOf, Message, Part},
    translate::{StreamEncoder, encode_message},
    wire::foreign::unseal,
};

const OTHERS: [Dialect; 3] = [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini];

/// An answer with everything that only this dialect has.
fn events() -> Vec<StreamEvent> {
    let search = json!({"type": "web_search_call", "id": "ws_1", "status": "completed"});
    let annotations = json!({"annotations": [{"type": "url_citation", "url": "u"}]});
    let part = |index, part| StreamEvent::Part { index, part };
    vec![
        StreamEvent::Reasoning { index: 0, text: "a summary".into() },
        StreamEvent::Signature { index: 0, opaque: opaque(Dialect::Responses, "rs_1:AAA", true) },
        part(1, Part::Other { dialect: Dialect::Responses, value: search.into() }),
        text(2, "cited"),
        part(2, Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::Responses, annotations) }),
        call(3, "call_1", "f"),
        arguments(3, "{}"),
    ]
}

fn message() -> Message {
    let mut whole = Accumulator::default();
    events().iter().for_each(|event| whole.push(event));
    whole.finish()
}

#[test]
fn items_of_the_provider_and_annotations_are_reported() {
    for dialect in OTHERS {
        let whole = encode_message(&message(), dialect).notes;
        let mut encoder = StreamEncoder::new(dialect);
        stream(&mut encoder, &[Frame::events_of(events()), Frame::event(StreamEvent::End)]);
        for notes in [whole, encoder.notes()] {
            let notes = notes.join("\n");
            assert!(notes.contains("own_part (web_search_call): left out"), "{dialect}: {notes}");
            assert!(notes.contains("citations (annotations): left out"), "{dialect}: {notes}");
        }
    }
    let plain = Extra::new(Dialect::Responses, json!({"annotations": [], "logprobs": []}));
    let plain = Part::Extra { of: ExtraOf::Part, extra: plain };
    let message = Message::new(crate::chat::Role::Assistant, vec![Part::Text("a".into()), plain]);
    assert!(encode_message(&message, Dialect::OpenAi).notes.is_empty(), "nothing is lost");
}

#[test]
fn a_sealed_thought_keeps_its_summary_and_comes_back() {
    let sealed = Some(opaque(Dialect::Responses, "rs_1:AAA", true));
    let body = |dialect| -> Value { serde_json::from_slice(&encode_message(&message(), dialect).body).unwrap() };
    let thought = &body(Dialect::Anthropic)["content"][0];
    assert_eq!((&thought["type"], &thought["thinking"]), (&json!("thinking"), &json!("a summary")));
    let token = thought["signature"].as_str().unwrap().to_owned();
    assert_eq!(unseal(token, Dialect::Anthropic, false).map(|unsealed| unsealed.opaque), sealed);
    let thought = &body(Dialect::Gemini)["candidates"][0]["content"]["parts"][0];
    assert_eq!(thought["text"], "a summary");
    let token = thought["thoughtSignature"].as_str().unwrap().to_owned();
    assert_eq!(unseal(token, Dialect::Gemini, false).map(|unsealed| unsealed.opaque), sealed);
    let turn = &body(Dialect::OpenAi)["choices"][0]["message"];
    assert_eq!(turn["reasoning_content"], "a summary");
    assert_eq!(turn["reasoning_details"][0]["text"], "a summary");
    assert_eq!(turn["reasoning_details"][0]["signature"], "rs_1:AAA");
    for dialect in OTHERS {
        let mut encoder = StreamEncoder::new(dialect);
        let stream = stream(&mut encoder, &[Frame::events_of(events()), Frame::event(StreamEvent::End)]);
        // Gemini's signatures are bytes in base64.
        let token = match dialect {
            Dialect::Gemini => {
                let own = opaque(Dialect::Responses, "rs_1:AAA", true);
                crate::wire::foreign::seal(Some(&own), Dialect::Gemini).into_owned()
            }
            _ => "rs_1:AAA".to_owned(),
        };
        assert!(stream.contains("a summary") && stream.contains(&token), "{dialect}: {stream}");
    }
}
