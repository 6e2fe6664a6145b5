//! Changing single fields of a request's bytes and nothing else.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// What a leaf changes in a request. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) stream: Option<bool>,
    /// The longest answer, and the fields that say so in this dialect, each of them alone or within another one. Those
    /// that are there are changed; where none is, the first one is added.
    pub(super) max_tokens: Option<(&'a [MaxTokens], u32)>,
}

/// A field for the longest answer, and the object that it is in, if it is not at the top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxTokens {
    pub(crate) within: Option<&'static str>,
    pub(crate) name: &'static str,
}

/// The same JSON object with these changes.
///
/// Every other byte is kept: the order of fields, spaces, the spelling of numbers and escapes. When nothing is to
/// be changed, the bytes themselves are given back. A field that is to be changed and is there twice is refused: the
/// provider might read the other one.
pub(super) fn set(body: &Bytes, changes: &Changes<'_>) -> Result<Bytes, serde_json::Error> {
    let Some(open) = opening(body) else {
        return Err(serde_json::Error::custom("the body is no JSON object"));
    };
    let limits = changes.max_tokens.map_or(&[][..], |(names, _)| names);
    let mut names = vec!["model", "stream"];
    names.extend(limits.iter().map(|limit| limit.within.unwrap_or(limit.name)));
    let found = fields(body, &names)?;
    let mut edits = Edits { body, edits: Vec::new() };
    if let Some(model) = changes.model {
        let is = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).is_ok_and(|text| text == model);
        match found[0] {
            Some(raw) if is(raw) => {}
            there => edits.put(there, open, "model", serde_json::to_string(model)?),
        }
    }
    if let Some(stream) = changes.stream {
        match found[1] {
            Some(raw) if raw.get() == if stream { "true" } else { "false" } => {}
            None if !stream => {}
            there => edits.put(there, open, "stream", stream.to_string()),
        }
    }
    if let Some((_, tokens)) = changes.max_tokens {
        edits.limit(limits, &found[2..], open, tokens)?;
    }
    Ok(edits.done())
}

/// The changes of a body, in any order.
struct Edits<'a> {
    body: &'a Bytes,
    edits: Vec<(Range<usize>, String)>,
}

impl Edits<'_> {
    /// Replaces a value, or adds the field behind the brace at `open`.
    fn put(&mut self, there: Option<&RawValue>, open: usize, name: &str, value: String) {
        match there {
            Some(raw) if raw.get() == value => {}
            Some(raw) => self.edits.push((place(raw, self.body), value)),
            None => {
                let at = open + 1;
                let last = self.body[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
                // Several fields may be added to an empty object: each but the last one brings its comma.
                let before = self.edits.iter_mut().rfind(|(place, _)| *place == (at..at));
                if let Some((_, text)) = before.filter(|(_, text)| !text.ends_with(',')) {
                    text.push(',');
                }
                let comma = if last { "" } else { "," };
                self.edits.push((at..at, format!("\"{name}\":{value}{comma}")));
            }
        }
    }

    fn limit(
        &mut self,
        names: &[MaxTokens],
        found: &[Option<&RawValue>],
        open: usize,
        tokens: u32,
    ) -> Result<(), serde_json::Error> {
        let value = tokens.to_string();
        let mut changed = false;
        for (limit, raw) in names.iter().zip(found).filter_map(|(limit, raw)| Some((limit, (*raw)?))) {
            if limit.within.is_none() {
                self.put(Some(raw), open, limit.name, value.clone());
                changed = true;
            } else if raw.get().starts_with('{')
                && let Some(inner) = fields(raw.get().as_bytes(), &[limit.name])?[0]
            {
                self.put(Some(inner), open, limit.name, value.clone());
                changed = true;
            }
        }
        let (false, Some(first)) = (changed, names.first()) else { return Ok(()) };
        let Some(outer) = first.within else {
            self.put(None, open, first.name, value);
            return Ok(());
        };
        let objects = names.iter().zip(found).filter_map(|(limit, raw)| Some((limit, (*raw)?)));
        let object = objects.into_iter().find(|(limit, raw)| limit.within.is_some() && raw.get().starts_with('{'));
        match object {
            Some((limit, raw)) => {
                let inner = place(raw, self.body).start;
                self.put(None, inner, limit.name, value);
            }
            None => self.put(found[0], open, outer, format!("{{\"{}\":{value}}}", first.name)),
        }
        Ok(())
    }

    fn done(mut self) -> Bytes {
        if self.edits.is_empty() {
            return self.body.clone();
        }
        // Stable: what is added at one place keeps its order.
        self.edits.sort_by_key(|(place, _)| place.start);
        let more: usize = self.edits.iter().map(|(_, text)| text.len()).sum();
        let mut spliced = Vec::with_capacity(self.body.len() + more);
        let mut kept = 0;
        for (place, text) in &self.edits {
            spliced.extend_from_slice(&self.body[kept..place.start]);
            spliced.extend_from_slice(text.as_bytes());
            kept = place.end;
        }
        spliced.extend_from_slice(&self.body[kept..]);
        spliced.into()
    }
}

/// Where the object of a body begins.
fn opening(body: &[u8]) -> Option<usize> {
    let open = body.iter().position(|byte| !byte.is_ascii_whitespace())?;
    (body[open] == b'{').then_some(open)
}

/// The values of these fields of a JSON object, `null` included. Everything else is passed over.
fn fields<'a>(json: &'a [u8], names: &[&str]) -> Result<Vec<Option<&'a RawValue>>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = Fields { names }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(found)
}

struct Fields<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.names.len()];
        while let Some(Key(name)) = map.next_key()? {
            if !self.names.contains(&&*name) {
                let IgnoredAny = map.next_value()?;
                continue;
            }
            let value: &RawValue = map.next_value()?;
            for (place, _) in self.names.iter().enumerate().filter(|(_, wanted)| **wanted == name) {
                if found[place].replace(value).is_some() {
                    return Err(A::Error::custom("a field that is to be changed is there twice"));
                }
            }
        }
        Ok(found)
    }
}

/// A field's name; borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Where a value stands: it is a slice of the body, so that its address tells.
fn place(raw: &RawValue, body: &Bytes) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_model(body: &'static str, model: &str) -> String {
        let spliced = set(&Bytes::from_static(body.as_bytes()), &Changes { model: Some(model), ..Changes::default() })
            .expect("a JSON object");
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
        let spliced = set(&body, &Changes { model: Some("ab"), stream: Some(false), max_tokens: None }).unwrap();
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
            let changes = Changes { model: Some("b"), stream: Some(true), max_tokens: None };
            assert_eq!(set(&Bytes::from_static(before.as_bytes()), &changes).unwrap(), after);
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
            assert!(set(&Bytes::from_static(body.as_bytes()), &changes).is_err(), "{body}");
        }
    }

    fn with_limit(body: &'static str, names: &[MaxTokens]) -> String {
        let changes = Changes { max_tokens: Some((names, 9)), ..Changes::default() };
        let spliced = set(&Bytes::from_static(body.as_bytes()), &changes).expect("a JSON object");
        String::from_utf8(spliced.into()).expect("UTF-8 in, UTF-8 out")
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
}
