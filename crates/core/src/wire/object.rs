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
pub struct Object {
    /// The position behind its opening brace.
    pub open: usize,
    /// True if it has no fields at all.
    pub is_empty: bool,
    /// True if a text further in begins like the marks of another provider's thoughts (`translate`).
    pub is_marked: bool,
    /// A field that was looked for and occurs under a name that only some readers take for it.
    pub respelled: Option<&'static str>,
    fields: Vec<Field>,
}

/// A field that was looked for.
#[derive(Clone, Debug)]
pub struct Field {
    name: &'static str,
    /// The place of its value; of duplicates, the last one's.
    pub value: Range<usize>,
    /// True if it occurs more than once.
    pub is_twice: bool,
}

/// The reason that bytes are no JSON object, and the position of the mistake. It quotes none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The mistake.
    pub what: &'static str,
    /// The place, in bytes.
    pub at: usize,
}

impl Object {
    /// Reads an object, and looks for the fields of these names, in any spelling.
    pub fn read(json: &[u8], names: &[&'static str]) -> Result<Self, JsonError> {
        Reader { json, at: 0, is_marked: false, respelled: None }.object(names)
    }

    /// Shifts the places into a body in which the object begins at `start`.
    pub fn behind(mut self, start: usize) -> Self {
        self.open += start;
        for field in &mut self.fields {
            field.value = field.value.start + start..field.value.end + start;
        }
        self
    }

    /// Returns a field that was looked for and occurs more than once.
    pub fn twice(&self) -> Option<&'static str> {
        self.fields.iter().find(|field| field.is_twice).map(|field| field.name)
    }

    /// Checks that every reader finds the same fields of the names that were looked for.
    ///
    /// # Errors
    ///
    /// One of them occurs twice, or in another case.
    pub(crate) fn check_names(&self) -> Result<(), String> {
        if let Some(name) = self.twice() {
            return Err(format!("`{name}` is there twice"));
        }
        match self.respelled {
            Some(name) => Err(format!("`{name}` is there in other letters, which some servers take for it")),
            None => Ok(()),
        }
    }

    /// Returns a field that was looked for, if it is present.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl JsonError {
    /// Shifts the position into a body in which the broken object begins at `start`.
    pub fn behind(self, start: usize) -> Self {
        Self { at: self.at + start, ..self }
    }
}

struct Reader<'a> {
    json: &'a [u8],
    at: usize,
    is_marked: bool,
    respelled: Option<&'static str>,
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
            None => Ok(Object { open, is_empty, is_marked: self.is_marked, respelled: self.respelled, fields }),
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
        let decoded;
        let spelled = if is_plain {
            str::from_utf8(&quoted[1..quoted.len() - 1]).unwrap_or_default()
        } else {
            match serde_json::from_slice::<JsonText<'_>>(quoted) {
                Ok(JsonText(name)) => decoded = name,
                Err(_) => return Err(JsonError { what: "a field's name is not a text", at: start }),
            }
            if let Some(name) = named(decoded.as_bytes()) {
                return Ok(Some(name));
            }
            &*decoded
        };
        self.respelled = self.respelled.or_else(|| names.iter().find(|name| is_like(spelled, name)).copied());
        Ok(None)
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

/// Returns true if some readers take a name for another one: Go's `encoding/json` and cJSON find a field in any case,
/// by Unicode's simple folding the former, and the latter ends a name at a NUL.
pub(crate) fn is_like(spelled: &str, name: &str) -> bool {
    let spelled = spelled.split('\0').next().unwrap_or_default();
    // No other letter folds to one of ASCII.
    let folded = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    spelled.len() >= name.len() && spelled.chars().map(folded).eq(name.chars().map(folded))
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
