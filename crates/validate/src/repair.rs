//! A cheap repair: finds the JSON in an answer that is not valid JSON. It invents nothing: the result is a piece of
//! the answer, less a fence or a trailing comma.

use std::borrow::Cow;

use serde_json::Value;

/// A piece of an answer that is JSON.
#[derive(Debug)]
pub(super) struct JsonPiece<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) value: Value,
    /// The repair that yielded it.
    pub(super) how: &'static str,
}

/// The deepest nesting. serde_json also refuses deeper values.
const DEPTH: usize = 128;

/// Returns the JSON in an answer, in order: the inside of a fence around the whole, or else each object and array
/// in the text. It takes one pass, whatever the text.
pub(super) fn find(answer: &str) -> impl Iterator<Item = JsonPiece<'_>> {
    let fenced = unfenced(answer).and_then(|inside| parse(inside, "a code fence was stripped"));
    let scanned = if fenced.is_some() { "" } else { answer };
    let taken = BracketSpans(scanned).filter_map(|value| parse(value, "the JSON was taken out of the text around it"));
    fenced.into_iter().chain(taken)
}

fn parse<'a>(text: &'a str, how: &'static str) -> Option<JsonPiece<'a>> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(JsonPiece { text: text.into(), value, how });
    }
    let Cow::Owned(text) = without_trailing_commas(text) else { return None };
    let value = serde_json::from_str(&text).ok()?;
    Some(JsonPiece { text: text.into(), value, how: "trailing commas were removed" })
}

/// Returns the inside of a fence around the whole answer.
fn unfenced(answer: &str) -> Option<&str> {
    let inside = answer.trim().strip_prefix("```")?.strip_suffix("```")?;
    // The rest of the first line names the language.
    Some(inside.split_once('\n')?.1.trim())
}

/// The outermost brackets of a text, each from its opening to its end.
struct BracketSpans<'a>(&'a str);

impl<'a> Iterator for BracketSpans<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let begun = &self.0[self.0.find(['{', '['])?..];
        // A value that never ends was cut. A whole value inside a cut one is a fragment, and no answer.
        let (value, rest) = begun.split_at_checked(balanced(begun).unwrap_or(0))?;
        self.0 = rest;
        (!value.is_empty()).then_some(value)
    }
}

/// Returns the length of the bracketed value that the text begins with, or `None` if it does not end or its
/// brackets do not match.
fn balanced(text: &str) -> Option<usize> {
    let mut closers = Vec::new();
    let mut strings = Strings::default();
    for (place, byte) in text.bytes().enumerate() {
        if strings.takes(byte) {
            continue;
        }
        match byte {
            b'{' => closers.push(b'}'),
            b'[' => closers.push(b']'),
            b'}' | b']' if closers.pop() != Some(byte) => return None,
            b'}' | b']' if closers.is_empty() => return Some(place + 1),
            _ => {}
        }
        if closers.len() > DEPTH {
            return None;
        }
    }
    None
}

/// Returns the text without commas that stand after a value and before a closing bracket.
fn without_trailing_commas(text: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut copied = 0;
    let mut strings = Strings::default();
    // True if a value has just ended, so that a comma here belongs to it.
    let mut after_value = false;
    for (place, byte) in text.bytes().enumerate() {
        if !strings.takes(byte) && byte == b',' && after_value {
            let next = text.as_bytes()[place + 1..].trim_ascii_start().first();
            if matches!(next, Some(b'}' | b']')) {
                kept.push_str(&text[copied..place]);
                copied = place + 1;
            }
        }
        if !byte.is_ascii_whitespace() {
            after_value = !matches!(byte, b',' | b':' | b'[' | b'{');
        }
    }
    if copied == 0 {
        return text.into();
    }
    kept.push_str(&text[copied..]);
    kept.into()
}

/// A scanner that knows which bytes are inside of strings.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Returns whether the byte belongs to a string, its quotes included.
    fn takes(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return self.inside;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.inside = false,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn first(answer: &str) -> Option<Value> {
        find(answer).next().map(|found| found.value)
    }

    #[test]
    fn what_models_write_around_json_is_stripped() {
        for answer in [
            "```json\n{\"a\": [1, 2]}\n```",
            "```\n{\"a\": [1, 2]}```\n",
            "Here it is:\n```json\n{\"a\": [1, 2]}\n```\nAnything else?",
            "Sure! {\"a\": [1, 2]} Hope this helps {not json}.",
            "I thought of [several things], and: {\"a\": [1, 2,],}",
            "\u{feff}{\"a\": [1, 2]}",
            "{\"a\": [1, 2 , ]\n,\n}",
        ] {
            assert_eq!(first(answer), Some(json!({"a": [1, 2]})), "{answer}");
        }
        assert_eq!(first("```json\n42\n```"), Some(json!(42)));
        assert_eq!(first("```json\n\"``` is a fence\"\n```"), Some(json!("``` is a fence")));
    }

    #[test]
    fn what_was_cut_gives_no_fragment_of_itself() {
        for answer in ["{\"next\": {\"next\": null}", "[{\"a\": 1}, {\"a\": 2}, ", "text {\"a\": {}, \"b\": \"}"] {
            assert_eq!(first(answer), None, "{answer}");
        }
    }

    #[test]
    fn nothing_is_invented() {
        for answer in ["", "no", "[,]", "[1,,]", "{\"a\":,}", "{,}", "[1 2]", "{a: 1}", "['a']", "{]", "```", "``````"]
        {
            assert_eq!(first(answer), None, "{answer}");
        }
    }

    #[test]
    fn a_long_text_of_brackets_is_read_in_one_pass() {
        for answer in ["[".repeat(4_000_000), "[]".repeat(100_000), "[1,".repeat(1_000_000), ", ".repeat(1_000_000)] {
            find(&answer).last();
            without_trailing_commas(&answer);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = "[\\[\\]{},:\"\\\\` a\n\u{e9}]{0,8}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Returns the value with a comma after the last item of each non-empty array and object.
    fn with_commas(value: &Value) -> String {
        let list = |items: Vec<String>| items.into_iter().map(|item| item + " , ").collect::<String>();
        match value {
            Value::Array(items) => format!("[{}]", list(items.iter().map(with_commas).collect())),
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| format!("{}:{}", json!(name), with_commas(value));
                format!("{{{}}}", list(fields.iter().map(field).collect()))
            }
            scalar => scalar.to_string(),
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_all_it_finds_is_json_out_of_the_text(
            answer in prop_oneof![".{0,200}", "[\\[\\]{},:\"\\\\` a1\n\u{e9}]{0,60}"]
        ) {
            for found in find(&answer) {
                prop_assert_eq!(&serde_json::from_str::<Value>(&found.text).unwrap(), &found.value);
                // Each of its characters is in the answer, in this order.
                let mut rest = answer.chars();
                prop_assert!(found.text.chars().all(|one| rest.any(|other| other == one)));
            }
        }

        #[test]
        fn valid_json_is_never_turned_into_anything_else(value in json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert!(matches!(without_trailing_commas(&text), Cow::Borrowed(same) if same == text));
                if value.is_object() || value.is_array() {
                    for around in [format!("Here: {text} (done)"), text.clone(), format!("```json\n{text}\n```")] {
                        prop_assert_eq!(&find(&around).next().unwrap().text, &text);
                    }
                }
            }
        }

        #[test]
        fn trailing_commas_go_and_the_value_stays(value in json()) {
            let text = with_commas(&value);
            let mended = without_trailing_commas(&text);
            prop_assert_eq!(serde_json::from_str::<Value>(&mended).unwrap(), value);
        }

        #[test]
        fn a_value_that_was_cut_is_not_mended(value in json(), at in any::<prop::sample::Index>()) {
            let text = value.to_string();
            prop_assume!(value.is_object() || value.is_array());
            let mut cut = 1 + at.index(text.len() - 1);
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            prop_assert!(find(&text[..cut.max(1)]).next().is_none());
        }
    }
}
