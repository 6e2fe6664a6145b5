use std::{borrow::Cow, error, fmt, ops::Range};

use memchr::memchr2;
use serde::de::IgnoredAny;

use crate::skip;

/// The places of some fields of a JSON object, found in one pass over its bytes that copies none.
///
/// The pass checks everything that would make the object's own fields ambiguous: that it is one object, its field
/// names, colons and commas, its numbers and words, that every text in it ends, and that its brackets balance. It
/// passes over the content of a text and of a nested object or list; its reader reports mistakes there.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The position behind its opening brace.
    pub(crate) open: usize,
    /// True if it has no fields at all.
    pub(crate) is_empty: bool,
    /// True if a text further in begins like the marks of another provider's thoughts ([`crate::translate`]).
    pub(crate) is_marked: bool,
    fields: Vec<Field>,
}

/// A field that was looked for.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    name: &'static str,
    /// The place of its value; of duplicates, the last one's.
    pub(crate) value: Range<usize>,
    /// True if it occurs more than once.
    pub(crate) is_twice: bool,
}

/// The reason that bytes are no JSON object, and the position of the mistake. It quotes none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JsonError {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

impl Object {
    /// Reads an object, and looks for the fields of these names, in any spelling.
    pub(crate) fn read(json: &[u8], names: &[&'static str]) -> Result<Self, JsonError> {
        Reader { json, at: 0, is_marked: false }.object(names)
    }

    /// Shifts the places into a body in which the object begins at `start`.
    pub(crate) fn behind(mut self, start: usize) -> Self {
        self.open += start;
        for field in &mut self.fields {
            field.value = field.value.start + start..field.value.end + start;
        }
        self
    }

    /// Returns a field that was looked for and occurs more than once.
    pub(crate) fn twice(&self) -> Option<&'static str> {
        self.fields.iter().find(|field| field.is_twice).map(|field| field.name)
    }

    /// Returns a field that was looked for, if it is present.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl JsonError {
    /// Shifts the position into a body in which the broken object begins at `start`.
    pub(crate) fn behind(self, start: usize) -> Self {
        Self { at: self.at + start, ..self }
    }
}

struct Reader<'a> {
    json: &'a [u8],
    at: usize,
    is_marked: bool,
}

impl Reader<'_> {
    fn object(mut self, names: &[&'static str]) -> Result<Object, JsonError> {
        if self.after_space() != Some(b'{') {
            return Err(self.broken("no JSON object"));
        }
        self.at += 1;
        let open = self.at;
        let is_empty = self.after_space() == Some(b'}');
        let fields = if is_empty { Vec::new() } else { self.fields(names)? };
        self.at += 1;
        match self.after_space() {
            None => Ok(Object { open, is_empty, is_marked: self.is_marked, fields }),
            Some(_) => Err(self.broken("text after the object")),
        }
    }

    /// Reads fields up to the closing brace.
    fn fields(&mut self, names: &[&'static str]) -> Result<Vec<Field>, JsonError> {
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let name = self.name(names)?;
            if self.after_space() != Some(b':') {
                return Err(self.broken("no colon after a field's name"));
            }
            self.at += 1;
            let value = self.value()?;
            if let Some(name) = name {
                match fields.iter_mut().find(|field| field.name == name) {
                    Some(field) => (field.value, field.is_twice) = (value, true),
                    None => fields.push(Field { name, value, is_twice: false }),
                }
            }
            match self.after_space() {
                Some(b',') => self.at += 1,
                Some(b'}') => return Ok(fields),
                _ => return Err(self.broken("neither a comma nor a brace after a value")),
            }
        }
    }

    /// Returns the next byte that is no space.
    fn after_space(&mut self) -> Option<u8> {
        let rest = &self.json[self.at..];
        let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += spaces;
        rest.get(spaces).copied()
    }

    /// Reads a field's name, and returns it if it is one that was looked for.
    fn name(&mut self, names: &[&'static str]) -> Result<Option<&'static str>, JsonError> {
        if self.after_space() != Some(b'"') {
            return Err(self.broken("no field's name"));
        }
        let start = self.at;
        self.text()?;
        let quoted = &self.json[start..self.at];
        let named = |spelled: &[u8]| names.iter().find(|name| name.as_bytes() == spelled).copied();
        if let Some(name) = named(&quoted[1..quoted.len() - 1]) {
            return Ok(Some(name));
        }
        let is_plain = quoted.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\');
        if is_plain {
            return Ok(None);
        }
        match serde_json::from_slice::<JsonText<'_>>(quoted) {
            Ok(JsonText(name)) => Ok(named(name.as_bytes())),
            Err(_) => Err(JsonError { what: "a field's name is not a text", at: start }),
        }
    }

    /// Passes over a value.
    fn value(&mut self) -> Result<Range<usize>, JsonError> {
        let first = self.after_space();
        let start = self.at;
        match first {
            Some(b'"') => self.text()?,
            Some(b'{' | b'[') => match skip::nested(self.json, start) {
                Some(skipped) => {
                    self.at = skipped.end;
                    self.is_marked |= skipped.marked;
                }
                None => return Err(self.broken("an unterminated value, or a stray backslash in it")),
            },
            _ => {
                let rest = &self.json[start..];
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let word = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
                let is_value =
                    matches!(word, b"true" | b"false" | b"null") || serde_json::from_slice::<IgnoredAny>(word).is_ok();
                if !is_value {
                    return Err(self.broken("no value"));
                }
                self.at += word.len();
            }
        }
        Ok(start..self.at)
    }

    /// Passes over a text, from its opening quote on.
    fn text(&mut self) -> Result<(), JsonError> {
        let mut at = self.at + 1;
        while let Some(next) = self.json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            at += next;
            if self.json[at] == b'"' {
                self.at = at + 1;
                return Ok(());
            }
            at += 2;
        }
        Err(self.broken("an unterminated text"))
    }

    fn broken(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }
}

/// A text; borrowed if it has no escapes.
#[derive(serde::Deserialize)]
pub(super) struct JsonText<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at byte {}", self.what, self.at)
    }
}

impl error::Error for JsonError {}
