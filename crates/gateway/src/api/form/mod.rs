//! Multipart forms (RFC 7578), read strictly: the fields that say which model a call is for, or which objects it names.
//!
//! A provider reads a form again, so that a form must be one that every reader takes apart alike ([`head`]): the first
//! boundary begins it, the last one ends it, and each boundary has a line of its own, which CRLF ends. No client of
//! these APIs sends anything else.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod head;
mod rest;

use std::{mem, ops::Range, sync::Arc};

use http::HeaderValue;
use memchr::memmem;
use steadfast::{ErrorKind, LlmError};

use self::head::PartHead;
pub(in crate::api) use self::rest::{FormRest, checked};

/// The fields of a form. Its files pass unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Form {
    /// The model's name, and its place in the body.
    pub(in crate::api) model: Option<(Arc<str>, Range<usize>)>,
    /// The number of pictures to be made.
    pub(in crate::api) count: Option<u64>,
    /// The ids of objects.
    pub(in crate::api) ids: Vec<String>,
}

/// The longest head of a part, in bytes, and the largest number of parts.
const MAX_HEAD: usize = 8 << 10;
const MAX_PARTS: usize = 1000;
/// The problem of a form that was cut.
const NO_END: &str = "it has no end: the last boundary, with two dashes behind it, is missing";
/// The problem of a field behind the part of a large form that was read ahead.
const TOO_LATE: &str = "`model`, `n` and the ids of objects must come before the file in a form of this size";
/// The problem of a boundary that some readers find and others do not.
const NO_LINE: &str = "a boundary is not between two line breaks (CRLF)";
/// The longest name of a model or an object, and the longest value with the white space around it, in bytes.
const MAX_NAME: usize = 200;
const MAX_VALUE: usize = 1 << 10;

/// Returns true if a body is a form.
pub(in crate::api) fn is_form(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|content_type| is_of_type(content_type, "multipart/form-data"))
}

/// Returns true if a content type is this one, whatever its parameters.
pub(in crate::api) fn is_of_type(content_type: &HeaderValue, wanted: &str) -> bool {
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
}

impl Form {
    /// Reads a form in one pass over its boundaries.
    ///
    /// # Errors
    ///
    /// The content type has no boundary, the form is not one that every reader takes apart alike, or two fields name a
    /// model.
    pub(in crate::api) fn read(content_type: &HeaderValue, body: &[u8]) -> Result<Self, LlmError> {
        let mut reader = FormReader::new(content_type)?;
        reader.push(body)?;
        reader.finish()?;
        Ok(reader.form)
    }

    /// Returns the ids in the fields that name objects.
    ///
    /// # Errors
    ///
    /// The same as of [`read`](Self::read), but for the model's.
    pub(in crate::api) fn ids(content_type: &HeaderValue, body: &[u8]) -> Result<Vec<String>, LlmError> {
        let mut reader = FormReader::new(content_type)?.of_objects();
        reader.push(body)?;
        reader.finish()?;
        Ok(reader.form.ids)
    }
}

/// A reader of a form that comes in pieces. It keeps no more than a part's head or a short value.
pub(in crate::api) struct FormReader {
    /// A line break, two dashes and the boundary.
    delimiter: Vec<u8>,
    /// The same behind each half of a line break alone.
    behind_lf: memmem::Finder<'static>,
    behind_cr: memmem::Finder<'static>,
    place: Place,
    parts: usize,
    /// The last bytes, which the next piece may complete.
    kept: Vec<u8>,
    /// The position in the body behind `kept`. The line break before the first boundary counts: it may be missing.
    end: usize,
    form: Form,
    /// True if the fields of a call are read.
    reads_call: bool,
    /// True if the fields that name objects are read.
    reads_objects: bool,
    /// True once no field of a name that is read may come any more.
    is_closed: bool,
}

/// The place of the next byte in the form.
enum Place {
    /// Before the first boundary.
    Start,
    /// Behind a boundary.
    Head,
    /// Within the value of a field that is read: the position of the line break before it, and the bytes from it on.
    Value(Field, usize, Vec<u8>),
    /// Within a value that passes unread. True at the line break before it.
    Unread(bool),
    /// Behind the last boundary.
    End,
}

/// A field that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Count,
    Id,
}

impl Field {
    fn wanted(self) -> &'static str {
        match self {
            Self::Model => "`model` must be a name of at most 200 bytes, in a plain field",
            Self::Count => "`n` must be a number, in a plain field",
            Self::Id => "an object's id must be a name of at most 200 bytes, in a plain field",
        }
    }

    /// Returns the field of this name, if it is one that is read in a call of a model.
    fn of_call(name: &str) -> Option<Self> {
        match name {
            "model" => Some(Self::Model),
            "n" => Some(Self::Count),
            _ => None,
        }
    }

    /// Returns the field of this name, if it names an object. A file's own field is `file`.
    fn of_object(name: &str, is_file: bool) -> Option<Self> {
        const NAMES: [&str; 4] = ["file", "files", "training_file", "validation_file"];
        let name = name.to_ascii_lowercase();
        // The caller's own words.
        let is_metadata = name.starts_with("metadata");
        let names_object = |name: &str| name.ends_with("id") || name.ends_with("ids") || NAMES.contains(&name);
        let is_one = !is_metadata && !is_file && name.split(['[', ']']).any(names_object);
        is_one.then_some(Self::Id)
    }
}

const LINE_BREAK: &[u8] = b"\r\n";

impl FormReader {
    /// # Errors
    ///
    /// The content type has no boundary that every reader finds.
    pub(in crate::api) fn new(content_type: &HeaderValue) -> Result<Self, LlmError> {
        let boundary = head::boundary(content_type.as_bytes());
        let boundary = boundary.ok_or_else(|| invalid("its content type must have one `boundary`"))?;
        let delimiter = [LINE_BREAK, b"--", boundary.as_bytes()].concat();
        let behind_cr = [b"\r--", boundary.as_bytes()].concat();
        Ok(Self {
            behind_lf: memmem::Finder::new(&delimiter[1..]).into_owned(),
            behind_cr: memmem::Finder::new(&behind_cr).into_owned(),
            delimiter,
            place: Place::Start,
            parts: 0,
            kept: LINE_BREAK.to_vec(),
            end: LINE_BREAK.len(),
            form: Form::default(),
            reads_call: true,
            reads_objects: false,
            is_closed: false,
        })
    }

    /// Reads the fields that name objects, and none of a call.
    pub(in crate::api) fn of_objects(self) -> Self {
        Self { reads_call: false, reads_objects: true, ..self }
    }

    /// Reads the fields that name objects too, if they count for the caller.
    pub(in crate::api) fn with_objects(self, count: bool) -> Self {
        Self { reads_objects: count, ..self }
    }

    /// The fields so far.
    pub(in crate::api) fn form(&self) -> &Form {
        &self.form
    }

    /// Refuses fields of the names that are read from now on: the request is decided.
    pub(in crate::api) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Reads a piece.
    ///
    /// # Errors
    ///
    /// Readers may differ about a part, a field is invalid, or two fields name a model.
    pub(in crate::api) fn push(&mut self, piece: &[u8]) -> Result<(), LlmError> {
        self.end += piece.len();
        let joined;
        let mut bytes = piece;
        let opening = &self.delimiter[LINE_BREAK.len()..];
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
            Place::End if bytes.iter().all(|byte| LINE_BREAK.contains(byte)) => Ok(Some(bytes.len())),
            Place::End => Err(invalid("there is text behind its last boundary")),
            Place::Start => {
                // A line break may be before the first boundary, and nothing else.
                let first = bytes.iter().position(|byte| *byte == b'-').unwrap_or(bytes.len());
                let before = &bytes[..first];
                let is_begun = [LINE_BREAK, b"\r\n\r\n"].contains(&before);
                let opening = &self.delimiter[LINE_BREAK.len()..];
                let is_near = b"\r\n\r\n".starts_with(before) && opening.starts_with(&bytes[first..]);
                if is_begun && bytes[first..].starts_with(opening) {
                    self.place = Place::Head;
                    return Ok(Some(first + opening.len()));
                }
                if is_near { Ok(None) } else { Err(invalid("it must begin with its boundary")) }
            }
            Place::Head => self.head(bytes, position),
            Place::Value(..) | Place::Unread(_) => {
                let found = self.boundary(bytes)?;
                // The last bytes stay: they may begin a boundary.
                let longest = self.delimiter.len() - 1;
                let length = found.unwrap_or_else(|| bytes.len().saturating_sub(longest));
                match &mut self.place {
                    Place::Value(field, _, value) => {
                        if value.len() + length > MAX_VALUE {
                            return Err(invalid(field.wanted()));
                        }
                        value.extend_from_slice(&bytes[..length]);
                        // The line break that ends the head is not the boundary's.
                        if found.is_some() && value.is_empty() {
                            return Err(invalid(NO_LINE));
                        }
                    }
                    Place::Unread(is_first) => {
                        if found == Some(0) && *is_first {
                            return Err(invalid(NO_LINE));
                        }
                        *is_first &= length == 0;
                    }
                    _ => {}
                }
                match found {
                    None => Ok((length > 0).then_some(length)),
                    Some(length) => {
                        if let Place::Value(field, start, value) = mem::replace(&mut self.place, Place::Head) {
                            self.take(field, start, &value)?;
                        }
                        Ok(Some(length + self.delimiter.len()))
                    }
                }
            }
        }
    }

    /// Reads what is behind a boundary: a part's head, or the two dashes of the last one.
    fn head(&mut self, bytes: &[u8], position: usize) -> Result<Option<usize>, LlmError> {
        match bytes {
            [b'-', b'-', ..] => {
                self.place = Place::End;
                return Ok(Some(2));
            }
            [b'-'] | [b'\r'] | [] => return Ok(None),
            [b'\r', b'\n', ..] => {}
            _ => return Err(invalid(NO_LINE)),
        }
        let Some(length) = memmem::find(&bytes[..bytes.len().min(MAX_HEAD)], b"\r\n\r\n") else {
            return if bytes.len() < MAX_HEAD { Ok(None) } else { Err(invalid("a part has no head")) };
        };
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(invalid("it has more than 1000 parts"));
        }
        let head = PartHead::read(&bytes[..length]).map_err(invalid)?;
        // Up to the second line break.
        let length = length + LINE_BREAK.len();
        self.place = match self.field(&head)? {
            Some(field) => Place::Value(field, position + length, Vec::new()),
            None => Place::Unread(true),
        };
        Ok(Some(length))
    }

    /// Returns the place of the next boundary.
    fn boundary(&self, bytes: &[u8]) -> Result<Option<usize>, LlmError> {
        let found = match self.behind_lf.find(bytes) {
            None => None,
            Some(at) if at > 0 && bytes[at - 1] == b'\r' => Some(at - 1),
            Some(_) => return Err(invalid(NO_LINE)),
        };
        match self.behind_cr.find(&bytes[..found.unwrap_or(bytes.len())]) {
            Some(_) => Err(invalid(NO_LINE)),
            None => Ok(found),
        }
    }

    /// Returns the field that a part's value is for, if it is one that is read.
    fn field(&self, head: &PartHead<'_>) -> Result<Option<Field>, LlmError> {
        let base = head.name.split('[').next().unwrap_or_default().trim();
        let is_like = |name: &str| base.eq_ignore_ascii_case(name) && head.name != name;
        if is_like("model") || is_like("n") || base.eq_ignore_ascii_case("_charset_") {
            return Err(invalid("a field's name is one that some servers take for `model`, `n` or `_charset_`"));
        }
        let of_call = Field::of_call(head.name).filter(|_| self.reads_call);
        let of_object = || Field::of_object(head.name, head.is_file).filter(|_| self.reads_objects);
        let Some(field) = of_call.or_else(of_object) else { return Ok(None) };
        if head.is_file || !head.is_plain {
            return Err(invalid(field.wanted()));
        }
        match (field, self.is_closed) {
            (Field::Model, _) if self.form.model.is_some() => Err(invalid("two fields are named `model`")),
            (Field::Count, _) if self.form.count.is_some() => Err(invalid("two fields are named `n`")),
            (_, true) => Err(invalid(TOO_LATE)),
            _ => Ok(Some(field)),
        }
    }

    /// Keeps a value, which begins with the line break before it.
    fn take(&mut self, field: Field, start: usize, value: &[u8]) -> Result<(), LlmError> {
        let value = &value[LINE_BREAK.len()..];
        let wrong = || invalid(field.wanted());
        // Other white space is a part of the name to other readers.
        let text = str::from_utf8(value.trim_ascii()).map_err(|_| wrong())?;
        let is_name = !text.is_empty() && text.len() <= MAX_NAME && !text.contains(char::is_control);
        match field {
            Field::Count => self.form.count = Some(text.parse().map_err(|_| wrong())?),
            _ if !is_name => return Err(wrong()),
            Field::Model => self.form.model = Some((text.into(), start..start + value.len())),
            Field::Id => self.form.ids.push(text.to_owned()),
        }
        Ok(())
    }

    /// # Errors
    ///
    /// The form has no end.
    pub(in crate::api) fn finish(&self) -> Result<(), LlmError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"b-7\"";

    fn read(body: &str) -> Result<Form, String> {
        Form::read(&HeaderValue::from_static(TYPE), body.as_bytes()).map_err(|error| error.message().to_owned())
    }

    fn part(name: &str, value: &str) -> String {
        let file = if name == "file" { "; filename=\"a;b\"" } else { "" };
        format!("--b-7\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
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
        let body = format!("\r\n{}{}{}--b-7--\r\n\r\n", part("file", &file), part("n", "3"), part("model", "m"));
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
            (format!("--b-7\r\nx:{}", "x".repeat(MAX_HEAD)), "a part has no head"),
            (part("file", "x") + "--b-7", "it has no end"),
            ("--b-7\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nx".to_owned(), "it has no end"),
            (String::new(), "it has no part"),
            (part("model", "a") + &part("model", "b") + "--b-7--", "two fields are named `model`"),
            (part("model", " ") + "--b-7--", "`model` must be a name"),
            (part("x", "").repeat(1001) + "--b-7--", "more than 1000 parts"),
        ] {
            let problem = read(&body).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        let without = HeaderValue::from_static("multipart/form-data");
        assert!(Form::read(&without, b"").unwrap_err().message().contains("one `boundary`"));
    }

    #[test]
    fn the_ids_of_objects_are_read_and_files_are_not() {
        let text = |name: &str, value: &str| {
            format!("--b-7\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = part("file", "file-x") + &text("file_id", "file-1") + &text("purpose", "batch");
        let body = body + &text("file_ids[]", "file-2") + &text("file", "file-3") + &text("data[VS_ID]", "vs_4");
        let body = body + &text("metadata[user_id]", "file-5") + "--b-7--\r\n";
        let mut reader = FormReader::new(&HeaderValue::from_static(TYPE)).unwrap().of_objects();
        reader.push(body.as_bytes()).unwrap();
        reader.finish().unwrap();
        assert_eq!(reader.form().ids, ["file-1", "file-2", "file-3", "vs_4"]);
        assert!(read(&body).unwrap().ids.is_empty());
    }

    /// Forms that other readers take apart in another way, found with python-multipart 0.0.20, Python's `email` and the
    /// rules of Go's `mime/multipart`.
    #[test]
    fn a_form_that_two_readers_would_take_apart_differently_is_refused() {
        let model = part("model", "a");
        let end = "--b-7--\r\n";
        let dear = "Content-Disposition: form-data; name=\"model\"\r\n\r\ndear-1";
        for body in [
            // A line break that only some readers see.
            format!("{model}--b-7\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\n--b-7\r\n{dear}\r\n{end}"),
            format!("{model}--b-7\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r--b-7\r\n{dear}\r\n{end}"),
            format!("{model}--b-7\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n{end}"),
            format!("--b-7\n{dear}\n{model}{end}"),
            // A boundary with text behind it, and one without a line of its own.
            format!("{model}--b-7 \r\n{dear}\r\n{end}"),
            format!("{model}--b-7x\r\n{dear}\r\n{end}"),
            format!("{model}--b-7-\r\n{dear}\r\n{end}"),
            format!("{model}--b-7\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n--b-7\r\n{dear}\r\n{end}"),
            // Text around the form.
            format!("preamble\r\n{model}{end}"),
            format!("\n{model}{end}"),
            format!("--b-6\r\n{dear}\r\n{model}{end}"),
            format!("{model}--b-7--\r\n--b-7\r\n{dear}\r\n{end}"),
            format!("{model}--b-7--x"),
            format!("{model}--b-7--\r\nepilogue"),
            // Names that are taken for `model`.
            part("Model", "a") + end,
            part("MODEL", "a") + end,
            part("model[]", "a") + end,
            part("model[0]", "a") + end,
            part("model ", "a") + end,
            part("_charset_", "utf-16") + &model + end,
            // Fields that are files, in another encoding, or twice.
            model.replace("\"model\"", "\"model\"; filename=\"a\"") + end,
            model.replace("\"model\"", "\"model\"; filename*=utf-8''a") + end,
            model.replace("\"model\"", "\"model\"\r\nContent-Type: text/plain; charset=utf-16") + end,
            model.replace("\"model\"", "\"model\"\r\nContent-Transfer-Encoding: base64") + end,
            part("n", "1") + &part("n", "9") + end,
            part("n", "many") + end,
            part("model", "a\0b") + end,
            part("model", "a\u{85}") + end,
            // A part without a head or a name.
            format!("{model}--b-7\r\n\r\ndear-1\r\n{end}"),
            format!("{model}--b-7\r\nContent-Type: text/plain\r\n\r\ndear-1\r\n{end}"),
        ] {
            assert!(read(&body).is_err(), "{body}");
            for size in 1..8 {
                let mut reader = FormReader::new(&HeaderValue::from_static(TYPE)).unwrap();
                let read = body.as_bytes().chunks(size).try_for_each(|piece| reader.push(piece));
                assert!(read.and_then(|()| reader.finish()).is_err(), "in pieces of {size}: {body}");
            }
        }
    }

    #[test]
    fn a_file_may_hold_anything_but_a_boundary() {
        for file in ["", "\r\n", "\n", "--", "\r\n--", "\r\n--b-", "\n--b-", "\r\r\n\n", "b-7--", "a--b-7--"] {
            let body = part("file", file) + &part("model", "m") + "--b-7--\r\n";
            let form = read(&body).unwrap();
            assert_eq!(&*form.model.unwrap().0, "m", "{file:?}");
        }
    }
}
