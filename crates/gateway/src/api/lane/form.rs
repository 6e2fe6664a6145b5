//! The fields of a multipart form (RFC 7578) that say which model a call is for.

use std::{ops::Range, sync::Arc};

use http::HeaderValue;
use memchr::memmem;
use steadfast::{ErrorKind, LlmError};

/// The fields of a form. Its files pass unread.
#[derive(Debug, Default, PartialEq, Eq)]
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
/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 200;

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
        let invalid = |what: &str| LlmError::new(ErrorKind::InvalidRequest, format!("the form is invalid: {what}"));
        let boundary = boundary(content_type).ok_or_else(|| invalid("its content type has no `boundary`"))?;
        let delimiter = format!("--{boundary}").into_bytes();
        let between = [b"\r\n", &*delimiter].concat();
        let finder = memmem::Finder::new(&between);
        let mut at = match body.starts_with(&delimiter) {
            true => delimiter.len(),
            false => finder.find(body).ok_or_else(|| invalid("it has no part"))? + between.len(),
        };
        let mut form = Self::default();
        for _ in 0..MAX_PARTS {
            let rest = &body[at..];
            if rest.starts_with(b"--") {
                return Ok(form);
            }
            let head_end = memmem::find(&rest[..rest.len().min(MAX_HEAD)], b"\r\n\r\n");
            let is_cut = rest.len() < MAX_HEAD;
            let head_end = head_end.ok_or_else(|| invalid(if is_cut { NO_END } else { "a part has no head" }))?;
            let start = at + head_end + 4;
            let Some(length) = finder.find(&body[start..]) else {
                return Err(invalid(NO_END));
            };
            form.take(&rest[..head_end], start..start + length, body).map_err(invalid)?;
            at = start + length + between.len();
        }
        Err(invalid("it has more than 1000 parts"))
    }

    fn take(&mut self, head: &[u8], place: Range<usize>, body: &[u8]) -> Result<(), &'static str> {
        let value = || str::from_utf8(&body[place.clone()]).ok().map(str::trim);
        match name(head) {
            Some("model") if self.model.is_some() => return Err("two fields are named `model`"),
            Some("model") => {
                let model = value().filter(|model| !model.is_empty() && model.len() <= MAX_MODEL);
                self.model = Some((model.ok_or("`model` must be a name of at most 200 bytes")?.into(), place));
            }
            Some("n") => self.count = value().and_then(|count| count.parse().ok()),
            _ => {}
        }
        Ok(())
    }
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
