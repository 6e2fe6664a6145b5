//! The types of a request's fields.
//!
//! A translation reads the fields that it knows. One of another type would look absent there, and the caller's wish
//! would be lost without a word: a budget of thinking, an output's format, a limit. So a [`Shape`] for each dialect
//! ([`shapes`](super::shapes)) is checked before, and a field that does not fit is refused by its name.

use serde_json::Number;

use crate::{
    ErrorKind, LlmError,
    fields::{self, Object, bad},
    raw_json::RawJson,
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
    /// Checks a value.
    ///
    /// # Errors
    ///
    /// A field is of another type, or occurs twice. The error names it.
    pub(super) fn check(&self, value: RawJson<'_>) -> Result<(), LlmError> {
        self.check_at(value, &mut Vec::new())
    }

    fn check_at(&self, value: RawJson<'_>, path: &mut Vec<&'static str>) -> Result<(), LlmError> {
        if fields::is_null(value) {
            return Ok(());
        }
        let fits = match self {
            _ if !self.takes(value) => false,
            Self::Word(words) => fields::word(value).is_some_and(|word| words.contains(&&*word)),
            Self::UpTo(most) => number(value).is_some_and(|number| (0.0..=*most).contains(&number)),
            Self::Whole => number(value).is_some_and(|number| number >= 0.0 && number.fract() == 0.0),
            Self::From(least) => number(value).is_some_and(|number| number >= *least as f64 && number.fract() == 0.0),
            Self::Object(known) => return check_fields(value, known, path),
            Self::Tagged(kinds) => {
                let known = match Object::read(value, &["type"])?.word("type") {
                    Some(kind) => kinds.iter().find(|(name, _)| *name == kind),
                    None => kinds.first(),
                };
                return known.map_or(Ok(()), |(_, known)| check_fields(value, known, path));
            }
            Self::List(item) => {
                return value.items().try_for_each(|value| match item.takes(value) || fields::is_null(value) {
                    true => item.check_at(value, path),
                    false => Err(bad(&path.join("."), &format!("a list of {}", item.wanted_many()))),
                });
            }
            Self::Either(shapes) => {
                return shapes
                    .iter()
                    .find(|shape| shape.takes(value))
                    .map_or(Ok(()), |shape| shape.check_at(value, path));
            }
            Self::Any | Self::Text | Self::Flag | Self::Number => true,
        };
        if fits { Ok(()) } else { Err(bad(&path.join("."), &self.wanted())) }
    }

    /// Returns true if a value's JSON type is one of the shape's.
    fn takes(&self, value: RawJson<'_>) -> bool {
        let first = value.get().as_bytes().first().copied().unwrap_or_default();
        match self {
            Self::Any => true,
            Self::Text | Self::Word(_) => first == b'"',
            Self::Flag => matches!(first, b't' | b'f'),
            Self::Number | Self::UpTo(_) | Self::Whole | Self::From(_) => matches!(first, b'-' | b'0'..=b'9'),
            Self::Object(_) | Self::Tagged(_) => first == b'{',
            Self::List(_) => first == b'[',
            Self::Either(shapes) => shapes.iter().any(|shape| shape.takes(value)),
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

fn check_fields(object: RawJson<'_>, known: Fields, path: &mut Vec<&'static str>) -> Result<(), LlmError> {
    // A table has far fewer fields than a word has bits.
    let mut seen = 0_u64;
    fields::fields(object, |name, value| {
        let Some(place) = known.iter().position(|(known, _)| is_name(name, known)) else { return Ok(()) };
        let (known, shape) = &known[place];
        path.push(known);
        if seen & (1 << place) != 0 {
            let problem = format!("{} is there twice", path.join("."));
            return Err(LlmError::new(ErrorKind::InvalidRequest, problem));
        }
        seen |= 1 << place;
        shape.check_at(value, path)?;
        path.pop();
        Ok(())
    })
    .map(drop)
}

/// Returns true if a name is the known one, in either of its forms.
fn is_name(name: &str, known: &str) -> bool {
    if name == known || !name.contains('_') {
        return name == known;
    }
    let mut is_up = false;
    let camel = name.chars().filter_map(|letter| match letter {
        '_' => {
            is_up = true;
            None
        }
        letter => Some(if std::mem::take(&mut is_up) { letter.to_ascii_uppercase() } else { letter }),
    });
    camel.eq(known.chars())
}

#[cfg(test)]
mod tests {
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
        ] {
            assert_eq!(problem(json), None, "{json}");
        }
    }
}
