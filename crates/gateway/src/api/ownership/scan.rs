//! The texts of a JSON value, each with the field that it stands in.
//!
//! The scanner reads what any reader reads, and a little more: of a field that is there twice it reports both values.
//! It judges nothing: who gets the bytes does.

use std::borrow::Cow;

use memchr::memchr2;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 1000;

/// The treatment of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Nothing in it is read: these are somebody's own words.
    Skipped,
    /// Its texts say nothing, but the fields in it may.
    Other,
    /// A text that begins as an id does is one.
    MayName,
    /// Any text is an id.
    Names,
    /// A model's name.
    Model,
    /// The address of a file at Google.
    Address,
}

/// The JSON is nested too deeply to be read.
#[derive(Debug)]
pub(super) struct TooDeep;

/// An object or a list that has begun.
struct Open {
    is_object: bool,
    /// True if it stands in a field that is skipped.
    is_skipped: bool,
    /// True where the next text is the name of a field.
    at_name: bool,
    /// The treatment of the next value.
    field: Field,
}

/// Calls `found` with each text that `classify` wants, by its field's name and the number of objects and lists around
/// that.
///
/// # Errors
///
/// The nesting is too deep.
pub(super) fn scan(
    json: &[u8],
    classify: impl Fn(&str, usize) -> Field,
    mut found: impl FnMut(Field, &str),
) -> Result<(), TooDeep> {
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        let depth = open.len();
        match byte {
            b'"' => {
                let start = at;
                at = end_of_text(json, start);
                let Some(last) = open.last_mut() else { continue };
                let raw = &json[start..at.saturating_sub(1).max(start)];
                if last.at_name {
                    last.at_name = false;
                    if !last.is_skipped {
                        last.field = classify(&text(raw), depth);
                    }
                } else if !matches!(last.field, Field::Skipped | Field::Other) {
                    found(last.field, &text(raw));
                }
            }
            b'{' | b'[' => {
                if depth == MAX_DEPTH {
                    return Err(TooDeep);
                }
                let around = open.last().map_or(Field::Other, |last| last.field);
                let (is_object, is_skipped) = (*byte == b'{', around == Field::Skipped);
                let field = if is_object && !is_skipped { Field::Other } else { around };
                open.push(Open { is_object, is_skipped, at_name: is_object, field });
            }
            b'}' | b']' => drop(open.pop()),
            b',' => {
                if let Some(last) = open.last_mut() {
                    last.at_name = last.is_object;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the place behind the quote that ends a text.
fn end_of_text(json: &[u8], mut at: usize) -> usize {
    while let Some(next) = memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += next + 1;
        if json[at - 1] == b'"' {
            return at;
        }
        // An escaped quote ends nothing.
        at += 1;
    }
    json.len() + 1
}

/// Returns a text without its escapes. One that nobody can read is no id of anybody's, and stays as it is.
fn text(raw: &[u8]) -> Cow<'_, str> {
    let as_it_is = String::from_utf8_lossy(raw);
    if !raw.contains(&b'\\') {
        return as_it_is;
    }
    serde_json::from_str(&format!("\"{as_it_is}\"")).map_or(as_it_is, Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(json: &str) -> Vec<String> {
        let classify = |name: &str, depth| match name {
            "skipped" => Field::Skipped,
            "id" if depth == 1 => Field::Names,
            "file" | "files" => Field::MayName,
            _ => Field::Other,
        };
        let mut ids = Vec::new();
        scan(json.as_bytes(), classify, |field, text| ids.push(format!("{field:?} {text}"))).unwrap();
        ids
    }

    #[test]
    fn a_text_is_found_under_its_field_however_that_is_spelled() {
        for (json, found) in [
            (r#"{"id":"a","x":{"id":"b"}}"#, &["Names a"][..]),
            (r#"{"\u0069d" : "a\u002db"}"#, &["Names a-b"]),
            (r#"{"id":"a","id":"b"}"#, &["Names a", "Names b"]),
            (
                r#"{"files":["a",["b",{"c":"d","file":"e"}],"f"],"x":"g"}"#,
                &["MayName a", "MayName b", "MayName e", "MayName f"],
            ),
            (r#"{"skipped":{"file":"a","files":[{"file":"b"}]},"file":"c"}"#, &["MayName c"]),
            (r#"{"skipped":["a",{"file":"b"}],"file":"c"}"#, &["MayName c"]),
            (r#"{"x":"\"},{\"file\":\"no\"","file":"a\\"}"#, &["MayName a\\"]),
            (r#"{"x":"\ud83d","file":"a"}"#, &["MayName a"]),
            (r#"{"file":"\ud83d"}"#, &["MayName \\ud83d"]),
            (r#"[{"file":null},{"file":7,"x":"y"},"file"]"#, &[]),
            (r#"{"file":"a"#, &["MayName a"]),
            ("", &[]),
            ("]}\"", &[]),
        ] {
            assert_eq!(ids(json), found, "{json}");
        }
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert!(scan(deep.as_bytes(), |_, _| Field::Other, |_, _| ()).is_err());
    }
}
