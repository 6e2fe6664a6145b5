//! The free text of a custom tool's call. The other dialects carry it as arguments, `{"input": "<the text>"}`.

use std::mem;

use serde_json::{Map, Value};

/// The key of the text.
const KEY: &str = "input";
/// The longest begin of the object, with its white space, in bytes.
const LONGEST_BEGIN: usize = 64;

/// Reads the text out of arguments that come in pieces.
///
/// Arguments of another form are kept until their end: a text under the key elsewhere in the object is the text then,
/// and else the arguments themselves are.
#[derive(Debug, Default)]
pub(super) struct FreeText {
    state: State,
    /// The arguments so far, until the text begins.
    before: String,
    /// The escape that is not complete yet, without its backslash.
    escape: String,
    /// The first half of a pair of escapes, `\ud83d\ude00`.
    high: Option<u32>,
    text: String,
    strange: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Before,
    Inside,
    Escape,
    After,
    /// The arguments do not begin with the key and its text.
    Strange,
}

impl FreeText {
    /// Reads more of the arguments, and returns the text that they add.
    pub(super) fn read(&mut self, json: &str) -> &str {
        let start = self.text.len();
        let mut rest = json;
        while !rest.is_empty() {
            rest = match self.state {
                State::Before => self.begin(rest),
                State::Inside => self.inside(rest),
                State::Escape => self.escape(rest),
                State::After => {
                    self.strange |= rest.chars().any(|letter| letter != '}' && !letter.is_whitespace());
                    ""
                }
                State::Strange => {
                    self.before.push_str(rest);
                    ""
                }
            };
        }
        &self.text[start..]
    }

    /// Ends the arguments. Returns the text that this adds.
    pub(super) fn finish(&mut self) -> &str {
        let start = self.text.len();
        match self.state {
            State::Before | State::Strange => {
                let before = mem::take(&mut self.before);
                self.strange |= !matches!(before.trim(), "" | "{}");
                let mut fields: Map<String, Value> = serde_json::from_str(&before).unwrap_or_default();
                self.text = match fields.remove(KEY) {
                    Some(Value::String(text)) => text,
                    _ if self.strange => before,
                    _ => String::new(),
                };
            }
            State::Inside | State::Escape => {
                // The model was cut off within an escape: what is missing is unknown.
                self.escape.clear();
                self.replace_half();
            }
            State::After => {}
        }
        self.state = State::After;
        &self.text[start..]
    }

    /// Returns the whole text so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns true if the arguments were of another form.
    pub(super) fn is_strange(&self) -> bool {
        self.strange
    }

    /// Reads up to the begin of the text.
    fn begin<'a>(&mut self, json: &'a str) -> &'a str {
        for (at, letter) in json.char_indices() {
            self.before.push(letter);
            let end = at + letter.len_utf8();
            match is_begin(&self.before).filter(|_| self.before.len() <= LONGEST_BEGIN) {
                Some(true) => {
                    self.state = State::Inside;
                    self.before = String::new();
                    return &json[end..];
                }
                Some(false) => {}
                None => {
                    self.state = State::Strange;
                    return &json[end..];
                }
            }
        }
        ""
    }

    /// Reads text up to an escape or the end of the text.
    fn inside<'a>(&mut self, json: &'a str) -> &'a str {
        let end = memchr::memchr2(b'"', b'\\', json.as_bytes());
        let plain = &json[..end.unwrap_or(json.len())];
        let Some(end) = end else {
            self.replace_half();
            self.text.push_str(plain);
            return "";
        };
        if !plain.is_empty() {
            self.replace_half();
            self.text.push_str(plain);
        }
        if json.as_bytes()[end] == b'"' {
            self.replace_half();
            self.state = State::After;
        } else {
            self.state = State::Escape;
        }
        &json[end + 1..]
    }

    /// Reads the next letter of an escape.
    fn escape<'a>(&mut self, json: &'a str) -> &'a str {
        let Some(letter) = json.chars().next() else { return "" };
        self.escape.push(letter);
        match self.escape.as_bytes() {
            [b'u', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit) => {
                if digits.len() == 4 {
                    let unit = u32::from_str_radix(&self.escape[1..], 16).unwrap_or_default();
                    self.escape.clear();
                    self.unit(unit);
                    self.state = State::Inside;
                }
            }
            [one] => {
                let plain = match one {
                    b'n' => Some('\n'),
                    b't' => Some('\t'),
                    b'r' => Some('\r'),
                    b'b' => Some('\u{8}'),
                    b'f' => Some('\u{c}'),
                    b'"' | b'\\' | b'/' => Some(char::from(*one)),
                    _ => None,
                };
                self.replace_half();
                // Models forget to escape a backslash: an unknown escape is the two letters themselves.
                if plain.is_none() {
                    self.text.push('\\');
                }
                self.text.push(plain.unwrap_or(letter));
                self.escape.clear();
                self.state = State::Inside;
            }
            _ => {
                // No four digits follow the `u`, or the escape is a letter that is not ASCII: read what stands here.
                self.replace_half();
                self.text.push('\\');
                self.escape.pop();
                self.text.push_str(&mem::take(&mut self.escape));
                self.state = State::Inside;
                return json;
            }
        }
        &json[letter.len_utf8()..]
    }

    /// Adds a unit of UTF-16.
    fn unit(&mut self, unit: u32) {
        if let Some(high) = self.high.take() {
            if (0xdc00..0xe000).contains(&unit) {
                let letter = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
                return self.text.push(char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        match char::from_u32(unit) {
            Some(letter) => self.text.push(letter),
            None if unit < 0xdc00 => self.high = Some(unit),
            None => self.text.push(char::REPLACEMENT_CHARACTER),
        }
    }

    /// Replaces the first half of a pair that has no second one.
    fn replace_half(&mut self) {
        if self.high.take().is_some() {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Returns whether these are all letters before the text, `{"input":"`; `None` if they are none of them.
fn is_begin(json: &str) -> Option<bool> {
    let mut rest = json;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_start();
        match rest.strip_prefix(token) {
            Some(behind) => rest = behind,
            None if token.starts_with(rest) => return Some(false),
            None => return None,
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Reads pieces, and returns the joined additions.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> (String, FreeText) {
        let (mut free, mut joined) = (FreeText::default(), String::new());
        for piece in pieces {
            joined.push_str(free.read(piece));
        }
        joined.push_str(free.finish());
        assert_eq!(joined, free.text());
        (joined, free)
    }

    /// Every letter is an escape of UTF-16, as some servers write them.
    fn escaped(text: &str) -> String {
        text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
    }

    #[test]
    fn other_forms_are_kept_until_their_end() {
        for (arguments, text, strange) in [
            (r#"{"input":"a"}"#, "a", false),
            (" {\n \"input\" : \"a\" } ", "a", false),
            (r#"{"input":"a","b":1}"#, "a", true),
            (r#"{"b":1,"input":"a"}"#, "a", true),
            (r#"{"b":1}"#, r#"{"b":1}"#, true),
            (r#"{"input":["a"]}"#, r#"{"input":["a"]}"#, true),
            ("*** Begin Patch", "*** Begin Patch", true),
            ("", "", false),
            ("{}", "", false),
            (r#"{"input":"a\"#, "a", false),
            (r#"{"input":"a\u00"#, "a", false),
            (r#"{"input":"\d\u12x\ud83dz\ude00"}"#, "\\d\\u12x\u{fffd}z\u{fffd}", false),
            (r#"{"input":"\ud83d\ud83d\ude00\n"}"#, "\u{fffd}\u{1f600}\n", false),
            (r#"{"input":"\uä\u"}"#, "\\uä\\u", false),
        ] {
            let (read, free) = read([arguments]);
            assert_eq!((read.as_str(), free.is_strange()), (text, strange), "{arguments}");
        }
    }

    proptest! {
        #[test]
        fn pieces_cut_anywhere_give_the_text(
            text in prop_oneof![".{0,20}", "[\"\\\\\n\u{1f600}\u{e4}a]{0,20}"],
            wide in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let arguments = if wide {
                format!("{{\"input\": \"{}\"}}", escaped(&text))
            } else {
                json!({"input": text}).to_string()
            };
            let mut cuts: Vec<usize> = cuts
                .iter()
                .map(|cut| cut.index(arguments.len() + 1))
                .map(|cut| (0..=cut).rev().find(|at| arguments.is_char_boundary(*at)).unwrap())
                .chain([0, arguments.len()])
                .collect();
            cuts.sort_unstable();
            let (joined, free) = read(cuts.windows(2).map(|cut| &arguments[cut[0]..cut[1]]));
            prop_assert_eq!(joined, text);
            prop_assert!(!free.is_strange());
        }

        #[test]
        fn any_text_in_any_pieces_is_read_like_the_whole(
            arguments in r#"(\{"input": ?")?(\\|\\u|d83d|de00|"|\}|[a-z]|ä|\n){0,12}"#,
            cut in any::<prop::sample::Index>(),
        ) {
            let at = (0..=cut.index(arguments.len() + 1)).rev().find(|at| arguments.is_char_boundary(*at)).unwrap();
            let (whole, one) = read([arguments.as_str()]);
            let (pieces, two) = read([&arguments[..at], &arguments[at..]]);
            prop_assert_eq!(whole, pieces);
            prop_assert_eq!(one.is_strange(), two.is_strange());
        }
    }
}
