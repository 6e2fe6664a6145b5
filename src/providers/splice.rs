//! Changing single fields of a request's bytes and nothing else.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::raw;

/// The top-level fields that a leaf may change. A field that is there twice is refused: the provider might read the other one.
#[derive(Deserialize)]
struct Top<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    stream: Option<&'a RawValue>,
}

/// The same JSON object with these values of `model` and `stream`; what is `None` stays as it is.
///
/// Every other byte is kept: the order of fields, spaces, the spelling of numbers and escapes. When nothing is to
/// be changed, the bytes themselves are given back.
pub(super) fn set(body: &Bytes, model: Option<&str>, stream: Option<bool>) -> Result<Bytes, serde_json::Error> {
    let open = body.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(open) = open.filter(|at| body[*at] == b'{') else {
        return Err(serde::de::Error::custom("the body is no JSON object"));
    };
    let top: Top<'_> = serde_json::from_slice(body)?;
    let mut changes = Vec::new();
    let mut added = String::new();
    if let Some(model) = model {
        let is = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).is_ok_and(|text| text == model);
        let value = serde_json::to_string(model)?;
        match top.model {
            Some(raw) if is(raw) => {}
            Some(raw) => changes.push((place(raw, body), value)),
            None => added = format!("\"model\":{value},"),
        }
    }
    if let Some(stream) = stream {
        match top.stream {
            Some(raw) if raw.get() == if stream { "true" } else { "false" } => {}
            Some(raw) if raw.get() == "null" && !stream => {}
            Some(raw) => changes.push((place(raw, body), stream.to_string())),
            None if !stream => {}
            None => added.push_str("\"stream\":true,"),
        }
    }
    if !added.is_empty() {
        let open = open + 1;
        if body[open..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}') {
            added.pop();
        }
        changes.push((open..open, added));
    }
    if changes.is_empty() {
        return Ok(body.clone());
    }
    changes.sort_by_key(|(place, _)| place.start);
    let more: usize = changes.iter().map(|(_, text)| text.len()).sum();
    let mut spliced = Vec::with_capacity(body.len() + more);
    let mut kept = 0;
    for (place, text) in &changes {
        spliced.extend_from_slice(&body[kept..place.start]);
        spliced.extend_from_slice(text.as_bytes());
        kept = place.end;
    }
    spliced.extend_from_slice(&body[kept..]);
    Ok(spliced.into())
}

/// Where a value stands: it is a slice of the body, so that its address tells.
fn place(raw: &RawValue, body: &Bytes) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_model(body: &'static str, model: &str) -> String {
        let spliced = set(&Bytes::from_static(body.as_bytes()), Some(model), None).expect("a JSON object");
        String::from_utf8(spliced.into()).expect("UTF-8 in, UTF-8 out")
    }

    #[test]
    fn every_other_byte_is_kept() {
        let before = "{ \"n\" : 1.0,\"big\":12345678901234567890123, \"model\" :\t\"a\" ,\"t\":\"\\u00e9\\/\",\"in\":{\"model\":\"x\"}}\n";
        assert_eq!(with_model(before, "b-1"), before.replace("\"a\"", "\"b-1\""));
    }

    #[test]
    fn same_model_gives_the_same_bytes_without_a_copy() {
        let body = Bytes::from_static(b"{\"model\":\"a\\u0062\"}");
        let spliced = set(&body, Some("ab"), Some(false)).unwrap();
        assert_eq!(spliced.as_ptr(), body.as_ptr());
    }

    #[test]
    fn absent_and_null_fields_are_set() {
        assert_eq!(with_model("{}", "m"), "{\"model\":\"m\"}");
        assert_eq!(with_model(" { \"a\":1}", "m"), " {\"model\":\"m\", \"a\":1}");
        assert_eq!(with_model("{\"model\":null}", "m"), "{\"model\":\"m\"}");
        assert_eq!(with_model("{\"mod\\u0065l\":\"a\"}", "m"), "{\"mod\\u0065l\":\"m\"}");
    }

    #[test]
    fn model_is_escaped() {
        assert_eq!(with_model("{}", "a\"b"), "{\"model\":\"a\\\"b\"}");
    }

    #[test]
    fn stream_and_model_are_set_in_either_order() {
        for (before, after) in [
            ("{\"stream\":false,\"model\":\"a\"}", "{\"stream\":true,\"model\":\"b\"}"),
            ("{\"model\":\"a\",\"stream\":null}", "{\"model\":\"b\",\"stream\":true}"),
            ("{\"model\":\"a\"}", "{\"stream\":true,\"model\":\"b\"}"),
            ("{}", "{\"model\":\"b\",\"stream\":true}"),
        ] {
            assert_eq!(set(&Bytes::from_static(before.as_bytes()), Some("b"), Some(true)).unwrap(), after);
        }
    }

    #[test]
    fn duplicate_model_is_refused() {
        for body in [
            "{\"model\":\"a\",\"model\":\"b\"}",
            "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}",
            "[]",
            "",
            "{\"model\":\"a\"",
        ] {
            assert!(set(&Bytes::from_static(body.as_bytes()), Some("c"), None).is_err(), "{body}");
        }
    }

    #[test]
    fn a_null_that_says_what_is_wanted_is_kept() {
        let body = Bytes::from_static(b"{\"model\":\"a\",\"stream\":null}");
        assert_eq!(set(&body, Some("a"), Some(false)).unwrap(), body);
    }
}
