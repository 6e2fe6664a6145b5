//! Values in texts: JSON, and what Python prints of one.

use std::str::Chars;

use serde_json::{Map, Value};

/// The deepest value that is read.
const DEPTH: usize = 32;

/// Reads the value at the beginning of a text, and returns the text behind it. The work is in proportion to the text.
pub(super) fn leading(text: &str) -> Option<(Value, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    if let Some(Ok(value)) = values.next() {
        return Some((value, &text[values.byte_offset()..]));
    }
    let mut reader = Reader { rest: text };
    let value = reader.value(DEPTH)?;
    Some((value, reader.rest))
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        self.rest = self.rest.trim_start();
        // Bytes, of which Python prints a `b` first.
        if self.rest.starts_with("b'") || self.rest.starts_with("b\"") {
            self.rest = &self.rest[1..];
        }
        match self.rest.chars().next()? {
            '{' => self.fields(depth),
            '[' => Some(Value::Array(self.items(']', depth)?)),
            '(' => Some(Value::Array(self.items(')', depth)?)),
            quote @ ('\'' | '"') => self.text(quote).map(Value::String),
            _ => self.word(),
        }
    }

    fn fields(&mut self, depth: usize) -> Option<Value> {
        let mut fields = Map::new();
        self.eat('{')?;
        while self.eat('}').is_none() {
            let Value::String(name) = self.value(1)? else { return None };
            self.eat(':')?;
            fields.insert(name, self.value(depth)?);
            if self.eat(',').is_none() {
                self.eat('}')?;
                break;
            }
        }
        Some(Value::Object(fields))
    }

    fn items(&mut self, end: char, depth: usize) -> Option<Vec<Value>> {
        let mut items = Vec::new();
        self.rest = &self.rest[1..];
        while self.eat(end).is_none() {
            items.push(self.value(depth)?);
            if self.eat(',').is_none() {
                self.eat(end)?;
                break;
            }
        }
        Some(items)
    }

    fn eat(&mut self, letter: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(letter)?;
        Some(())
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.rest[1..].chars();
        loop {
            match letters.next()? {
                letter if letter == quote => break,
                '\\' => text.push(escaped(&mut letters)?),
                letter => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Some(text)
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ':', '}', ']', ')', ' ', '\n']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "None" | "null" => Value::Null,
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            number => Value::Number(serde_json::from_str(number).ok()?),
        };
        self.rest = rest;
        Some(value)
    }
}

fn escaped(letters: &mut Chars<'_>) -> Option<char> {
    let code = |letters: &mut Chars<'_>, digits: usize| {
        let text = letters.as_str().get(..digits)?;
        let code = u32::from_str_radix(text, 16).ok()?;
        *letters = letters.as_str()[digits..].chars();
        Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    };
    match letters.next()? {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'x' => code(letters, 2),
        'u' => code(letters, 4),
        'U' => code(letters, 8),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_what_python_prints_of_it_are_one_value() {
        let value =
            json!({"error": {"message": "it's \"5\"\n", "code": 400, "param": null, "list": [true, 1.5, ["body"]]}});
        let texts = [
            value.to_string(),
            r#"{'error': {'message': 'it\'s "5"\n', 'code': 400, 'param': None, 'list': [True, 1.5, ('body',)]}}"#
                .to_owned(),
            r#"{"error": {"message": "it's \"5\"\x0a", 'code': 400, 'param': None, 'list': [True, 1.5, ['body']],},}"#
                .to_owned(),
        ];
        for text in texts {
            assert_eq!(leading(&format!("{text} more")), Some((value.clone(), " more")), "{text}");
        }
        assert_eq!(leading("b'{\"a\": 1}'. x"), Some((json!("{\"a\": 1}"), ". x")));
    }

    #[test]
    fn what_is_cut_or_too_deep_is_none() {
        for text in
            ["", "{", "{'a'", "{'a': ", "{'a': 1", "['a", "'a", "x", "{1: 2}", "{'a': x}", "b'", "'\\", "'\\u00"]
        {
            assert_eq!(leading(text), None, "{text}");
        }
        assert_eq!(leading(&"[".repeat(1_000_000)), None);
        assert_eq!(leading(&"{'a':".repeat(1_000_000)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[-{}\\[\\](),:'\"\\\\bxuU0-9a-zNé \n]{0,40}") {
            if let Some((_, rest)) = leading(&text) {
                prop_assert!(text.ends_with(rest));
            }
        }
    }
}
