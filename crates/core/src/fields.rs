//! Reads a caller's request strictly, in place: a field of another type than the dialect's is refused by name.
//!
//! Only the fields looked for are parsed, and no list or object is held as a whole: its items are passed on one by one,
//! as slices of the body.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;

use crate::{
    ErrorKind, LlmError,
    raw_json::{RawJson, Word},
};

/// Creates the error for a field that is not what it must be.
pub fn bad(field: &str, expected: &str) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, format!("{field} must be {expected}"))
}

pub(crate) fn unreadable(error: serde_json::Error) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, "a text or a field's name in the body is invalid").with_source(error)
}

/// The fields of an object that are looked for. Of duplicates the last one counts.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct Object<'a> {
    names: &'static [&'static str],
    values: Vec<Option<RawJson<'a>>>,
}

impl<'a> Object<'a> {
    /// Looks for the fields of these names; a value that is no object has none.
    pub fn read(raw: impl Into<RawJson<'a>>, names: &'static [&'static str]) -> Result<Self, LlmError> {
        let mut values = vec![None; names.len()];
        fields(raw, |name, value| {
            if let Some(place) = names.iter().position(|known| *known == name) {
                values[place] = Some(value);
            }
            Ok(())
        })?;
        Ok(Self { names, values })
    }

    /// Returns the value of a field that was looked for.
    pub fn get(&self, name: &str) -> Option<RawJson<'a>> {
        let place = self.names.iter().position(|known| *known == name);
        debug_assert!(place.is_some(), "`{name}` was not looked for");
        self.values[place?]
    }

    /// Returns the first of these fields that is present and not `null`.
    pub fn either(&self, names: &[&str]) -> Option<RawJson<'a>> {
        let there = names.iter().find_map(|name| self.get(name));
        there.filter(|value| !is_null(value))
    }

    /// Returns a text; `null` counts as absent.
    pub fn text(&self, name: &str) -> Result<Option<String>, LlmError> {
        self.get(name).map_or(Ok(None), text)
    }

    /// Returns a word of the format's own, which is compared and not stored.
    pub fn word(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(word)
    }

    /// Returns a value that is true or false.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(flag)
    }

    /// Returns the field's value, if it is an object.
    pub fn object(&self, name: &str) -> Option<RawJson<'a>> {
        self.get(name).filter(|value| is_object(value))
    }

    /// Returns a whole number; `null` counts as absent.
    pub fn number(&self, name: &str) -> Result<Option<u32>, LlmError> {
        let Some(value) = self.get(name).filter(|value| !is_null(value)) else { return Ok(None) };
        let number = whole(value).and_then(|number| u32::try_from(number).ok());
        number.map(Some).ok_or_else(|| bad(name, "a whole number that is not negative"))
    }

    /// Returns a whole number of either sign.
    pub fn signed(&self, name: &str) -> Option<i64> {
        whole(self.get(name)?)
    }

    pub(crate) fn floating(&self, name: &str) -> Result<Option<f64>, LlmError> {
        let Some(value) = self.get(name).filter(|value| !is_null(value)) else { return Ok(None) };
        let number: Option<Number> = serde_json::from_str(value.get()).ok();
        number.and_then(|number| number.as_f64()).map(Some).ok_or_else(|| bad(name, "a number"))
    }

    /// Returns a text or a list of texts.
    pub fn strings(&self, name: &str) -> Result<Vec<String>, LlmError> {
        let Some(value) = self.get(name).filter(|value| !is_null(value)) else { return Ok(Vec::new()) };
        let wrong = || bad(name, "a text or a list of texts");
        if let Some(one) = text(value)? {
            return Ok(vec![one]);
        }
        let mut strings = Vec::new();
        let is_list = each(value, |one| {
            strings.push(text(one)?.ok_or_else(wrong)?);
            Ok(())
        })?;
        if is_list { Ok(strings) } else { Err(wrong()) }
    }
}

/// Returns the text, if the value is one.
pub fn text<'a>(raw: impl Into<RawJson<'a>>) -> Result<Option<String>, LlmError> {
    let raw = raw.into();
    if !raw.get().starts_with('"') {
        return Ok(None);
    }
    serde_json::from_str(raw.get()).map(Some).map_err(unreadable)
}

/// Returns the text, borrowed if it has no escapes.
pub fn word<'a>(raw: impl Into<RawJson<'a>>) -> Option<Cow<'a, str>> {
    let raw = raw.into();
    if !raw.get().starts_with('"') {
        return None;
    }
    serde_json::from_str(raw.get()).ok().map(|Word(word)| word)
}

/// Returns a whole number, one that is too large as the largest. Some languages write `100.0`.
fn whole(raw: RawJson<'_>) -> Option<i64> {
    let number: Number = serde_json::from_str(raw.get()).ok()?;
    number.as_i64().or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i64))
}

/// Returns a value that is true or false.
pub fn flag<'a>(raw: impl Into<RawJson<'a>>) -> Option<bool> {
    match raw.into().get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Returns true for `null`.
pub fn is_null<'a>(raw: impl Into<RawJson<'a>>) -> bool {
    raw.into().get() == "null"
}

/// Returns true for an object.
pub fn is_object<'a>(raw: impl Into<RawJson<'a>>) -> bool {
    raw.into().get().starts_with('{')
}

/// Returns true for a list.
pub fn is_list<'a>(raw: impl Into<RawJson<'a>>) -> bool {
    raw.into().get().starts_with('[')
}

/// Calls `visit` with each field of an object, in order. Returns false for a value that is no object.
pub fn fields<'a>(
    raw: impl Into<RawJson<'a>>,
    mut visit: impl FnMut(&str, RawJson<'a>) -> Result<(), LlmError>,
) -> Result<bool, LlmError> {
    let raw = raw.into();
    raw.fields().try_for_each(|(name, value)| visit(&name.read().map_err(unreadable)?, value))?;
    Ok(is_object(raw))
}

/// Calls `visit` with each item of a list, in order. Returns false for a value that is no list.
pub fn each<'a>(
    raw: impl Into<RawJson<'a>>,
    visit: impl FnMut(RawJson<'a>) -> Result<(), LlmError>,
) -> Result<bool, LlmError> {
    let raw = raw.into();
    raw.items().try_for_each(visit)?;
    Ok(is_list(raw))
}

/// Fails for a field that cannot be read into a tree. The encoders write the fields that the neutral form lacks from
/// one.
pub(crate) fn check_representable<'a>(name: &str, raw: impl Into<RawJson<'a>>) -> Result<(), LlmError> {
    match is_representable(raw.into()) {
        true => Ok(()),
        false => Err(bad(name, "JSON without numbers and texts that are out of range")),
    }
}

/// Returns true if Rust can represent every text and number in the value, so that it can be read into a tree. Builds
/// none.
fn is_representable(raw: RawJson<'_>) -> bool {
    serde_json::from_str::<Representable>(raw.get()).is_ok()
}

/// Any value, which is read and dropped.
struct Representable;

impl<'de> Deserialize<'de> for Representable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Representable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// Returns the number of items of a list, to reserve room for no more than these.
pub fn count<'a>(raw: impl Into<RawJson<'a>>) -> usize {
    raw.into().items().count()
}

/// Returns the field of an object that has exactly one.
pub(crate) fn only_field<'a>(raw: impl Into<RawJson<'a>>) -> Result<Option<(String, RawJson<'a>)>, LlmError> {
    let (mut only, mut count) = (None, 0);
    fields(raw, |name, value| {
        if count == 0 {
            only = Some((name.to_owned(), value));
        }
        count += 1;
        Ok(())
    })?;
    Ok(only.filter(|_| count == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> RawJson<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn fields_are_found_in_any_spelling_and_the_last_one_counts() {
        let object = Object::read(raw(r#"{"a":1,"\u0061":2,"b":"x\n","c":null}"#), &["a", "b", "c", "d"]).unwrap();
        assert_eq!(object.number("a").unwrap(), Some(2));
        assert_eq!(object.text("b").unwrap().as_deref(), Some("x\n"));
        assert_eq!((object.number("c").unwrap(), object.get("d").is_none()), (None, true));
        assert!(Object::read(raw("[1]"), &["a"]).unwrap().get("a").is_none(), "what is no object has no fields");
    }

    #[test]
    fn a_text_that_is_none_is_refused_and_not_left_out() {
        let object = Object::read(raw(r#"{"a":"\ud800","b":7}"#), &["a", "b"]).unwrap();
        assert_eq!(object.text("a").unwrap_err().kind(), ErrorKind::InvalidRequest);
        assert_eq!(object.text("b").unwrap(), None);
    }

    #[test]
    fn an_error_ends_the_reading_and_comes_out_as_it_is() {
        let mut seen = 0;
        let error = each(raw("[1, 2, 3]"), |_| {
            seen += 1;
            if seen == 2 { Err(bad("x", "y")) } else { Ok(()) }
        });
        assert_eq!((seen, error.unwrap_err().message()), (2, "x must be y"));
        assert!(!each(raw("{}"), |_| Ok(())).unwrap() && count(raw("[[], {}, \"a\"]")) == 3);
    }

    #[test]
    fn a_value_is_representable_if_it_can_be_a_tree() {
        for json in
            [r#"{"a":[1,-2,0.5,1e300,true,null,"x\n\u00e9",{"\u0061":[]}]}"#, "12345678901234567890123", "[]", "1e-999"]
        {
            assert!(is_representable(raw(json)) && serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
        }
        for json in ["1e999", r#"{"a":[-1e400]}"#, r#"["\ud800"]"#, r#"{"\udc00":1}"#] {
            assert!(!is_representable(raw(json)) && serde_json::from_str::<serde_json::Value>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn an_only_field_has_no_other_beside_it() {
        assert_eq!(only_field(raw(r#"{"a":[1]}"#)).unwrap().unwrap().1.get(), "[1]");
        assert!(only_field(raw(r#"{"a":1,"b":2}"#)).unwrap().is_none() && only_field(raw("[]")).unwrap().is_none());
    }
}
