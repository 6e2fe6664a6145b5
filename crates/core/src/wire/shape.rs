//! The types of a request's fields.
//!
//! A translation reads the fields that it knows. One of another type would look absent there, and the caller's wish
//! would be lost without a word: a budget of thinking, an output's format, a limit. So a [`Shape`] for each dialect
//! ([`shapes`](super::shapes)) is checked before, and a field that does not fit is refused by its name.

use serde_json::Number;

use crate::{
    ErrorKind, LlmError,
    fields::{self, bad, unreadable},
    raw_json::{Cursor, RawJson},
};

/// The type of a value. `null` fits each of them: it is as good as an absent field.
#[derive(Debug)]
pub(super) enum Shape {
    Any,
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    Flag,
    Number,
    /// A number up to this one, and not negative.
    UpTo(f64),
    /// A whole number that is not negative.
    Whole,
    /// A whole number from this one on.
    From(i64),
    /// An object, with the fields that are known.
    Object(Fields),
    /// An object whose field `type` says which fields are known. Without it the first type counts.
    Tagged(&'static [(&'static str, Fields)]),
    List(&'static Self),
    /// The first of these that has the value's JSON type.
    Either(&'static [Self]),
}

/// The known fields of an object. A name in `camelCase` stands for its form in `snake_case` too.
pub(super) type Fields = &'static [(&'static str, Shape)];

impl Shape {
    /// Checks a value, in one pass over its text.
    ///
    /// # Errors
    ///
    /// A field is of another type, or occurs twice. The error names it.
    pub(super) fn check(&self, value: RawJson<'_>) -> Result<(), LlmError> {
        self.check_at(&mut Cursor::new(value), &mut Vec::new())
    }

    /// Checks the value at the cursor, and passes over it.
    fn check_at(&self, at: &mut Cursor<'_>, path: &mut Vec<&'static str>) -> Result<(), LlmError> {
        let first = at.first();
        if first == b'n' {
            at.pass();
            return Ok(());
        }
        let fits = match self {
            _ if !self.takes(first) => false,
            Self::Word(words) => fields::word(at.pass()).is_some_and(|word| words.contains(&&*word)),
            Self::UpTo(most) => number(at.pass()).is_some_and(|number| (0.0..=*most).contains(&number)),
            Self::Whole => number(at.pass()).is_some_and(|number| number >= 0.0 && number.fract() == 0.0),
            Self::From(least) => {
                number(at.pass()).is_some_and(|number| number >= *least as f64 && number.fract() == 0.0)
            }
            Self::Object(known) => return check_fields(at, known, path),
            Self::Tagged(kinds) => return check_tagged(at, kinds, path),
            Self::List(item) => {
                at.enter();
                while at.has_more() {
                    let first = at.first();
                    if !item.takes(first) && first != b'n' {
                        return Err(bad(&path.join("."), &format!("a list of {}", item.wanted_many())));
                    }
                    item.check_at(at, path)?;
                }
                return Ok(());
            }
            Self::Either(shapes) => {
                if let Some(shape) = shapes.iter().find(|shape| shape.takes(first)) {
                    return shape.check_at(at, path);
                }
                at.pass();
                return Ok(());
            }
            Self::Any | Self::Text | Self::Flag | Self::Number => {
                at.pass();
                true
            }
        };
        if fits { Ok(()) } else { Err(bad(&path.join("."), &self.wanted())) }
    }

    /// Returns true if the JSON type of a value with this first byte is one of the shape's.
    fn takes(&self, first: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Text | Self::Word(_) => first == b'"',
            Self::Flag => matches!(first, b't' | b'f'),
            Self::Number | Self::UpTo(_) | Self::Whole | Self::From(_) => matches!(first, b'-' | b'0'..=b'9'),
            Self::Object(_) | Self::Tagged(_) => first == b'{',
            Self::List(_) => first == b'[',
            Self::Either(shapes) => shapes.iter().any(|shape| shape.takes(first)),
        }
    }

    /// Returns the words for values of this type.
    fn wanted_many(&self) -> &'static str {
        match self {
            Self::Text | Self::Word(_) => "texts",
            Self::Object(_) | Self::Tagged(_) => "objects",
            _ => "values of one type",
        }
    }

    /// Returns the words for a value that fits.
    fn wanted(&self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Word(words) => match words {
                [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
                words => words.concat(),
            },
            Self::Flag => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::UpTo(most) if *most == f64::MAX => "a number that is not negative".to_owned(),
            Self::UpTo(most) => format!("a number from 0 to {most}"),
            Self::Whole => "a whole number that is not negative".to_owned(),
            Self::From(least) => format!("a whole number from {least} on"),
            Self::Object(_) | Self::Tagged(_) => "an object".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Either(shapes) => shapes.iter().map(Self::wanted).collect::<Vec<_>>().join(" or "),
        }
    }
}

fn number(value: RawJson<'_>) -> Option<f64> {
    serde_json::from_str::<Number>(value.get()).ok()?.as_f64()
}

/// Checks the object at the cursor, and passes over it. Of several fields `type` the last one counts.
fn check_tagged(
    at: &mut Cursor<'_>,
    kinds: &'static [(&'static str, Fields)],
    path: &mut Vec<&'static str>,
) -> Result<(), LlmError> {
    let known = match at.tag() {
        Some(kind) => kinds.iter().find(|(name, _)| *name == kind),
        None => kinds.first(),
    };
    let Some((_, known)) = known else {
        at.pass();
        return Ok(());
    };
    check_fields(at, known, path)
}

/// Checks the fields of the object at the cursor, and passes over it.
fn check_fields(at: &mut Cursor<'_>, known: Fields, path: &mut Vec<&'static str>) -> Result<(), LlmError> {
    // A table has far fewer fields than a word has bits.
    let mut seen = 0_u64;
    at.enter();
    while at.has_more() {
        let name = at.name().map_err(unreadable)?;
        let Some(place) = place_of(&name, known) else {
            at.pass();
            continue;
        };
        let (known, shape) = &known[place];
        path.push(known);
        if seen & (1 << place) != 0 {
            let problem = format!("{} is there twice", path.join("."));
            return Err(LlmError::new(ErrorKind::InvalidRequest, problem));
        }
        seen |= 1 << place;
        shape.check_at(at, path)?;
        path.pop();
    }
    Ok(())
}

/// Returns the place of the known field of this name, in either of its forms.
fn place_of(name: &str, known: Fields) -> Option<usize> {
    let place = known.iter().position(|(known, _)| *known == name);
    if place.is_some() || !name.contains('_') {
        return place;
    }
    known.iter().position(|(known, _)| camel(name).eq(known.chars()))
}

/// Returns the letters of a name in `snake_case` as they are in `camelCase`.
fn camel(name: &str) -> impl Iterator<Item = char> {
    let mut is_up = false;
    name.chars().filter_map(move |letter| match letter {
        '_' => {
            is_up = true;
            None
        }
        letter => Some(if std::mem::take(&mut is_up) { letter.to_ascii_uppercase() } else { letter }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        ("topP", Shape::UpTo(1.0)),
        ("kind", Shape::Word(&["a", "b"])),
        ("parts", Shape::List(&Shape::Tagged(&[("text", &[("text", Shape::Text)])]))),
        ("stop", Shape::Either(&[Shape::Text, Shape::List(&Shape::Text)])),
        ("budget", Shape::From(-1)),
    ]);

    fn problem(json: &str) -> Option<String> {
        SHAPE.check(serde_json::from_str(json).unwrap()).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_what_would() {
        for (json, expected) in [
            (r#"{"topP":1.5}"#, "topP must be a number from 0 to 1"),
            (r#"{"top_p":"x"}"#, "topP must be a number from 0 to 1"),
            (r#"{"top_p":1,"topP":1}"#, "topP is there twice"),
            (r#"{"kind":"c"}"#, "kind must be a or b"),
            (r#"{"kind":["a"]}"#, "kind must be a or b"),
            (r#"{"parts":{}}"#, "parts must be a list"),
            (r#"{"parts":[7]}"#, "parts must be a list of objects"),
            (r#"{"parts":[{"type":"text","text":"x"},{"type":"text","text":7}]}"#, "parts.text must be a text"),
            (r#"{"parts":[{"type":"other","type":"text","text":7}]}"#, "parts.text must be a text"),
            (r#"{"parts":[{"text":7,"\u0074ype":"text"}]}"#, "parts.text must be a text"),
            ("{ \"parts\" : [ { } , { \"text\" : [ ] } ] }", "parts.text must be a text"),
            (r#"{"stop":{}}"#, "stop must be a text or a list"),
            (r#"{"stop":["x",1]}"#, "stop must be a list of texts"),
            (r#"{"budget":-2}"#, "budget must be a whole number from -1 on"),
            ("[]", " must be an object"),
        ] {
            assert_eq!(problem(json).as_deref(), Some(expected), "{json}");
        }
        for json in [
            "{}",
            r#"{"topP":null,"kind":null,"parts":null,"stop":null,"other":[1]}"#,
            r#"{"top_p":0.5,"kind":"b","parts":[],"stop":"x","budget":-1.0}"#,
            r#"{"topP":1,"parts":[{"type":"text","text":""},{"type":"other","text":7},{}],"stop":[]}"#,
            r#"{"parts":[{"type":"text","type":"other","text":7}],"\u0074opP":1}"#,
        ] {
            assert_eq!(problem(json), None, "{json}");
        }
    }

    /// The shapes in words of a tree, beside the reader of bytes.
    fn fits(shape: &Shape, value: &Value) -> bool {
        let known = |known: Fields, object: &Map<String, Value>| {
            object.iter().all(|(name, value)| place_of(name, known).is_none_or(|place| fits(&known[place].1, value)))
        };
        let has_type = |shape: &Shape| match shape {
            Shape::Any => true,
            Shape::Text | Shape::Word(_) => value.is_string(),
            Shape::Flag => value.is_boolean(),
            Shape::Number | Shape::UpTo(_) | Shape::Whole | Shape::From(_) => value.is_number(),
            Shape::Object(_) | Shape::Tagged(_) => value.is_object(),
            Shape::List(_) => value.is_array(),
            Shape::Either(_) => false,
        };
        let number = || value.as_f64().unwrap_or(f64::NAN);
        value.is_null()
            || match shape {
                Shape::Any => true,
                Shape::Text | Shape::Flag | Shape::Number => has_type(shape),
                Shape::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
                Shape::UpTo(most) => (0.0..=*most).contains(&number()),
                Shape::Whole => number() >= 0.0 && number().fract() == 0.0,
                Shape::From(least) => number() >= *least as f64 && number().fract() == 0.0,
                Shape::Object(fields) => value.as_object().is_some_and(|object| known(fields, object)),
                Shape::Tagged(kinds) => value.as_object().is_some_and(|object| {
                    let kind = match object.get("type").and_then(Value::as_str) {
                        Some(kind) => kinds.iter().find(|(name, _)| *name == kind),
                        None => kinds.first(),
                    };
                    kind.is_none_or(|(_, fields)| known(fields, object))
                }),
                Shape::List(item) => value.as_array().is_some_and(|items| items.iter().all(|value| fits(item, value))),
                Shape::Either(shapes) => {
                    shapes.iter().find(|shape| has_type(shape)).is_some_and(|shape| fits(shape, value))
                }
            }
    }

    fn any_body() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            Just("topP"),
            Just("kind"),
            Just("parts"),
            Just("stop"),
            Just("budget"),
            Just("type"),
            Just("text"),
            Just("x\"}")
        ];
        let leaf = prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!("a")),
            Just(json!("text")),
            Just(json!("]}\\\",")),
            Just(json!(0.5)),
            Just(json!(-1)),
            Just(json!(-2.0)),
            Just(json!(3)),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(name.clone(), inner, 0..6)
                    .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_body_fits_as_its_tree_does(body in any_body()) {
            for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
                prop_assert_eq!(problem(&text).is_none(), fits(&SHAPE, &body), "{}", text);
            }
        }
    }
}
