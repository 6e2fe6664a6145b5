//! Tests of the texts: items, and ids in answers.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    is_own,
    items::{normalize, of_text, to_sendable},
    json::Fields,
    new_id,
    recorder::with_items,
    rewrite::{CallerIds, Part},
};

const OURS: CallerIds<'_> = CallerIds { id: Some("resp_ours"), previous: Some("resp_before"), is_in_background: false };

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn ids_are_known_by_their_form_and_no_two_are_the_same() {
    let (one, two) = (new_id("resp_sf_").unwrap(), new_id("resp_sf_").unwrap());
    assert!(is_own(&one) && is_own(&two) && one != two);
    for other in [
        "",
        "resp_sf_",
        "resp_0188654aafebd5ab016a7d39768c1c819e98d9f641e9183df8",
        &one[1..],
        &one[..one.len() - 1],
        &format!("{one}0"),
        &one.replacen("resp_sf_", "resp_sf_'", 1),
        &one.to_uppercase(),
    ] {
        assert!(!is_own(other), "{other}");
    }
}

#[test]
fn a_field_changes_and_all_other_bytes_stay() {
    let object = r#"{ "id" : "resp_1", "a":[ 1.50,{"id":"x"} ],"previous_response_id":null , "b":"é\u00e9" }"#;
    let expected =
        r#"{ "id" : "resp_ours", "a":[ 1.50,{"id":"x"} ],"previous_response_id":"resp_before" , "b":"é\u00e9" }"#;
    assert_eq!(OURS.object(object).unwrap(), expected);
    let previous = CallerIds { id: None, previous: Some("p"), is_in_background: false };
    assert_eq!(previous.object(r#"{"id":"x"}"#).unwrap(), r#"{"id":"x"}"#);
    for other in ["", "[]", "7", "<html>", r#"{"id":"#] {
        assert_eq!(OURS.object(other), None, "{other}");
    }
}

#[test]
fn events_with_a_response_have_its_id_and_all_others_their_bytes() {
    let events = [
        ": a comment\n\n",
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\", \"output\":[]},\"sequence_number\":0}\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"response\\\":{\\\"id\\\":\\\"resp_1\\\"}\"}\r\n\r\n",
        "event: x\ndata:{\"type\":\"response.invented\",\"response\":{\"id\":\"resp_1\"}}\n\n",
        "data: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"id\":\"msg_1\"}}\n\n",
        "data: {\"response\":{\"previous_response_id\":\"resp_0\",\"id\":\"resp_1\"},\"type\":\"response.completed\"}\r\n\r\n",
        "data: [DONE]\n\n",
    ];
    // However they come together.
    for split in [1, 2, events.len()] {
        let (mut sent, mut ends, mut items) = (String::new(), Vec::new(), Vec::new());
        for some in events.chunks(split) {
            let changed = OURS.events(&Bytes::from(some.concat()), |part| match part {
                Part::Response { is_end: true, id, object } => ends.push((id, value(&object))),
                Part::Response { .. } => {}
                Part::Item { place, item } => items.push((place, item)),
            });
            sent.push_str(std::str::from_utf8(&changed).unwrap());
        }
        let mut expected = events.map(str::to_owned);
        expected[1] = expected[1].replace("resp_1", "resp_ours");
        expected[5] = expected[5].replace("resp_1", "resp_ours").replace("resp_0", "resp_before");
        assert_eq!(sent, expected.concat());
        assert_eq!(
            ends,
            [(Some("resp_1".to_owned()), json!({"previous_response_id": "resp_before", "id": "resp_ours"}))]
        );
        assert_eq!(items, [(1, r#"{"id":"msg_1"}"#.to_owned())]);
    }
}

#[test]
fn an_item_is_kept_as_callers_read_it_again() {
    let kept = value(&normalize(r#"{"role":"user","content":"hi \"é\""}"#).json);
    assert_eq!(
        (&kept["type"], &kept["role"], &kept["status"], &kept["content"]),
        (&json!("message"), &json!("user"), &json!("completed"), &json!([{"type": "input_text", "text": "hi \"é\""}]))
    );
    assert!(kept["id"].as_str().unwrap().starts_with("msg_"));
    let of_model = value(&normalize(r#"{"role":"assistant","content":"yes"}"#).json);
    assert_eq!(of_model["content"][0]["type"], "output_text");
    // What has all of it stays byte for byte.
    for whole in [
        r#"{"id":"fc_1","type":"function_call","call_id":"c","name":"f","arguments":"{}"}"#,
        r#"{"type":"message","id":"msg_1","status":"in_progress","role":"user","content":[{"type":"input_image"}]}"#,
        r#"{"unknown":1.50}"#,
        "7",
    ] {
        assert_eq!(normalize(whole).json, whole);
    }
    let output = normalize(r#"{"type":"function_call_output","call_id":"c","output":"x"}"#);
    assert!(output.id.unwrap().starts_with("fco_"));
    assert_eq!(value(&of_text(r#""a\nb""#))["content"][0]["text"], "a\nb");
}

#[test]
fn an_item_is_sent_again_as_any_provider_takes_it() {
    let sent = |item: &str| to_sendable(item).map(|item| value(&item));
    assert_eq!(
        sent(r#"{"id":"msg_1","type":"message","role":"assistant","content":[]}"#),
        Some(json!({"type": "message", "role": "assistant", "content": []}))
    );
    let sealed = r#"{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAA"}"#;
    assert_eq!(to_sendable(sealed).as_deref(), Some(sealed), "its id belongs to its seal");
    let search = r#"{"id":"ws_1","type":"web_search_call","status":"completed"}"#;
    assert_eq!(to_sendable(search).as_deref(), Some(search), "the API requires its id");
    for left_out in [
        r#"{"id":"rs_1","type":"reasoning","summary":[]}"#,
        r#"{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":null}"#,
        r#"{"type":"function_call","status":"incomplete","arguments":"{\"a"}"#,
    ] {
        assert_eq!(to_sendable(left_out), None, "{left_out}");
    }
}

#[test]
fn items_come_from_their_events_where_the_last_response_has_none() {
    let items = [(0, r#"{"id":"a"}"#.to_owned()), (2, r#"{"id":"b"}"#.to_owned())].into();
    let whole = with_items(r#"{"id":"r","output":[],"usage":{"total_tokens":1.0}}"#.to_owned(), &items);
    assert_eq!(whole, r#"{"id":"r","output":[{"id":"a"},{"id":"b"}],"usage":{"total_tokens":1.0}}"#);
    let own = r#"{"output":[{"id":"c"}]}"#;
    assert_eq!(with_items(own.to_owned(), &items), own);
}

#[test]
fn fields_keep_their_order_and_repeats() {
    let text = r#"{"b":1,"a":{"x":[1, 2]},"b":2,"a\u0062":3}"#;
    let fields = Fields::read(text).unwrap();
    assert_eq!(fields.with(&[], &[]), r#"{"b":1,"a":{"x":[1, 2]},"b":2,"ab":3}"#);
    assert_eq!(&text[fields.place("a", text).unwrap()], r#"{"x":[1, 2]}"#);
    assert_eq!(fields.with(&["b"], &[("c", "7"), ("a", "0")]), r#"{"a":0,"ab":3,"c":7}"#);
}
