//! Changes single fields of a request's bytes and nothing else.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;

use crate::wire::{JsonError, Object};

/// The changes of a leaf to a request. A field that is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    pub model: Option<&'a str>,
    pub stream: Option<bool>,
    /// The longest answer, and this dialect's fields for it, each at the top or within an object. Present ones are
    /// changed; without any, the first one is added.
    pub max_tokens: Option<(&'static [MaxTokens], u32)>,
    /// The fields to leave out. The object must have been read with their names.
    pub removed: &'a [&'static str],
    /// The fields to set to this JSON, or to add. The object must have been read with their names.
    pub set: &'a [(&'static str, String)],
    /// Further places with their new JSON. None of them is a field above, or within a removed one.
    pub edits: &'a [(Range<usize>, String)],
}

/// A field for the longest answer, and the object around it, if it is not at the top.
#[derive(Clone, Copy, Debug)]
pub struct MaxTokens {
    pub(crate) within: Option<&'static str>,
    pub(crate) name: &'static str,
}

/// Returns the same JSON object with these changes, in pieces that share the unchanged bytes.
///
/// Every other byte is kept: the order of fields, spaces, the spelling of numbers and escapes. A duplicate of a field
/// that is to be changed is refused: the provider might read the other one.
pub fn set(body: &Bytes, object: &Object, changes: &Changes<'_>) -> Result<Vec<Bytes>, JsonError> {
    let mut edits = Edits { body, edits: Vec::new() };
    if let Some(model) = changes.model {
        let is = |place: &Range<usize>| {
            let there = &body[place.clone()];
            // Nearly always in its usual spelling.
            let is_same = there.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) == Some(model.as_bytes());
            is_same && !model.contains('\\')
                || serde_json::from_slice::<Cow<'_, str>>(there).is_ok_and(|text| text == model)
        };
        match once(object, "model")? {
            Some(place) if is(&place) => {}
            there => edits.put(there, object, "model", serde_json::Value::from(model).to_string()),
        }
    }
    if let Some(stream) = changes.stream {
        match once(object, "stream")? {
            Some(place) if !stream && &body[place.clone()] == b"null" => {}
            None if !stream => {}
            there => edits.put(there, object, "stream", stream.to_string()),
        }
    }
    if let Some((names, tokens)) = changes.max_tokens {
        edits.limit(names, object, tokens)?;
    }
    for (name, value) in changes.set {
        edits.put(once(object, name)?, object, name, value.clone());
    }
    if !changes.removed.is_empty() {
        edits.remove(object, changes.removed)?;
    }
    edits.edits.extend_from_slice(changes.edits);
    Ok(edits.done())
}

/// Returns the place of a field's value, if it is present.
fn once(object: &Object, name: &str) -> Result<Option<Range<usize>>, JsonError> {
    match object.field(name) {
        Some(field) if field.is_twice => {
            Err(JsonError { what: "a field to be changed occurs twice", at: field.value.start })
        }
        field => Ok(field.map(|field| field.value.clone())),
    }
}

/// Returns the place of a whole member, from its name on, by the place of its value.
fn member(body: &[u8], value: &Range<usize>) -> Range<usize> {
    // Before a value: spaces, a colon, spaces and the name, in which a quote can only be an escape by its number.
    let colon = body[..value.start].iter().rposition(|byte| *byte == b':').unwrap_or_default();
    let close = body[..colon].iter().rposition(|byte| *byte == b'"').unwrap_or_default();
    let open = body[..close].iter().rposition(|byte| *byte == b'"').unwrap_or_default();
    open..value.end
}

/// Returns the place of the next byte that is no space. An object that was read ends with a brace.
fn after_space(body: &[u8], at: usize) -> usize {
    at + body[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The changes of a body, in any order.
struct Edits<'a> {
    body: &'a Bytes,
    edits: Vec<(Range<usize>, String)>,
}

impl Edits<'_> {
    /// Replaces a value, or adds the field behind the opening brace of `object`.
    fn put(&mut self, there: Option<Range<usize>>, object: &Object, name: &str, value: String) {
        match there {
            Some(place) if self.body[place.clone()] == *value.as_bytes() => {}
            Some(place) => self.edits.push((place, value)),
            None => {
                let at = object.open;
                // Several fields may be added to an empty object: each but the last one brings its comma.
                let before = self.edits.iter_mut().rfind(|(place, _)| *place == (at..at));
                if let Some((_, text)) = before.filter(|(_, text)| !text.ends_with(',')) {
                    text.push(',');
                }
                let comma = if object.is_empty { "" } else { "," };
                self.edits.push((at..at, format!("\"{name}\":{value}{comma}")));
            }
        }
    }

    fn limit(&mut self, names: &'static [MaxTokens], object: &Object, tokens: u32) -> Result<(), JsonError> {
        let value = tokens.to_string();
        // The objects around the field that are present, and the first one of them.
        let mut changed = false;
        let mut first_within = None;
        for limit in names {
            let Some(place) = once(object, limit.within.unwrap_or(limit.name))? else { continue };
            if limit.within.is_none() {
                self.put(Some(place), object, limit.name, value.clone());
                changed = true;
            } else if self.body[place.start] == b'{' {
                let within = Object::read(&self.body[place.clone()], &[limit.name])
                    .map_err(|broken| broken.behind(place.start))?
                    .behind(place.start);
                if let Some(inner) = once(&within, limit.name)? {
                    self.put(Some(inner), &within, limit.name, value.clone());
                    changed = true;
                }
                first_within.get_or_insert((within, limit.name));
            }
        }
        let (false, Some(first)) = (changed, names.first()) else { return Ok(()) };
        match (first.within, first_within) {
            (None, _) => self.put(None, object, first.name, value),
            (Some(_), Some((within, name))) => self.put(None, &within, name, value),
            (Some(outer), None) => {
                let there = once(object, outer)?;
                self.put(there, object, outer, format!("{{\"{}\":{value}}}", first.name));
            }
        }
        Ok(())
    }

    /// Removes fields, each with one of the commas around it.
    fn remove(&mut self, object: &Object, names: &[&'static str]) -> Result<(), JsonError> {
        let body: &[u8] = self.body;
        let mut members = Vec::new();
        for name in names {
            if let Some(value) = once(object, name)? {
                members.push(member(body, &value));
            }
        }
        if members.is_empty() {
            return Ok(());
        }
        members.sort_by_key(|member| member.start);
        let first = after_space(body, object.open);
        let mut removed: Vec<Range<usize>> = Vec::new();
        for member in members {
            // Each member at the start takes the comma behind it along, and every later one the comma before it.
            let is_leading = member.start == first || removed.last().is_some_and(|last| last.end == member.start);
            let is_leading = is_leading && removed.last().is_none_or(|last| last.start == first);
            if is_leading {
                let behind = after_space(body, member.end);
                let end = if body[behind] == b',' { after_space(body, behind + 1) } else { member.end };
                match removed.last_mut() {
                    Some(last) => last.end = end,
                    None => removed.push(member.start..end),
                }
            } else {
                let space = body[..member.start].iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
                removed.push(member.start - space - 1..member.end);
            }
        }
        let is_emptied =
            removed.len() == 1 && removed[0].start == first && body[after_space(body, removed[0].end)] == b'}';
        if is_emptied
            && let Some((_, text)) = self.edits.iter_mut().rfind(|(place, _)| *place == (object.open..object.open))
        {
            // No field follows the one that was added.
            text.truncate(text.trim_end_matches(',').len());
        }
        self.edits.extend(removed.into_iter().map(|place| (place, String::new())));
        Ok(())
    }

    fn done(mut self) -> Vec<Bytes> {
        // Stable: fields added at one place keep their order.
        self.edits.sort_by_key(|(place, _)| place.start);
        let mut pieces = Vec::with_capacity(2 * self.edits.len() + 1);
        let mut kept = 0;
        for (place, text) in self.edits {
            pieces.push(self.body.slice(kept..place.start));
            if !text.is_empty() {
                pieces.push(text.into());
            }
            kept = place.end;
        }
        pieces.push(self.body.slice(kept..));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FIELDS;

    fn spliced(body: &'static str, changes: &Changes<'_>) -> Result<Vec<Bytes>, JsonError> {
        set(&body.into(), &Object::read(body.as_bytes(), &[&FIELDS[..], &["config", "old_config"]].concat())?, changes)
    }

    fn text(body: &'static str, changes: &Changes<'_>) -> String {
        let pieces = spliced(body, changes).expect("a JSON object");
        String::from_utf8(pieces.concat()).expect("UTF-8 in, UTF-8 out")
    }

    fn with_model(body: &'static str, model: &str) -> String {
        text(body, &Changes { model: Some(model), ..Changes::default() })
    }

    #[test]
    fn every_other_byte_is_kept() {
        let before = "{ \"n\" : 1.0,\"big\":12345678901234567890123, \"model\" :\t\"a\" ,\"t\":\"\\u00e9\\/\",\"in\":{\"model\":\"x\"}}\n";
        assert_eq!(with_model(before, "b-1"), before.replace("\"a\"", "\"b-1\""));
    }

    #[test]
    fn same_model_gives_the_same_bytes_without_a_copy() {
        let body = "{\"model\":\"a\\u0062\"}";
        let spliced = spliced(body, &Changes { model: Some("ab"), stream: Some(false), ..Changes::default() }).unwrap();
        assert_eq!(spliced.len(), 1);
        assert_eq!(spliced[0].as_ptr(), body.as_ptr());
    }

    #[test]
    fn absent_and_null_fields_are_set() {
        assert_eq!(with_model("{}", "m"), "{\"model\":\"m\"}");
        assert_eq!(with_model(" { \"a\":1}", "m"), " {\"model\":\"m\", \"a\":1}");
        assert_eq!(with_model("{\"model\":null}", "m"), "{\"model\":\"m\"}");
        assert_eq!(with_model("{\"mod\\u0065l\":\"a\"}", "m"), "{\"mod\\u0065l\":\"m\"}");
    }

    #[test]
    fn fields_are_removed_with_one_comma_each() {
        const NAMES: &[&str] = &["model", "stream", "tools"];
        for (before, after) in [
            (r#"{"model":"a"}"#, "{}"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{ "model" : "a" , "a":1}"#, r#"{ "a":1}"#),
            (r#"{"a":1, "model":"a"}"#, r#"{"a":1}"#),
            (r#"{"a":1 , "model":"a" }"#, r#"{"a":1 }"#),
            (r#"{"a":1,"model":"a","b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"model":"a","stream":true,"b":2}"#, r#"{"b":2}"#),
            (r#"{"b":2,"model":"a","stream":true}"#, r#"{"b":2}"#),
            (r#"{"model":"a","stream":true, "tools":[{}] }"#, "{ }"),
            (r#"{"model":"a","b":2,"stream":true,"tools":[]}"#, r#"{"b":2}"#),
            ("{\"mod\\u0065l\":\"a\",\"b\":2}", r#"{"b":2}"#),
        ] {
            let after_all = text(before, &Changes { removed: NAMES, ..Changes::default() });
            assert_eq!(after_all.split_whitespace().collect::<String>(), after.split_whitespace().collect::<String>());
            let is_json: Result<serde_json::Value, _> = serde_json::from_str(&after_all);
            assert!(is_json.is_ok(), "{before}: {after_all}");
        }
        let twice = r#"{"model":1,"model":2}"#;
        assert!(spliced(twice, &Changes { removed: NAMES, ..Changes::default() }).is_err());
    }

    #[test]
    fn fields_are_set_beside_those_that_are_removed() {
        let set = [("system", "\"x\"".to_owned())];
        for (before, after) in [
            (r#"{"model":"a","a":1}"#, r#"{"system":"x","a":1}"#),
            (r#"{"model":"a"}"#, r#"{"system":"x"}"#),
            (r#"{"a":1,"system":"y","model":"a"}"#, r#"{"a":1,"system":"x"}"#),
            (r#"{"a":1,"system":"x"}"#, r#"{"a":1,"system":"x"}"#),
            ("{}", r#"{"system":"x"}"#),
        ] {
            assert_eq!(text(before, &Changes { removed: &["model"], set: &set, ..Changes::default() }), after);
        }
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
            let changes = Changes { model: Some("b"), stream: Some(true), ..Changes::default() };
            assert_eq!(text(before, &changes), after);
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
            let changes = Changes { model: Some("c"), ..Changes::default() };
            assert!(spliced(body, &changes).is_err(), "{body}");
        }
    }

    fn with_limit(body: &'static str, names: &'static [MaxTokens]) -> String {
        text(body, &Changes { max_tokens: Some((names, 9)), ..Changes::default() })
    }

    #[test]
    fn the_longest_answer_is_set_where_it_stands() {
        const TOP: &[MaxTokens] = &[
            MaxTokens { within: None, name: "max_completion_tokens" },
            MaxTokens { within: None, name: "max_tokens" },
        ];
        assert_eq!(with_limit("{\"a\":1.0, \"max_tokens\" : 1e3}", TOP), "{\"a\":1.0, \"max_tokens\" : 9}");
        assert_eq!(with_limit("{\"a\":1}", TOP), "{\"max_completion_tokens\":9,\"a\":1}");
        assert_eq!(with_limit("{ }", TOP), "{\"max_completion_tokens\":9 }");
        const WITHIN: &[MaxTokens] = &[
            MaxTokens { within: Some("config"), name: "maxTokens" },
            MaxTokens { within: Some("config"), name: "max_tokens" },
            MaxTokens { within: Some("old_config"), name: "maxTokens" },
        ];
        for (before, after) in [
            ("{\"config\":{ \"x\":1,\"max_tokens\":5}}", "{\"config\":{ \"x\":1,\"max_tokens\":9}}"),
            ("{\"config\":{}}", "{\"config\":{\"maxTokens\":9}}"),
            ("{\"a\":[], \"old_config\":{\"x\":1}}", "{\"a\":[], \"old_config\":{\"maxTokens\":9,\"x\":1}}"),
            ("{\"config\":null}", "{\"config\":{\"maxTokens\":9}}"),
            ("{}", "{\"config\":{\"maxTokens\":9}}"),
        ] {
            assert_eq!(with_limit(before, WITHIN), after);
        }
    }

    #[test]
    fn a_null_that_says_what_is_wanted_is_kept() {
        let body = "{\"model\":\"a\",\"stream\":null}";
        assert_eq!(text(body, &Changes { model: Some("a"), stream: Some(false), ..Changes::default() }), body);
    }
}
