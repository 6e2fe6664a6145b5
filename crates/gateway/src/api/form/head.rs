//! The head of a form's part, and the content type of a form, as every reader understands them.
//!
//! A provider reads a form again. What its reader may understand in another way is refused: folded lines, a parameter
//! twice, RFC 2231's `name*`, escapes in a name. No client of these APIs sends any of it.

/// The head of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead<'a> {
    /// The name of the part's field.
    pub(super) name: &'a str,
    pub(super) is_file: bool,
    /// True if the part's bytes are its text.
    pub(super) is_plain: bool,
}

impl<'a> PartHead<'a> {
    /// Reads a head, from the line break behind the boundary on.
    ///
    /// # Errors
    ///
    /// Some readers find another name in it, or none.
    pub(super) fn read(head: &'a [u8]) -> Result<Self, &'static str> {
        let lines = head.strip_prefix(b"\r\n").ok_or("a part has no head")?;
        let mut disposition = None;
        let mut is_plain = true;
        for line in split_lines(lines)? {
            let colon = line.iter().position(|byte| *byte == b':').ok_or("a line of a part's head has no colon")?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return Err("a line of a part's head is folded, or has no name");
            }
            if name.eq_ignore_ascii_case(b"content-disposition") {
                if disposition.replace(value).is_some() {
                    return Err("a part has two `Content-Disposition`s");
                }
            } else if name.eq_ignore_ascii_case(b"content-type") {
                if value.len() >= 10 && value[..10].eq_ignore_ascii_case(b"multipart/") {
                    return Err("a part is a form of its own");
                }
                is_plain &= is_plain_text(value);
            } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                is_plain &= [&b"7bit"[..], b"8bit", b"binary"].iter().any(|own| value.eq_ignore_ascii_case(own));
            }
        }
        let disposition = disposition.ok_or("a part has no `Content-Disposition`")?;
        let parameters = parameters(disposition, b"form-data").ok_or("a `Content-Disposition` is invalid")?;
        let mut name = None;
        for (parameter, value) in &parameters {
            if parameter.eq_ignore_ascii_case(b"name") {
                name = str::from_utf8(value).ok();
            }
        }
        let name = name.filter(|name| name.is_ascii() && !name.contains('\\') && !name.contains("=?"));
        let name = name.ok_or("the name of a field must be plain ASCII")?;
        if !is_once(disposition, b"name") {
            return Err("a part has two names");
        }
        let is_file = parameters.iter().any(|(parameter, _)| {
            parameter.eq_ignore_ascii_case(b"filename") || parameter.eq_ignore_ascii_case(b"filename*")
        });
        Ok(Self { name, is_file, is_plain })
    }
}

/// Returns the boundary of a form's content type, if every reader finds the same.
pub(super) fn boundary(content_type: &[u8]) -> Option<&str> {
    let parameters = parameters(content_type, b"multipart/form-data")?;
    let (_, value) = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"))?;
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    let is_one = is_once(content_type, b"boundary") && value.iter().all(is_usual) && !value.ends_with(b" ");
    str::from_utf8(value).ok().filter(|value| is_one && (1..=70).contains(&value.len()))
}

/// Returns the lines of a head.
fn split_lines(head: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let mut lines = Vec::new();
    let mut rest = head;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap_or(rest.len());
        let line = &rest[..end];
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err("a part's head has a control character");
        }
        lines.push(line);
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    Ok(lines)
}

/// A parameter's name and value.
type Parameter<'a> = (&'a [u8], &'a [u8]);

/// Returns the parameters behind the first word of a header, if that is this one. There are none for a header that is
/// not written as RFC 2045 has it, or has a parameter twice.
fn parameters<'a>(header: &'a [u8], first: &[u8]) -> Option<Vec<Parameter<'a>>> {
    let end = header.iter().position(|byte| *byte == b';').unwrap_or(header.len());
    if !header[..end].trim_ascii().eq_ignore_ascii_case(first) {
        return None;
    }
    let mut parameters: Vec<Parameter<'a>> = Vec::new();
    let mut rest = &header[end..];
    while let Some(behind) = rest.strip_prefix(b";") {
        let pair = behind.trim_ascii_start();
        if pair.is_empty() {
            break;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        let is_known = parameters.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || is_known {
            return None;
        }
        let length = match value.strip_prefix(b"\"") {
            Some(quoted) => end_of_quoted(quoted)? + 2,
            None => {
                let ends = |byte: &u8| matches!(byte, b';' | b' ' | b'\t');
                let length = value.iter().position(ends).unwrap_or(value.len());
                let is_unquoted = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b'\\');
                if length == 0 || !value[..length].iter().all(is_unquoted) {
                    return None;
                }
                length
            }
        };
        let is_quoted = value.starts_with(b"\"");
        parameters.push((name, if is_quoted { &value[1..length - 1] } else { &value[..length] }));
        rest = value[length..].trim_ascii_start();
    }
    rest.trim_ascii().strip_prefix(b";").unwrap_or(rest).trim_ascii().is_empty().then_some(parameters)
}

/// Returns the length of a quoted text up to its closing quote. A backslash is before a character that is meant.
fn end_of_quoted(quoted: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match quoted.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns true if readers that know neither quotes nor escapes find a parameter once too, and none of RFC 2231's forms
/// of it.
fn is_once(header: &[u8], name: &[u8]) -> bool {
    let named = header.split(|byte| *byte == b';').skip(1).filter(|pair| {
        let found = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let is_it = found.len() >= name.len() && found[..name.len()].eq_ignore_ascii_case(name);
        is_it && matches!(found.get(name.len()), None | Some(b'*' | b' ' | b'\t'))
    });
    named.count() == 1
}

/// Returns true for a content type whose bytes are text in ASCII or UTF-8.
fn is_plain_text(content_type: &[u8]) -> bool {
    const CHARSETS: [&[u8]; 4] = [b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"];
    let Some(parameters) = parameters(content_type, b"text/plain") else { return false };
    parameters
        .iter()
        .filter(|(name, _)| name.len() >= 7 && name[..7].eq_ignore_ascii_case(b"charset"))
        .all(|(name, value)| name.len() == 7 && CHARSETS.iter().any(|known| value.eq_ignore_ascii_case(known)))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Result<(String, bool, bool), &'static str> {
        let head = format!("\r\n{lines}");
        PartHead::read(head.as_bytes()).map(|head| (head.name.to_owned(), head.is_file, head.is_plain))
    }

    fn field(name: &str) -> Result<(String, bool, bool), &'static str> {
        Ok((name.to_owned(), false, true))
    }

    #[test]
    fn what_clients_send_has_one_name() {
        let file = |is_plain| Ok(("file".to_owned(), true, is_plain));
        for (lines, expected) in [
            // curl, browsers, Python's requests, httpx, Go.
            ("Content-Disposition: form-data; name=\"model\"", field("model")),
            ("content-disposition: form-data;name=model", field("model")),
            ("Content-Disposition: form-data; name=\"n\";", field("n")),
            (
                "Content-Disposition: form-data; name=\"file\"; filename=\"a;b.wav\"\r\nContent-Type: audio/wav",
                file(false),
            ),
            (
                "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%C3%A4.wav\r\nContent-Type: audio/wav",
                file(false),
            ),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"", file(true)),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"C:\\\\a\\\\b.wav\"", file(true)),
            ("Content-Disposition: form-data; name=\"file\"; filename=\"ä.wav\"", file(true)),
            // .NET and OkHttp.
            ("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model", field("model")),
            (
                "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: binary\r\n\
                 Content-Type: text/plain; charset=UTF-8\r\nContent-Length: 9",
                field("model"),
            ),
        ] {
            assert_eq!(head(lines), expected, "{lines}");
        }
        let latin = b"\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\xe4.wav\"";
        assert_eq!(PartHead::read(latin).map(|head| head.name), Ok("file"));
    }

    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        const PREFIX: &str = "Content-Disposition: form-data; ";
        for rest in [
            "name*=UTF-8''model",
            "name=\"x\"; name*=UTF-8''model",
            "name*0=\"mo\"; name*1=\"del\"",
            "name=\"x\"; name=\"model\"",
            "name=\"x\"; NAME=\"model\"",
            "name =\"model\"",
            "name= \"model\"",
            "name=\"mod\\el\"",
            "name=\"model\"x",
            "name=\"model",
            "name=model\"",
            "name=\"=?utf-8?q?model?=\"",
            "name=\"ſtream\"",
            "filename=\"a; name=model\"; name=\"x\"",
            "filename=\"a\\\"; name=\"model\"; name=\"x\"",
            "filename=\"a\"; filename=\"b\"; name=\"x\"",
            "name=x; name =model",
            "name=x,name=model",
            "",
            "filename=\"a\"",
            "name=\"x\"\r\n name=\"model\"",
            "name=\"x\";\r\n\tname=\"model\"",
            "name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
            "name=\"x\"\r\ncontent-disposition : form-data; name=\"model\"",
            "name=\"x\"\nContent-Disposition: form-data; name=\"model\"",
            "name=\"x\"\rContent-Disposition: form-data; name=\"model\"",
            "name=\"model\0x\"",
            "name=\"x\"\r\nno colon",
            "name=\"x\"\r\n: y",
            "name=\"x\"\r\nContent-Type: multipart/mixed; boundary=c",
        ] {
            assert!(head(&format!("{PREFIX}{rest}")).is_err(), "{rest}");
        }
        for lines in [
            "",
            "Content-Disposition: attachment; name=\"model\"",
            "Content-Disposition: form-data name=\"model\"",
            "Content-Disposition:\r\n form-data; name=\"model\"",
            "Content-Type: text/plain",
        ] {
            assert!(head(lines).is_err(), "{lines}");
        }
    }

    #[test]
    fn a_text_in_another_encoding_is_not_plain() {
        for line in [
            "Content-Type: text/plain; charset=utf-16",
            "Content-Type: text/plain; charset=utf-7",
            "Content-Type: text/plain; charset*=utf-8",
            "Content-Type: application/json",
            "Content-Transfer-Encoding: base64",
            "Content-Transfer-Encoding: quoted-printable",
            "Content-Transfer-Encoding: ",
        ] {
            let lines = format!("Content-Disposition: form-data; name=\"model\"\r\n{line}");
            assert_eq!(head(&lines), Ok(("model".to_owned(), false, false)), "{line}");
        }
    }

    #[test]
    fn a_boundary_is_found_by_all_readers_or_by_none() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=b-7", Some("b-7")),
            ("Multipart/Form-Data;boundary=\"b 7'()+_,-./:=?x\"", Some("b 7'()+_,-./:=?x")),
            ("multipart/form-data; charset=utf-8; boundary=----=_Part_1.2", Some("----=_Part_1.2")),
            ("multipart/form-data; boundary=b; ", Some("b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"\"", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; boundary=a; Boundary=b", None),
            ("multipart/form-data; boundary=a; boundary*=b", None),
            ("multipart/form-data; boundary*0=a; boundary*1=b", None),
            ("multipart/form-data; x=\"; boundary=a\"; boundary=b", None),
            ("multipart/form-data; boundary=a, text/plain", None),
            ("multipart/form-data; boundary=a b", None),
            ("multipart/form-data; boundary=\"a \"", None),
            ("multipart/form-data; boundary=\"a\\b\"", None),
            ("multipart/form-data; boundary =a", None),
            ("multipart/form-data boundary=a", None),
            ("text/plain; boundary=a", None),
        ] {
            assert_eq!(boundary(kind.as_bytes()), expected, "{kind}");
        }
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        assert_eq!(boundary(long.as_bytes()), None);
    }
}
