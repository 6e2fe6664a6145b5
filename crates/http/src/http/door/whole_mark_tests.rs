//! The mark for a cache of the whole request at each door: kind of the last block × door × whole and stream. What each
//! must send follows from Anthropic's "Prompt caching".

use serde_json::{Value, json};

use super::parts_tests::sent;

/// The doors that take marks at blocks alone, in the dialect's format.
const DOORS: [&str; 4] = ["mantle", "runtime", "invoke", "vertex"];

fn five() -> Value {
    json!({"type": "ephemeral"})
}

fn hour() -> Value {
    json!({"type": "ephemeral", "ttl": "1h"})
}

fn request(messages: Value, mark: &Value) -> Value {
    json!({"model": "c", "max_tokens": 9, "messages": messages, "cache_control": mark})
}

fn user(content: Value) -> Value {
    json!({"role": "user", "content": content})
}

fn text(words: &str) -> Value {
    json!({"type": "text", "text": words})
}

fn marked(mut block: Value, mark: &Value) -> Value {
    block["cache_control"] = mark.clone();
    block
}

/// Conversations, and what they become with a mark.
fn rows(mark: &Value) -> Vec<(Value, Value)> {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}});
    let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"});
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "EqQB"});
    let model = |content: Value| json!({"role": "assistant", "content": content});
    vec![
        (json!([user(json!("hi \"\u{e9}\\"))]), json!([user(json!([marked(text("hi \"\u{e9}\\"), mark)]))])),
        (json!([user(json!([text("a"), text("b")]))]), json!([user(json!([text("a"), marked(text("b"), mark)]))])),
        (json!([user(json!([text("a"), image]))]), json!([user(json!([text("a"), marked(image.clone(), mark)]))])),
        (
            json!([user(json!("a")), model(json!([call])), user(json!([result]))]),
            json!([user(json!("a")), model(json!([call])), user(json!([marked(result.clone(), mark)]))]),
        ),
        // Blocks of thoughts and empty texts bear none.
        (
            json!([user(json!("a")), model(json!([text("b"), thought]))]),
            json!([user(json!("a")), model(json!([marked(text("b"), mark), thought]))]),
        ),
        (
            json!([user(json!("a")), model(json!([thought])), user(json!([text(" ")]))]),
            json!([user(json!([marked(text("a"), mark)])), model(json!([thought])), user(json!([text(" ")]))]),
        ),
        // A text that quotes a mark is none.
        (
            json!([user(json!("{\"cache_control\": 1}, \"cache_control\", \"cache_control\", \"cache_control\""))]),
            json!([user(json!([marked(
                text("{\"cache_control\": 1}, \"cache_control\", \"cache_control\", \"cache_control\""),
                mark
            )]))]),
        ),
        // A block that the door does not take goes first.
        (
            json!([
                user(json!("a")),
                model(
                    json!([text("b"), {"type": "mcp_tool_use", "id": "m", "name": "x", "server_name": "s", "input": {}}])
                ),
                user(json!("c"))
            ]),
            json!([user(json!("a")), model(json!([text("b")])), user(json!([marked(text("c"), mark)]))]),
        ),
        (
            json!([
                user(json!("a")),
                model(json!([text("b")])),
                user(json!([text("c"), {"type": "mcp_tool_result", "tool_use_id": "m", "content": []}]))
            ]),
            json!([user(json!("a")), model(json!([text("b")])), user(json!([marked(text("c"), mark)]))]),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_the_whole_request_stands_at_its_last_block() {
    let mut cells = 0;
    for (door, stream) in DOORS.into_iter().flat_map(|door| [(door, false), (door, true)]) {
        for mark in [five(), hour()] {
            for (messages, expected) in rows(&mark) {
                let (got, notes) = sent(door, &request(messages.clone(), &mark), stream).await.unwrap();
                assert_eq!(got["messages"], expected, "{door} {stream}");
                assert_eq!(got.get("cache_control"), None, "{door}");
                assert!(!notes.iter().any(|note| note.contains("cache_control")), "{door}: {notes:?}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 4 * 2 * 2 * 9);
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_changes_nothing_or_has_no_place_is_left_out() {
    let four: Vec<Value> = (0..4).map(|_| marked(text("a"), &five())).collect();
    let full = json!([user(json!(four)), user(json!("b"))]);
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "EqQB"});
    for door in DOORS {
        for (messages, mark, noted) in [
            // The same mark is there.
            (json!([user(json!([marked(text("a"), &five())]))]), five(), None),
            (json!([user(json!([marked(text("a"), &json!({"type": "ephemeral", "ttl": "5m"}))]))]), five(), None),
            (json!([user(json!([marked(text("a"), &hour())]))]), five(), Some("the last block has another mark")),
            (full.clone(), five(), Some("four other marks")),
            (json!([{"role": "assistant", "content": [thought]}]), five(), Some("no block of the request")),
        ] {
            let (got, notes) = sent(door, &request(messages.clone(), &mark), false).await.unwrap();
            assert_eq!((&got["messages"], got.get("cache_control")), (&messages, None), "{door}");
            let said: Vec<&String> = notes.iter().filter(|note| note.contains("cache_control")).collect();
            assert_eq!(said.len(), usize::from(noted.is_some()), "{door}: {notes:?}");
            assert!(noted.is_none_or(|noted| said[0].contains(noted)), "{door}: {notes:?}");
        }
    }
}

/// Foundry places the mark by itself, and Converse has points in the place of marks.
#[tokio::test(start_paused = true)]
async fn doors_with_a_place_of_their_own_keep_it() {
    let body = request(json!([user(json!("a"))]), &five());
    let (got, notes) = sent("azure", &body, false).await.unwrap();
    assert_eq!((&got["cache_control"], &got["messages"], notes), (&five(), &body["messages"], Vec::new()));
    let (got, _) = sent("converse", &body, false).await.unwrap();
    assert_eq!(got["messages"][0]["content"], json!([{"text": "a"}, {"cachePoint": {"type": "default"}}]));
}

/// A long conversation is passed over, and only its last turn is read.
#[tokio::test(start_paused = true)]
async fn a_long_conversation_is_looked_at_from_its_end() {
    let mut turns: Vec<Value> = (0..20_000).map(|n| user(json!([text(&format!("{n} \u{2603}"))]))).collect();
    let (got, _) = sent("vertex", &request(json!(turns), &five()), false).await.unwrap();
    let last = turns.len() - 1;
    turns[last]["content"][0]["cache_control"] = five();
    assert_eq!(got["messages"], json!(turns));
}
