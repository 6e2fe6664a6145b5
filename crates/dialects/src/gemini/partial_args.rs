use std::{borrow::Cow, collections::HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    json::{raw, read, text, word},
    protocol::Fault,
};

/// A piece of a call's arguments: one value, or more of a text, and its path (`streamFunctionCallArguments`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartialArg<'a> {
    #[serde(borrow, default, deserialize_with = "word")]
    json_path: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "text")]
    string_value: Option<String>,
    #[serde(borrow, default)]
    number_value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    bool_value: Option<&'a RawValue>,
    /// An enumeration of one name; its presence means `null`.
    #[serde(borrow, default, deserialize_with = "raw")]
    null_value: Option<&'a RawValue>,
}

/// Arguments that arrive in pieces, written as JSON at once.
///
/// The model sends them in the order of their text. Each piece therefore continues where the last one ended, and
/// written text need not be changed; pieces in any other order are malformed.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// The open objects and lists, the arguments themselves first.
    open: Vec<OpenContainer>,
    /// The path to the text that may grow: only the next piece shows that it has ended.
    growing: Option<Vec<Step>>,
}

#[derive(Debug)]
struct OpenContainer {
    /// The step to this object or list; `None` for the arguments themselves.
    step: Option<Step>,
    /// The names that are written.
    names: HashSet<String>,
    /// The number of elements written, if it is a list.
    elements: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Element(usize),
}

/// The depth of the parser that reads the result.
const DEEPEST: usize = 120;

impl Arguments {
    /// Writes the next piece behind the text so far.
    pub(super) fn push(&mut self, piece: &PartialArg<'_>, json: &mut String) -> Result<(), Fault> {
        let way = steps(piece.json_path.as_deref().unwrap_or_default())?;
        if let Some(text) = &piece.string_value {
            if self.growing.as_ref() != Some(&way) {
                self.reach(&way, json)?;
                json.push('"');
                self.growing = Some(way);
            }
            let quoted = serde_json::to_string(text)?;
            json.push_str(&quoted[1..quoted.len() - 1]);
            return Ok(());
        }
        let value = [piece.number_value, piece.bool_value].into_iter().flatten().map(RawValue::get);
        let value = value.chain(piece.null_value.map(|_| "null")).next();
        // A piece without a value means nothing yet.
        let Some(value) = value else { return Ok(()) };
        self.reach(&way, json)?;
        json.push_str(value);
        Ok(())
    }

    /// Writes whole arguments that came beside the pieces.
    pub(super) fn extend(&mut self, args: &RawValue, json: &mut String) -> Result<(), Fault> {
        let fields: serde_json::Map<String, serde_json::Value> = read(args).unwrap_or_default();
        for (name, value) in fields {
            self.reach(&[Step::Name(name)], json)?;
            json.push_str(&value.to_string());
        }
        Ok(())
    }

    /// Writes the end of the arguments.
    pub(super) fn finish(&mut self, json: &mut String) {
        self.root(json);
        self.close(0, json);
    }

    fn root(&mut self, json: &mut String) {
        if self.open.is_empty() {
            json.push('{');
            self.open.push(OpenContainer { step: None, names: HashSet::new(), elements: None });
        }
    }

    /// Goes to the path of a value: closes and opens objects and lists on the way.
    fn reach(&mut self, way: &[Step], json: &mut String) -> Result<(), Fault> {
        let Some((last, parents)) = way.split_last() else { return Err(wrong("a value has no place")) };
        self.root(json);
        let within = self.open[1..].iter().zip(parents).take_while(|(open, step)| open.step.as_ref() == Some(step));
        let shared = 1 + within.count();
        self.close(shared, json);
        for (step, next) in parents.iter().zip(&way[1..]).skip(shared - 1) {
            self.begin(step, json)?;
            let elements = matches!(next, Step::Element(_)).then_some(0);
            json.push(if elements.is_some() { '[' } else { '{' });
            self.open.push(OpenContainer { step: Some(step.clone()), names: HashSet::new(), elements });
        }
        self.begin(last, json)
    }

    /// Writes the text before a value in an open object or list.
    fn begin(&mut self, step: &Step, json: &mut String) -> Result<(), Fault> {
        let Some(open) = self.open.last_mut() else { return Err(wrong("a value has no place")) };
        let first = match (step, &mut open.elements) {
            (Step::Name(name), None) => {
                let first = open.names.is_empty();
                if !open.names.insert(name.clone()) {
                    return Err(wrong("a value came twice"));
                }
                first
            }
            (Step::Element(at), Some(written)) if at == written => {
                *written += 1;
                *at == 0
            }
            _ => return Err(wrong("a value is out of order")),
        };
        if !first {
            json.push(',');
        }
        if let Step::Name(name) = step {
            json.push_str(&serde_json::to_string(name)?);
            json.push(':');
        }
        Ok(())
    }

    /// Closes the text that may grow, and all that is open but the first `kept`.
    fn close(&mut self, kept: usize, json: &mut String) {
        if self.growing.take().is_some() {
            json.push('"');
        }
        for open in self.open.drain(kept..).rev() {
            json.push(if open.elements.is_some() { ']' } else { '}' });
        }
    }
}

fn wrong(what: &'static str) -> Fault {
    Fault::Malformed(serde::de::Error::custom(format_args!("arguments of a call in pieces: {what}")))
}

/// Parses the steps of a path such as `$.places[0].name` or `$['a name']` (RFC 9535, of which these lead to one value).
fn steps(path: &str) -> Result<Vec<Step>, Fault> {
    let unreadable = || wrong("a path cannot be read");
    let mut rest = path.strip_prefix('$').ok_or_else(unreadable)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() >= DEEPEST {
            return Err(wrong("a path is too deep"));
        }
        let (step, after) = if let Some(named) = rest.strip_prefix('.') {
            let end = named.find(['.', '[']).unwrap_or(named.len());
            let (name, after) = named.split_at(end);
            (Step::Name(name.to_owned()), after)
        } else {
            let within = rest.strip_prefix('[').ok_or_else(unreadable)?;
            match within.chars().next() {
                Some(quote @ ('\'' | '"')) => {
                    let (name, after) = quoted(&within[1..], quote).ok_or_else(unreadable)?;
                    (Step::Name(name), after)
                }
                _ => {
                    let (number, after) = within.split_once(']').ok_or_else(unreadable)?;
                    (Step::Element(number.parse().map_err(|_| unreadable())?), after)
                }
            }
        };
        steps.push(step);
        rest = after;
    }
    Ok(steps)
}

/// Returns the name up to the quote that ends it, and the rest behind `]`.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?.1),
            letter if letter == quote => return Some((name, text[at + 1..].strip_prefix(']')?)),
            letter => name.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the text of the pieces, without the end.
    fn written(pieces: &[&str]) -> Result<(Arguments, String), Fault> {
        let (mut arguments, mut json) = (Arguments::default(), String::new());
        for piece in pieces {
            arguments.push(&serde_json::from_str(piece).unwrap(), &mut json)?;
        }
        Ok((arguments, json))
    }

    fn whole(pieces: &[&str]) -> Value {
        let (mut arguments, mut json) = written(pieces).unwrap();
        arguments.finish(&mut json);
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn pieces_become_the_arguments_that_they_are_of() {
        assert_eq!(whole(&[]), json!({}));
        let places = whole(&[
            r#"{"jsonPath": "$.city", "stringValue": "New ", "willContinue": true}"#,
            r#"{"jsonPath": "$.city", "stringValue": "\"Delhi\"\n", "willContinue": true}"#,
            r#"{"jsonPath": "$.city", "stringValue": ""}"#,
            r#"{"jsonPath": "$.days", "numberValue": 3.50}"#,
            r#"{"jsonPath": "$.places[0].name", "stringValue": "Ä"}"#,
            r#"{"jsonPath": "$.places[0].open", "boolValue": true}"#,
            r#"{"jsonPath": "$.places[1].name", "stringValue": "b"}"#,
            r#"{"jsonPath": "$.places[1].tags[0][0]", "numberValue": 1}"#,
            r#"{"jsonPath": "$.places[1].tags[0][1]", "nullValue": "NULL_VALUE"}"#,
            r#"{"jsonPath": "$['a \\'name\\'.x']", "boolValue": false}"#,
            r#"{"jsonPath": "$[\"b\"].c", "nullValue": null}"#,
        ]);
        let expected = json!({"city": "New \"Delhi\"\n", "days": 3.5,
            "places": [{"name": "Ä", "open": true}, {"name": "b", "tags": [[1, null]]}],
            "a 'name'.x": false, "b": {"c": null}});
        assert_eq!(places, expected);
    }

    #[test]
    fn what_is_cut_off_is_no_json() {
        for pieces in [
            &[r#"{"jsonPath": "$.city", "stringValue": "New "}"#][..],
            &[r#"{"jsonPath": "$.a", "numberValue": 1}"#],
            &[r#"{"jsonPath": "$.a[0].b", "boolValue": true}"#],
        ] {
            let (_, json) = written(pieces).unwrap();
            assert!(serde_json::from_str::<Value>(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn pieces_that_cannot_be_put_together_are_malformed() {
        let at = |path: &str| format!(r#"{{"jsonPath": {}, "numberValue": 1}}"#, json!(path));
        for paths in [
            &["$.a", "$.a"][..],
            &["$.a.b", "$.c", "$.a.d"],
            &["$.a[1]"],
            &["$.a[0]", "$.a[0]"],
            &["$.a[0]", "$.a.b"],
            &["$.a", "$.a.b"],
            &["$[0]"],
            &["$"],
            &[""],
            &["city"],
            &["$.a[x]"],
            &["$.a[18446744073709551616]"],
            &["$.a[0"],
            &["$['a"],
            &["$['a'"],
            &["$['a\\"],
            &["$a"],
        ] {
            let pieces: Vec<String> = paths.iter().map(|path| at(path)).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert!(matches!(written(&pieces), Err(Fault::Malformed(_))), "{paths:?}");
        }
        let deep = at(&format!("${}", ".a".repeat(100_000)));
        assert!(matches!(written(&[&deep]), Err(Fault::Malformed(_))));
        let _deepest = whole(&[&at(&format!("${}", ".a".repeat(DEEPEST)))]);
    }
}
