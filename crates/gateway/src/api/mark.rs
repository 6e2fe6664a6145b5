//! The `steadfast` field in an answer's body: the degradation of the answer, the task for people, and notices.
//!
//! Clients of all protocols ignore unknown fields.

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value, json};
use steadfast::LlmResponse;

/// The fields of a mark.
pub(crate) type Mark = Map<String, Value>;

/// Returns the mark of an answer; `None` for an answer of full quality.
pub(crate) fn mark(response: &LlmResponse) -> Option<Mark> {
    let mut mark = Mark::new();
    if let Some(degraded) = response.degraded() {
        mark.insert("degraded".to_owned(), json!(degraded));
    }
    if let Some(task) = response.task_id() {
        mark.insert("task_id".to_owned(), task.into());
    }
    (!mark.is_empty()).then_some(mark)
}

/// Adds the mark to a whole answer, if it is a JSON object.
pub(crate) fn marked(answer: &Bytes, mark: &Mark) -> Bytes {
    with_field(answer, mark).map_or_else(|| answer.clone(), Into::into)
}

/// Adds the mark to the first event with an object; `None` if there is none.
pub(crate) fn marked_events(events: &Bytes, mark: &Mark) -> Option<Bytes> {
    const DATA: &[u8] = b"data:";
    let begins = if events.starts_with(DATA) { 0 } else { memmem::find(events, b"\ndata:")? + 1 };
    let object = begins + DATA.len();
    let ends =
        events[object..].iter().position(|byte| matches!(byte, b'\r' | b'\n')).map_or(events.len(), |at| object + at);
    let object_with_mark = with_field(&events[object..ends], mark)?;
    Some([&events[..object], &object_with_mark, &events[ends..]].concat().into())
}

/// Adds the mark as the last field of a JSON object.
fn with_field(object: &[u8], mark: &Mark) -> Option<Vec<u8>> {
    let fields = object.trim_ascii_end().strip_suffix(b"}")?;
    // An empty object needs no comma.
    let before: &[u8] = if fields.trim_ascii() == b"{" { b"" } else { b"," };
    fields.trim_ascii_start().starts_with(b"{").then_some(())?;
    Some([fields, before, br#""steadfast":"#, &serde_json::to_vec(mark).ok()?, b"}"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn an_object_has_one_field_more_and_nothing_else_is_changed() {
        let mark = Mark::from_iter([("task_id".to_owned(), json!("t"))]);
        for object in ["{\"a\":{\"b\":[1.50]}}", "{ }", "{\"text\": \"}\"}\n  "] {
            let marked = marked(&Bytes::from_static(object.as_bytes()), &mark);
            let mut expected = json_of(object.as_bytes());
            expected["steadfast"] = Value::Object(mark.clone());
            assert_eq!(json_of(&marked), expected);
            assert!(marked.starts_with(object.trim_ascii_end().strip_suffix('}').unwrap().as_bytes()));
        }
        for other in ["", "[1]", "\"}\"", "<html>", "}"] {
            let other = Bytes::from_static(other.as_bytes());
            assert_eq!(marked(&other, &mark), other);
        }
    }

    #[test]
    fn of_events_the_first_with_an_object_is_marked() {
        let mark = Mark::from_iter([("task_id".to_owned(), json!("t"))]);
        let events = "event: message_start\ndata: {\"type\":\"message_start\"}\r\n\r\nevent: ping\ndata: {}\n\n";
        let marked = marked_events(&Bytes::from_static(events.as_bytes()), &mark).unwrap();
        let expected = events.replacen("start\"}", "start\",\"steadfast\":{\"task_id\":\"t\"}}", 1);
        assert_eq!(std::str::from_utf8(&marked).unwrap(), expected);
        for none in [": keep-alive\n\n", "data: [DONE]\n\n", "event: data:\n"] {
            assert_eq!(marked_events(&Bytes::from_static(none.as_bytes()), &mark), None, "{none}");
        }
    }
}
