//! The fields of a multipart form (RFC 7578) that say which model a call is for.

use std::{mem, ops::Range, sync::Arc};

use http::HeaderValue;
use memchr::memmem;
use steadfast::{ErrorKind, LlmError};

/// The fields of a form. Its files pass unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// The model's name, and its place in the body.
    pub(super) model: Option<(Arc<str>, Range<usize>)>,
    /// The number of pictures to be made.
    pub(super) count: Option<u64>,
}

/// The longest head of a part, in bytes, and the largest number of parts.
const MAX_HEAD: usize = 8 << 10;
const MAX_PARTS: usize = 1000;
/// The problem of a form that was cut.
const NO_END: &str = "it has no end: the last boundary, with two dashes behind it, is missing";
/// The problem of a field behind the part of a large form that was read ahead.
const TOO_LATE: &str = "`model` and `n` must come before the file in a form of this size";
/// The longest name of a model, and the longest value with the white space around it, in bytes.
const MAX_MODEL: usize = 200;
const MAX_VALUE: usize = 1 << 10;

/// Returns true if a body is a form.
pub(super) fn is_form(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|content_type| is_of_type(content_type, "multipart/form-data"))
}

/// Returns true if a content type is this one, whatever its parameters.
pub(super) fn is_of_type(content_type: &HeaderValue, wanted: &str) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
}

impl Form {
    /// Reads a form in one pass over its boundaries.
    ///
    /// # Errors
    ///
    /// The content type has no boundary, the form has no end, a part has no head, or two fields name a model.
    pub(super) fn read(content_type: &HeaderValue, body: &[u8]) -> Result<Self, LlmError> {
        let mut reader = FormReader::new(content_type)?;
        reader.push(body)?;
        reader.finish()?;
        Ok(reader.form)
    }
}

/// A reader of a form that comes in pieces. It keeps no more than a part's head or a short value.
pub(super) struct FormReader {
    /// A line break, two dashes and the boundary.
    delimiter: memmem::Finder<'static>,
    place: Place,
    parts: usize,
    /// The last bytes, which the next piece may complete.
    kept: Vec<u8>,
    /// The position in the body behind `kept`. The line break before the first boundary counts: it may be missing.
    end: usize,
    form: Form,
    /// True once no field of a name that is read may come any more.
    is_closed: bool,
}

/// The place of the next byte in the form.
enum Place {
    /// Before the first boundary.
    Start,
    /// Behind a boundary.
    Head,
    /// In the value of a field that is read, with the position of its start.
    Value(Field, usize, Vec<u8>),
    /// In a value that passes unread.
    Unread,
    /// Behind the last boundary.
    End,
}

/// A field that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Count,
}

impl Field {
    fn wanted(self) -> &'static str {
        match self {
            Self::Model => "`model` must be a name of at most 200 bytes",
            Self::Count => "`n` must be a number",
        }
    }
}

const LINE_BREAK: &[u8] = b"\r\n";

impl FormReader {
    /// # Errors
    ///
    /// The content type has no boundary.
    pub(super) fn new(content_type: &HeaderValue) -> Result<Self, LlmError> {
        let boundary = boundary(content_type).ok_or_else(|| invalid("its content type has no `boundary`"))?;
        let delimiter = [LINE_BREAK, b"--", boundary.as_bytes()].concat();
        Ok(Self {
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            place: Place::Start,
            parts: 0,
            kept: LINE_BREAK.to_vec(),
            end: LINE_BREAK.len(),
            form: Form::default(),
            is_closed: false,
        })
    }

    /// The fields so far.
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// Refuses fields of the names that are read from now on: the request is decided.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Reads a piece.
    ///
    /// # Errors
    ///
    /// A part has no head, a field is invalid, or two fields name a model.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), LlmError> {
        self.end += piece.len();
        let joined;
        let mut bytes = piece;
        let opening = &self.delimiter.needle()[LINE_BREAK.len()..];
        if matches!(self.place, Place::Start) && self.kept == LINE_BREAK && piece.starts_with(opening) {
            // Nearly every form begins so, and is not copied.
            bytes = &piece[opening.len()..];
            self.kept.clear();
            self.place = Place::Head;
        } else if !self.kept.is_empty() {
            self.kept.extend_from_slice(piece);
            joined = mem::take(&mut self.kept);
            bytes = &joined;
        }
        while let Some(used) = self.step(bytes)? {
            bytes = &bytes[used..];
        }
        self.kept = bytes.to_vec();
        Ok(())
    }

    /// Reads up to the next place in the form. Returns the number of bytes that are done with; `None` if more must
    /// come.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, LlmError> {
        let position = self.end - bytes.len();
        match self.place {
            Place::End if bytes.is_empty() => Ok(None),
            Place::End => Ok(Some(bytes.len())),
            Place::Head => {
                if bytes.starts_with(b"--") {
                    self.place = Place::End;
                    return Ok(Some(2));
                }
                let Some(length) = memmem::find(&bytes[..bytes.len().min(MAX_HEAD)], b"\r\n\r\n") else {
                    return if bytes.len() < MAX_HEAD { Ok(None) } else { Err(invalid("a part has no head")) };
                };
                self.parts += 1;
                if self.parts > MAX_PARTS {
                    return Err(invalid("it has more than 1000 parts"));
                }
                self.place = match self.field(&bytes[..length])? {
                    Some(field) => Place::Value(field, position + length + 4, Vec::new()),
                    None => Place::Unread,
                };
                Ok(Some(length + 4))
            }
            Place::Start | Place::Value(..) | Place::Unread => {
                let found = self.delimiter.find(bytes);
                // The last bytes stay: they may begin a boundary.
                let longest = self.delimiter.needle().len() - 1;
                let length = found.unwrap_or_else(|| bytes.len().saturating_sub(longest));
                if let Place::Value(field, _, value) = &mut self.place {
                    if value.len() + length > MAX_VALUE {
                        return Err(invalid(field.wanted()));
                    }
                    value.extend_from_slice(&bytes[..length]);
                }
                match found {
                    None => Ok((length > 0).then_some(length)),
                    Some(length) => {
                        if let Place::Value(field, start, value) = mem::replace(&mut self.place, Place::Head) {
                            self.take(field, start, &value)?;
                        }
                        Ok(Some(length + self.delimiter.needle().len()))
                    }
                }
            }
        }
    }

    /// Returns the field that a part's value is for, if it is one that is read.
    fn field(&self, head: &[u8]) -> Result<Option<Field>, LlmError> {
        let field = match name(head) {
            Some("model") => Field::Model,
            Some("n") => Field::Count,
            _ => return Ok(None),
        };
        match (field, self.is_closed) {
            (Field::Model, _) if self.form.model.is_some() => Err(invalid("two fields are named `model`")),
            (_, true) => Err(invalid(TOO_LATE)),
            _ => Ok(Some(field)),
        }
    }

    fn take(&mut self, field: Field, start: usize, value: &[u8]) -> Result<(), LlmError> {
        let text = str::from_utf8(value).ok().map(str::trim);
        match field {
            Field::Model => {
                let model = text.filter(|model| !model.is_empty() && model.len() <= MAX_MODEL);
                let model = model.ok_or_else(|| invalid(field.wanted()))?;
                let start = start - LINE_BREAK.len();
                self.form.model = Some((model.into(), start..start + value.len()));
            }
            Field::Count => self.form.count = text.and_then(|count| count.parse().ok()),
        }
        Ok(())
    }

    /// # Errors
    ///
    /// The form has no end.
    pub(super) fn finish(&self) -> Result<(), LlmError> {
        match self.place {
            Place::End => Ok(()),
            Place::Start => Err(invalid("it has no part")),
            _ => Err(invalid(NO_END)),
        }
    }
}

fn invalid(what: &str) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, format!("the form is invalid: {what}"))
}

fn boundary(content_type: &HeaderValue) -> Option<&str> {
    let value = parameter(content_type.to_str().ok()?, "boundary")?;
    (1..=70).contains(&value.len()).then_some(value)
}

/// Returns the name of a part's field. A file has one too.
fn name(head: &[u8]) -> Option<&str> {
    let head = str::from_utf8(head).ok()?;
    let line = head.split("\r\n").find(|line| {
        line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
    })?;
    parameter(line, "name")
}

/// Returns a parameter of a header, without the quotes around it.
fn parameter<'a>(header: &'a str, wanted: &str) -> Option<&'a str> {
    header.split(';').skip(1).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        name.trim().eq_ignore_ascii_case(wanted).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"b-7\"";

    fn read(body: &str) -> Result<Form, String> {
        Form::read(&HeaderValue::from_static(TYPE), body.as_bytes()).map_err(|error| error.message().to_owned())
    }

    fn part(name: &str, value: &str) -> String {
        format!("--b-7\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a;b\"\r\n\r\n{value}\r\n")
    }

    #[test]
    fn a_form_names_its_model_wherever_that_is() {
        let body =
            part("file", "model\r\n\r\n--b-8 \u{0}") + &part("model", "whisper-1") + &part("n", "2") + "--b-7--\r\n";
        let form = read(&body).unwrap();
        let (model, place) = form.model.unwrap();
        assert_eq!((&*model, &body[place], form.count), ("whisper-1", "whisper-1", Some(2)));
        assert_eq!(read("--b-7--"), Ok(Form::default()));
        assert!(is_form(Some(&HeaderValue::from_static(TYPE))));
        assert!(!is_form(Some(&HeaderValue::from_static("application/json"))) && !is_form(None));
    }

    #[test]
    fn a_form_in_pieces_of_any_size_is_the_form() {
        let file = "x\r\n--b-\r\n--b-6\r\n\r\n".repeat(40);
        let body = format!("preamble\r\n{}{}{}--b-7--\r\nend", part("file", &file), part("n", "3"), part("model", "m"));
        let whole = read(&body).unwrap();
        assert_eq!((&body[whole.model.clone().unwrap().1], whole.count), ("m", Some(3)));
        for size in 1..body.len() {
            let mut reader = FormReader::new(&HeaderValue::from_static(TYPE)).unwrap();
            for piece in body.as_bytes().chunks(size) {
                reader.push(piece).unwrap();
                assert!(reader.kept.len() <= MAX_HEAD, "{}", reader.kept.len());
            }
            reader.finish().unwrap();
            assert_eq!(reader.form(), &whole, "{size}");
        }
    }

    #[test]
    fn a_form_that_was_decided_takes_no_model_any_more() {
        for late in [part("model", "b"), part("n", "9")] {
            let mut reader = FormReader::new(&HeaderValue::from_static(TYPE)).unwrap();
            reader.push(part("file", "x").as_bytes()).unwrap();
            reader.close();
            let problem = reader.push((late + "--b-7--").as_bytes()).unwrap_err();
            assert!(problem.message().contains("must come before the file"), "{}", problem.message());
        }
    }

    #[test]
    fn a_form_that_is_none_is_refused_with_what_is_wrong() {
        for (body, words) in [
            (format!("--b-7\r\n{}", "x".repeat(MAX_HEAD)), "a part has no head"),
            (part("file", "x") + "--b-7", "it has no end"),
            ("--b-7\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx".to_owned(), "it has no end"),
            (String::new(), "it has no part"),
            (part("model", "a") + &part("model", "b") + "--b-7--", "two fields are named `model`"),
            (part("model", " ") + "--b-7--", "`model` must be a name"),
            (part("x", "").repeat(1001) + "--b-7--", "more than 1000 parts"),
        ] {
            let problem = read(&body).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        let without = HeaderValue::from_static("multipart/form-data");
        assert!(Form::read(&without, b"").unwrap_err().message().contains("no `boundary`"));
    }
}
